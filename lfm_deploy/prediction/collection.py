"""The parts of a list, put together: every part exactly once, by one engine under one contract, or not at all."""

import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from lfm_deploy.errors import ArtifactError, InputError, WriteError
from lfm_deploy.prediction.destinations import check_results_file
from lfm_deploy.prediction.parquet import PARQUET_SUFFIX, check_parquet, require_pyarrow, write_parquet
from lfm_deploy.prediction.part_files import (
    PART_SUFFIXES,
    PartCounts,
    PartHead,
    describe_changes,
    read_head,
    read_rows,
    readable,
)
from lfm_deploy.prediction.parts import Part, find_parts
from lfm_deploy.prediction.rows import RowFormat, write_header
from lfm_deploy.storage.overlap import refuse_input
from lfm_deploy.storage.places import Place, RemotePath, as_place, is_remote, write_whole

_MOST_NAMED = 20
_LONGEST_NAME = 200
_SUFFIXES = {RowFormat.CSV: (".csv",), RowFormat.JSONL: (".jsonl", ".ndjson"), RowFormat.PARQUET: (".csv",)}
_OF_FORMATS = tuple(suffix for suffixes in _SUFFIXES.values() for suffix in suffixes)
# A store takes its time for each file, and takes many at once. Rows are larger than first lines.
_AT_A_TIME, _AHEAD = 16, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """Results of all parts of a list, in its order.

    Attributes:
        files: paths or URLs of the parts' files with their first lines.
        counts: number of pictures of each kind.
        unreadable: names of shards that could not be read, or not to their ends, with the reason.
        machines: number of machines of different kinds that the parts were judged on.
    """

    files: tuple[tuple[Place, PartHead], ...]
    counts: PartCounts
    unreadable: dict[str, str]
    machines: int

    @property
    def rows_format(self) -> RowFormat:
        """Format of the rows; those of Parquet files come as CSV."""
        return RowFormat(self.files[0][1].rows_format)

    def describe(self) -> dict[str, Any]:
        """The summary that ``lfm-deploy collect --json`` prints, as values for JSON."""
        head = self.files[0][1]
        return {
            "parts": len(self.files),
            "pictures": self.counts.pictures,
            **asdict(self.counts),
            "unreadable": self.unreadable,
            "machines": self.machines,
            "settings_sha256": head.settings_sha256,
            "settings": head.settings,
        }

    def rows(self) -> Iterator[bytes]:
        """The heading, then the rows of one part after the other, each checked before it comes.

        Raises:
            ArtifactError: a part's rows are damaged.
        """
        heading = write_header(self.rows_format, provenance=self.files[0][1].settings.get("provenance") is True)
        yield heading
        for (path, _), rows in zip(self.files, _read_ahead(self.files), strict=True):
            if not rows.startswith(heading):
                raise ArtifactError(f"{path}: has other columns than this version writes; use the one that made it")
            yield rows[len(heading) :]


def collect(
    folder: Place | str,
    paths: Sequence[Path | str] | Path | str = (),
    *,
    lists: Sequence[Path | str] = (),
    output: Place | str | None = None,
    overwrite: bool = False,
) -> Collection:
    """Results of a list that was judged in parts: every part exactly once, by one engine under one contract.

    Args:
        folder: folder that ``predict --output-dir`` wrote to, or its URL in a store.
        paths: files, folders, shards, patterns and lists (``@list.txt``) that predict was given, with the same names.
        lists: files with one path a line that predict was given.
        output: path or URL of a file for all rows, in the format that the parts have, or Parquet where its name ends in
            ``.parquet``; None writes none, since ``rows()`` of the result gives them.
        overwrite: whether a results file that is there may be lost.

    Raises:
        ArtifactError: a part's rows are damaged.
        InputError: a part is missing, double, foreign or damaged, parts were judged with different settings, or the
            file is there, is one of those that are read, or is called like one of another format.
        StoreError: a store refuses, or is out of reach.
        UnavailableError: Parquet is read or written, and pyarrow is not installed; or a store's library is not.
        WriteError: the file cannot be written.
    """
    named = [str(path) for path in ([paths] if isinstance(paths, (str, Path)) else paths)]
    listed = [str(name) for name in lists]
    found = collect_parts(as_place(folder), find_parts(named, listed))
    if output is not None:
        inputs = [name.removeprefix("@") for name in (*named, *listed)]
        write_collection(found, as_place(output), inputs=inputs, overwrite=overwrite)
    return found


def collect_parts(folder: Place, parts: Iterable[Part]) -> Collection:
    """Find the results of every part of a list, after making sure that each is there once and nothing else is.

    Args:
        folder: folder that ``predict --output-dir`` wrote to.
        parts: parts of the whole list.

    Raises:
        InputError: a part is missing, double, foreign or damaged, or parts were judged with different settings.
        StoreError: a store refuses, or is out of reach.
    """
    found: dict[str, list[tuple[Place, PartHead]]] = {}
    damaged: list[str] = []
    for path, head in _read_heads(folder):
        if head is None:
            damaged.append(path.name)
        else:
            found.setdefault(head.part_sha256, []).append((path, head))
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
    collection: Collection, output: Place, *, inputs: Iterable[str] = (), overwrite: bool = False
) -> None:
    """Write the rows of all parts into one file, whole or not at all; as Parquet where its name ends in .parquet.

    Args:
        collection: results of all parts.
        output: path or URL of the file.
        inputs: names of what the list was made of, none of which may be written over.
        overwrite: whether a results file that is there may be lost.

    Raises:
        ArtifactError: a part's rows are damaged.
        InputError: the file is there, is one of those that are read, or is called like one of another format.
        UnavailableError: the file is to be Parquet, and pyarrow is not installed.
        WriteError: the file cannot be written.
    """
    form = collection.rows_format
    _check_output(output, form, [*inputs, *(str(path) for path, _ in collection.files)])
    if not overwrite and (os.path.lexists(output) if isinstance(output, Path) else output.exists()):
        raise InputError(f"{output}: is there already; use another name, or --overwrite")
    if output.suffix == PARQUET_SUFFIX:
        require_pyarrow()
        check_parquet(output)
    else:
        check_results_file(output, overwrite=overwrite)
    try:
        with write_whole(output) as temporary:
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


def _check_output(output: Place, form: RowFormat, inputs: Sequence[str]) -> None:
    """Make sure that the name of a file is none that is read, and promises what will be in it."""
    if isinstance(output, Path):
        refuse_input("--output", [output], [name for name in inputs if not is_remote(name)])
    elif str(output) in inputs:
        raise InputError(f"--output: {output} would be written, and is one of the inputs; choose another name")
    if output.name.endswith(PART_SUFFIXES):
        raise InputError(f"--output: {output} is called like the results of a part; choose another name")
    if output.suffix not in (PARQUET_SUFFIX, *_SUFFIXES[form]) and output.suffix in _OF_FORMATS:
        raise InputError(f"--output: {output} promises other rows than the parts hold, which are {form}; rename it")


def _read_heads(folder: Place) -> Iterator[tuple[Place, PartHead | None]]:
    """Files of parts in a folder, sorted by name, with their first lines; None for one that is damaged."""
    try:
        paths = [path for path in _list(folder) if path.name.endswith(PART_SUFFIXES)]
    except FileNotFoundError:
        raise InputError(f"{folder}: no such folder; 'lfm-deploy predict --output-dir {folder}' makes it") from None
    paths.sort(key=lambda path: path.name)
    if isinstance(folder, Path):
        yield from zip(paths, map(_read_head, paths), strict=True)
        return
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        yield from zip(paths, pool.map(_read_head, paths), strict=True)


def _read_ahead(files: Sequence[tuple[Place, PartHead]]) -> Iterator[bytes]:
    """Rows of parts in their order; of a store the next few are on their way."""
    if not isinstance(files[0][0], RemotePath):
        yield from (read_rows(path, head) for path, head in files)
        return
    with ThreadPoolExecutor(_AHEAD) as pool:
        waiting: deque[Future[bytes]] = deque()
        for path, head in files:
            waiting.append(pool.submit(read_rows, path, head))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _list(folder: Place) -> list[Place]:
    if isinstance(folder, RemotePath):
        return [path for path, is_folder, _ in folder.list_folder() if not is_folder]
    if not folder.is_dir():
        raise FileNotFoundError
    return list(folder.iterdir())


def _read_head(path: Place) -> PartHead | None:
    try:
        return read_head(path)
    except (ArtifactError, FileNotFoundError):
        return None


def _refuse_faults(folder: Place, faults: dict[str, list[str]], total: int) -> None:
    said = [f"{len(names)} {fault} ({_name_some(names)})" for fault, names in faults.items() if names]
    if not said:
        return
    remedies = []
    if faults["missing"] or faults["damaged"]:
        remedies.append("run the same 'lfm-deploy predict --output-dir' again, which judges what is missing")
    if faults["double"] or faults["foreign"]:
        remedies.append("move double and foreign files away, or collect with the list that they were made from")
    raise InputError(f"{folder}: not the results of these {total} parts: {', '.join(said)}; {'; '.join(remedies)}")


def _refuse_several_settings(folder: Place, files: Sequence[tuple[Place, PartHead]]) -> None:
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
    return ", ".join(map(_show, names[:_MOST_NAMED])) + (f" and {more} more" if more > 0 else "")


def _show(name: str) -> str:
    """A name in print: a list that is none, such as a picture, has lines of any bytes and length."""
    shown = readable(name)
    return shown if len(shown) <= _LONGEST_NAME else f"{shown[:_LONGEST_NAME]} ..."
