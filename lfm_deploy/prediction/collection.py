"""The parts of a list, put together: every part exactly once, by one engine under one contract, or not at all."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from lfm_deploy.errors import ArtifactError, InputError, WriteError
from lfm_deploy.prediction.destinations import check_results_file
from lfm_deploy.prediction.parquet import PARQUET_SUFFIX, is_our_parquet, require_pyarrow, write_parquet
from lfm_deploy.prediction.part_files import PartCounts, PartHead, describe_changes, read_head, read_rows
from lfm_deploy.prediction.parts import PART_SUFFIX, Part
from lfm_deploy.prediction.rows import RowFormat, write_header
from lfm_deploy.storage.atomic import write_atomically
from lfm_deploy.storage.overlap import refuse_input

_MOST_NAMED = 20
_SUFFIXES = {RowFormat.CSV: (".csv",), RowFormat.JSONL: (".jsonl", ".ndjson")}
_OF_FORMATS = tuple(suffix for suffixes in _SUFFIXES.values() for suffix in suffixes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """Results of all parts of a list, in its order.

    Attributes:
        files: paths of the parts' files with their first lines.
        counts: number of pictures of each kind.
        unreadable: names of shards that could not be read, or not to their ends, with the reason.
        machines: number of machines of different kinds that the parts were judged on.
    """

    files: tuple[tuple[Path, PartHead], ...]
    counts: PartCounts
    unreadable: dict[str, str]
    machines: int

    @property
    def rows_format(self) -> RowFormat:
        """Format of the rows."""
        return RowFormat(self.files[0][1].rows_format)

    def rows(self) -> Iterator[bytes]:
        """The heading, then the rows of one part after the other, each checked before it comes.

        Raises:
            ArtifactError: a part's rows are damaged.
        """
        heading = write_header(self.rows_format, provenance=self.files[0][1].settings.get("provenance") is True)
        yield heading
        for path, head in self.files:
            rows = read_rows(path, head)
            if not rows.startswith(heading):
                raise ArtifactError(f"{path}: has other columns than this version writes; use the one that made it")
            yield rows[len(heading) :]


def collect(folder: Path, parts: Iterable[Part]) -> Collection:
    """Find the results of every part of a list, after making sure that each is there once and nothing else is.

    Args:
        folder: folder that ``predict --output-dir`` wrote to.
        parts: parts of the whole list.

    Raises:
        InputError: a part is missing, double, foreign or damaged, or parts were judged with different settings.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; 'lfm-deploy predict --output-dir {folder}' makes it")
    found: dict[str, list[tuple[Path, PartHead]]] = {}
    damaged: list[str] = []
    for path in sorted(folder.glob(f"*{PART_SUFFIX}")):
        try:
            head = read_head(path)
            found.setdefault(head.part_sha256, []).append((path, head))
        except ArtifactError:
            damaged.append(path.name)
    wanted = {part.sha256: part.name for part in parts}
    faults = {
        "missing": [name for sha256, name in wanted.items() if sha256 not in found],
        "double": [path.name for files in found.values() if len(files) > 1 for path, _ in files],
        "foreign": [path.name for sha256, files in found.items() if sha256 not in wanted for path, _ in files],
        "damaged": damaged,
    }
    _refuse_faults(folder, faults, len(wanted))
    files = tuple(found[sha256][0] for sha256 in wanted)
    _refuse_several_settings(folder, files)
    heads = [head for _, head in files]
    return Collection(
        files=files,
        counts=sum((head.counts for head in heads), PartCounts()),
        unreadable={head.part: head.problem for head in heads if head.problem is not None},
        machines=len({repr(sorted(head.machine.items())) for head in heads}),
    )


def write_collection(
    collection: Collection, output: Path, *, inputs: Iterable[str] = (), overwrite: bool = False
) -> None:
    """Write the rows of all parts into one file, whole or not at all; as Parquet where its name ends in .parquet.

    Args:
        collection: results of all parts.
        output: path of the file.
        inputs: names of what the list was made of, none of which may be written over.
        overwrite: whether a results file that is there may be lost.

    Raises:
        ArtifactError: a part's rows are damaged.
        InputError: the file is there, is one of those that are read, or is called like one of another format.
        UnavailableError: the file is to be Parquet, and pyarrow is not installed.
        WriteError: the file cannot be written.
    """
    refuse_input("--output", [output], [*inputs, *(path for path, _ in collection.files)])
    if output.suffix == PART_SUFFIX:
        raise InputError(f"--output: {output} is called like the results of a part; choose another name")
    form = collection.rows_format
    if output.suffix not in (PARQUET_SUFFIX, *_SUFFIXES[form]) and output.suffix in _OF_FORMATS:
        raise InputError(f"--output: {output} promises other rows than the parts hold, which are {form}; rename it")
    if not overwrite and os.path.lexists(output):
        raise InputError(f"{output}: is there already; use another name, or --overwrite")
    if output.suffix == PARQUET_SUFFIX:
        require_pyarrow()
        if os.path.lexists(output) and not is_our_parquet(output):
            raise InputError(f"--overwrite: {output} was not written by collect; remove it, or choose another name")
    else:
        check_results_file(output, overwrite=overwrite)
    try:
        with write_atomically(output) as temporary:
            if output.suffix == PARQUET_SUFFIX:
                settings = collection.files[0][1].settings
                write_parquet(
                    temporary,
                    islice(collection.rows(), 1, None),
                    form,
                    settings,
                    provenance=settings.get("provenance") is True,
                )
            else:
                with temporary.open("wb") as file:
                    file.writelines(collection.rows())
    except OSError as error:
        raise WriteError(output, error, "make room or choose another --output") from None


def _refuse_faults(folder: Path, faults: dict[str, list[str]], total: int) -> None:
    said = [f"{len(names)} {fault} ({_name_some(names)})" for fault, names in faults.items() if names]
    if not said:
        return
    remedies = []
    if faults["missing"] or faults["damaged"]:
        remedies.append("run the same 'lfm-deploy predict --output-dir' again, which judges what is missing")
    if faults["double"] or faults["foreign"]:
        remedies.append("move double and foreign files away, or collect with the list that they were made from")
    raise InputError(f"{folder}: not the results of these {total} parts: {', '.join(said)}; {'; '.join(remedies)}")


def _refuse_several_settings(folder: Path, files: Sequence[tuple[Path, PartHead]]) -> None:
    by_settings = Counter(head.settings_sha256 for _, head in files)
    (usual, _), *others = by_settings.most_common()
    if not others:
        return
    first = next(head for _, head in files if head.settings_sha256 == usual)
    strangers = [(path, head) for path, head in files if head.settings_sha256 != usual]
    changes = describe_changes(first.settings, strangers[0][1].settings)
    raise InputError(
        f"{folder}: parts were judged in {len(by_settings)} ways: {len(strangers)} of {len(files)} "
        f"({_name_some([path.name for path, _ in strangers])}) otherwise than the rest: {changes}; judge them again by "
        "the same command with --overwrite"
    )


def _name_some(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
