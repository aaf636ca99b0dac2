"""Parts of a list, one after the other, each into a file of its own; what is there and valid is not judged again."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lfm_deploy.errors import ArtifactError, InputError, WriteError
from lfm_deploy.pictures.left_out import LeftOut
from lfm_deploy.prediction.judges import Judge, describe_run
from lfm_deploy.prediction.part_files import (
    PartCounts,
    PartHead,
    describe_changes,
    hash_settings,
    place_part,
    read_part,
    readable,
    split_settings,
    write_part,
)
from lfm_deploy.prediction.parts import Part
from lfm_deploy.prediction.prediction import predict_groups
from lfm_deploy.prediction.rows import RowFormat, write_header, write_rows
from lfm_deploy.prediction.shares import Share
from lfm_deploy.storage.atomic import sha256_of_bytes
from lfm_deploy.storage.new_folders import make_folders
from lfm_deploy.storage.places import Place, RemotePath, find_size

_ROWS_FORMATS: dict[RowFormat, Literal["csv", "jsonl", "parquet"]] = {
    RowFormat.CSV: "csv",
    RowFormat.JSONL: "jsonl",
    RowFormat.PARQUET: "parquet",
}


@dataclass(slots=True, kw_only=True)
class PartRun:
    """What a run over parts has done so far.

    Attributes:
        judged: number of parts that were judged.
        skipped: number of parts whose files were there and valid.
        unreadable: number of parts among the judged ones whose shards could not be read, or not to their ends.
        counts: number of pictures of each kind in the parts that were judged.
    """

    judged: int = 0
    skipped: int = 0
    unreadable: int = 0
    counts: PartCounts = field(default_factory=PartCounts)


def make_folder(folder: Place) -> list[Path]:
    """Make the folder of the results before an engine is opened for them.

    A store has no folders to make; whether it answers is found out in time.

    Args:
        folder: path or URL of the folder; it may be there.

    Returns:
        The folders that were missing, the uppermost first.

    Raises:
        StoreError: the store refuses, or is out of reach.
        WriteError: the folder cannot be made, or is a file.
    """
    if isinstance(folder, RemotePath):
        folder.exists()
        return []
    try:
        return make_folders(folder)
    except OSError as error:
        raise WriteError(folder, error, "choose another --output-dir") from None


def judge_parts(
    judge: Judge,
    parts: Iterable[Part],
    folder: Place,
    form: RowFormat,
    *,
    share: Share | None = None,
    strict: bool = False,
    overwrite: bool = False,
    left_out: LeftOut | None = None,
    run: PartRun | None = None,
    on_message: Callable[[str], None] = lambda _: None,
    on_pictures: Callable[[int], Any] = lambda _: None,
) -> PartRun:
    """Judge those parts of a list that are this process's and have no valid file yet.

    Args:
        judge: engine with its settings, from ``open_judge``.
        parts: parts of the whole list.
        folder: folder of the results, one file a part; a path, or a URL of a store.
        form: format of the rows: CSV, JSON lines or Parquet.
        share: share of the parts that is this process's; None is all.
        strict: whether a picture that cannot be judged is an error; its part gets no file then.
        overwrite: whether parts that have a file are judged again, too.
        left_out: counter of what is passed over in shards.
        run: count to go on from, which is right at every moment; None is a new one.
        on_message: function that is given a line on each part that is judged again or could not be read.
        on_pictures: function that is given the number of pictures of each group that was judged.

    Raises:
        ImageError: a picture cannot be judged, and ``strict`` is set.
        InputError: a file is there that was made with other settings.
        StoreError: a store refuses, or is out of reach; no part is held to be bad for that.
        WriteError: a file cannot be written.
    """
    run, left_out = run or PartRun(), LeftOut() if left_out is None else left_out
    settings, machine = split_settings(describe_run(judge) | {"format": str(form)})
    for position, part in enumerate(parts):
        if share is not None and not share.holds(position):
            continue
        path = place_part(folder, part, form)
        size = None if part.shard is None else find_size(part.shard)
        if not overwrite and _is_done(path, part, size, settings, on_message):
            run.skipped += 1
            continue
        _refuse_other_format(folder, part, form)
        found = _judge_part(judge, part, form, left_out, strict=strict, on_pictures=on_pictures)
        head = PartHead(
            part=readable(part.name),
            part_sha256=part.sha256,
            shard_bytes=size,
            rows_format=_ROWS_FORMATS[form],
            settings=settings,
            settings_sha256=hash_settings(settings),
            machine=machine,
            counts=found.counts,
            problem=found.problem,
            rows_bytes=len(found.rows),
            rows_sha256=sha256_of_bytes(found.rows),
        )
        write_part(path, head, found.rows)
        run.judged += 1
        run.counts += found.counts
        if found.problem is not None:
            run.unreadable += 1
            on_message(f"{part.name}: {found.problem}; {path.name} says so")
    return run


@dataclass(frozen=True, slots=True)
class _Found:
    """What was found in a part: its rows with their heading, counts, and what is wrong with its shard."""

    rows: bytes
    counts: PartCounts
    problem: str | None


def _refuse_other_format(folder: Place, part: Part, form: RowFormat) -> None:
    """Files of two formats would count a part twice."""
    other = place_part(folder, part, RowFormat.CSV if form is RowFormat.PARQUET else RowFormat.PARQUET)
    if other.exists():
        raise InputError(f"{other}: is of another format than {form}; choose another --output-dir, or remove it")


def _is_done(
    path: Place, part: Part, size: int | None, settings: Mapping[str, Any], on_message: Callable[[str], None]
) -> bool:
    """Whether the part's file is there, whole, and of the shard as it is now."""
    try:
        head, _ = read_part(path)
        if head.part_sha256 != part.sha256:
            raise ArtifactError(f"{path}: of another part")
    except FileNotFoundError:
        return False
    except ArtifactError as error:
        on_message(f"judging {part.name} again: {str(error).partition('; ')[0]}")
        return False
    if changes := describe_changes(head.settings, settings):
        raise InputError(
            f"{path}: was judged otherwise: {changes}. Repeat the arguments that the folder was begun with, choose "
            "another --output-dir, or use --overwrite"
        )
    if head.problem is not None or head.shard_bytes != size:
        on_message(f"judging {part.name} again: {head.problem or 'the shard has another size now'}")
        return False
    return True


def _judge_part(
    judge: Judge, part: Part, form: RowFormat, left_out: LeftOut, *, strict: bool, on_pictures: Callable[[int], Any]
) -> _Found:
    blocks = [write_header(form, provenance=judge.provenance)]
    counts, problem = PartCounts(), None
    for rows in predict_groups(judge, part.walk(left_out), strict=strict):
        blocks.append(write_rows(rows, form))
        counts += PartCounts.of(rows)
        if part.shard is not None:
            # What is wrong with the shard itself has its name; pictures have the names of members.
            problem = next((row.error for row in rows if row.path == str(part.shard)), problem)
        on_pictures(len(rows))
    content = b"".join(blocks)
    if form is RowFormat.PARQUET:  # whose texts are UTF-8
        content = content.decode("utf-8", "backslashreplace").encode()
    return _Found(content, counts, None if problem is None else readable(problem))
