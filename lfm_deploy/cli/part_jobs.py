"""``lfm-deploy predict --output-dir``: a list in parts, each with a file of its own, shared by many machines."""

import itertools
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lfm_deploy.cli.console import picture_count, say, say_left_out
from lfm_deploy.pictures.left_out import LeftOut
from lfm_deploy.pictures.sources import STANDARD_INPUT
from lfm_deploy.prediction.judges import Judge
from lfm_deploy.prediction.part_run import PartRun, judge_parts, make_folder
from lfm_deploy.prediction.parts import Part, find_parts
from lfm_deploy.prediction.rows import RowFormat
from lfm_deploy.prediction.shares import Share, find_share
from lfm_deploy.storage.new_folders import remove_empty
from lfm_deploy.storage.places import Place, is_remote

_INTERRUPTED = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class PartJob:
    """What is to be judged, before an engine is opened for it.

    Attributes:
        parts: parts of the whole list.
        share: share of them that is this process's.
        folder: folder of the results.
        left_out: counter of what is passed over.
        total: number of parts of the whole list; None where it can be read only once.
    """

    parts: Iterator[Part]
    share: Share
    folder: Place
    left_out: LeftOut
    total: int | None


@contextmanager
def open_job(
    paths: Sequence[str], lists: Sequence[str], left_out: LeftOut, folder: Place, part: str | None
) -> Iterator[PartJob]:
    """Look at what was asked for; what is wrong with it is said before the engine is opened.

    Args:
        paths: names of what to read, as ``find_sources`` takes them.
        lists: names of lists, as ``find_sources`` takes them.
        left_out: counter of what is passed over.
        folder: folder of the results, which is made, and goes again where an error ends the block before any result.
        part: share as in ``"3/64"``; None leaves it to the scheduler's variables.

    Raises:
        InputError: there is nothing to read, or the share is none.
        WriteError: the folder cannot be made.
    """
    share = find_share(part, os.environ)
    # A name that comes twice at the end of a list is better known before the hours of work that stand before it.
    total = sum(1 for _ in find_parts(paths, lists)) if _can_be_read_twice(paths, lists) else None
    parts = find_parts(paths, lists, left_out)
    parts = itertools.chain([next(parts)], parts)
    made = make_folder(folder)
    try:
        yield PartJob(parts=parts, share=share, folder=folder, left_out=left_out, total=total)
    except BaseException:
        remove_empty(made)
        raise


def _can_be_read_twice(paths: Sequence[str], lists: Sequence[str]) -> bool:
    """Whether no list is a pipe or standard input, of which nothing would be left."""
    in_paths = [name.removeprefix("@") for name in paths if name.startswith("@") or name == STANDARD_INPUT]
    return all(is_remote(name) or Path(name).is_file() for name in (*lists, *in_paths))


def run_job(job: PartJob, judge: Judge, form: RowFormat, *, strict: bool, overwrite: bool) -> int:
    """Judge the parts that are this process's, and say what became of them.

    Args:
        job: parts with their folder.
        judge: engine with its settings.
        form: format of the rows.
        strict: whether a picture that cannot be judged stops it.
        overwrite: whether parts that have a file are judged again, too.

    Returns:
        Exit code: 1 where there were pictures and not one of them could be judged.
    """
    if job.share.count > 1:
        some = (
            "" if job.total is None else f": {job.share.count_of(job.total)} of {job.total} shards and parts of lists"
        )
        say(f"part {job.share.number} of {job.share.count}, by {job.share.origin}{some}")
    run, started = PartRun(), time.monotonic()
    try:
        with picture_count() as update:
            judge_parts(
                judge,
                job.parts,
                job.folder,
                form,
                share=job.share,
                strict=strict,
                overwrite=overwrite,
                left_out=job.left_out,
                run=run,
                on_message=say,
                on_pictures=update,
            )
    except KeyboardInterrupt:
        say(f"Interrupted after {run.judged} parts; the same command again continues.")
        return _INTERRUPTED
    return say_result(run, job, time.monotonic() - started, is_proved=judge.proved is not None)


def say_result(run: PartRun, job: PartJob, seconds: float, *, is_proved: bool) -> int:
    """Say what became of the parts.

    Args:
        run: counts of the parts.
        job: parts with their folder.
        seconds: time that it took.
        is_proved: whether the detector's range was proved.

    Returns:
        Exit code: 1 where there were pictures and not one of them could be judged.
    """
    say(_summarise(run, job.folder, seconds, is_proved=is_proved))
    say_left_out(job.left_out)
    if run.counts.not_judged == run.counts.pictures > 0:
        say("Error: not one of these pictures could be judged; the rows say why")
        return 1
    return 0


def _summarise(run: PartRun, folder: Place, seconds: float, *, is_proved: bool) -> str:
    unreadable = f", {run.unreadable} with shards that could not be read whole" if run.unreadable else ""
    there = f", {run.skipped} were there" if run.skipped else ""
    return (
        f"{run.judged} parts judged{unreadable}{there}; {run.counts.describe(outside=is_proved)}; "
        f"{run.counts.pictures / seconds:.0f} a second; written: {folder}"
    )
