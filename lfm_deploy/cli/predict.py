"""``lfm-deploy predict``: verdicts on pictures, as a table, CSV or JSON lines."""

import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lfm_deploy.cli.console import (
    FOLDER,
    PLACE,
    Choice,
    choose_device,
    max_pixels_option,
    picture_count,
    say,
    say_left_out,
    warn_of_decoding,
    workdir_option,
)
from lfm_deploy.cli.judge_options import judge_options
from lfm_deploy.cli.ray_options import check_ray_options, ray_options
from lfm_deploy.storage.places import Place
from lfm_deploy.workdir import Workdir

if TYPE_CHECKING:
    from lfm_deploy.pictures.left_out import LeftOut
    from lfm_deploy.prediction.judges import Judge
    from lfm_deploy.prediction.resumption import ResumableFile
    from lfm_deploy.prediction.rows import Prediction, RowFormat
    from lfm_deploy.prediction.whole_file import WholeFile

_INTERRUPTED = 130
_OF_SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
_FORMATS = ("table", "csv", "jsonl", "parquet")


@click.command("predict")
@click.argument("paths", metavar="PATHS...", nargs=-1)
@click.option(
    "--from-list", "lists", metavar="FILE", multiple=True, help="File with one path a line; - is standard input."
)
@judge_options
@click.option("--batch", type=click.IntRange(1, 4096), help="Pictures at a time.  [default: 8 on a CPU, 64 on a GPU]")
@click.option(
    "--format", "form", type=Choice(_FORMATS), help="Format of the rows.  [default: table on a terminal, else csv]"
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format jsonl.")
@click.option(
    "--output",
    type=PLACE,
    help="File to write the rows to; .parquet makes it Parquet. After an interruption, the same command continues it.",
)
@click.option(
    "--output-dir",
    type=PLACE,
    metavar="OUT",
    help="Folder for one file a shard, or 10,000 pictures of a list; what is there is skipped. See collect.",
)
@click.option(
    "--part",
    metavar="N/COUNT",
    help="Part of the shards to judge, such as 3/64.  [default: as Slurm or Kubernetes say, else all]",
)
@ray_options
@click.option("--overwrite", is_flag=True, help="Begin the file of --output, or the shards of --output-dir, anew.")
@click.option(
    "--evidence",
    type=FOLDER,
    metavar="DIR",
    help="Folder for drawings of where each verdict came from, one PNG a picture.",
)
@max_pixels_option
@click.option(
    "--provenance", is_flag=True, help="Also say what pictures state of their origin: C2PA, IPTC, generators' texts."
)
@click.option("--strict", is_flag=True, help="Stop at the first picture that cannot be judged, with exit code 2.")
@workdir_option
def command(
    paths: tuple[str, ...],
    lists: tuple[str, ...],
    engine: Path | None,
    precision: str | None,
    device: str | None,
    gpus: str | None,
    threshold: float | None,
    decoder: str | None,
    batch: int | None,
    form: str | None,
    as_json: bool,
    output: Place | None,
    output_dir: Place | None,
    part: str | None,
    address: str | None,
    actors: int | None,
    actor_cores: int | None,
    patience: int | None,
    overwrite: bool,
    evidence: Path | None,
    provenance: bool,
    strict: bool,
    workdir: Workdir,
) -> int:
    """Say for each picture whether it is real or generated.

    PATHS are files, folders (sorted, with all that lies below them), shards (.zip, .tar, .tar.gz), quoted patterns
    ('**/*.png') and lists (@list.txt, or - for standard input), on this machine or in a store (s3://, gs://). Rows come
    in this order, each as soon as it is judged; a picture that cannot be read gets a row with the reason. Each row has
    notes: facts of the file, and "outside: …" where the detector was measured to fail on such files (verify
    --envelope).
    """
    if not paths and not lists:
        raise click.UsageError("name pictures, folders or shards, or a list with --from-list")
    if engine is not None and precision is not None:
        raise click.UsageError("--engine and --precision exclude each other")
    if as_json and form not in (None, "jsonl"):
        raise click.UsageError("--json and --format exclude each other")
    if overwrite and output is None and output_dir is None:
        raise click.UsageError("--overwrite is for --output and --output-dir")
    if part is not None and output_dir is None:
        raise click.UsageError("--part is for --output-dir")
    if output_dir is not None and (output is not None or evidence is not None):
        raise click.UsageError("--output-dir takes neither --output nor --evidence")
    check_ray_options(address, actors, actor_cores, patience, output_dir=output_dir, share=part, gpus=gpus)
    written = _choose_format("jsonl" if as_json else form, output, output_dir)

    from engines.host import keep_freed_memory
    from lfm_deploy.cli.part_jobs import open_job, run_job
    from lfm_deploy.pictures.left_out import LeftOut
    from lfm_deploy.pictures.sources import find_sources
    from lfm_deploy.prediction.destinations import check_destinations
    from lfm_deploy.prediction.judges import open_judge
    from lfm_deploy.prediction.prediction import predict_groups, require_some

    check_destinations(output, evidence, paths=paths, lists=lists, engine=engine, workdir=workdir, overwrite=overwrite)
    keep_freed_memory()
    left_out = LeftOut()
    options: dict[str, Any] = {
        "engine": engine,
        "precision": precision,
        "device": choose_device(device, gpus),
        "threshold": threshold,
        "batch": batch,
        "decoder": decoder,
        "provenance": provenance,
    }
    if output_dir is not None:
        flags = {"strict": strict, "overwrite": overwrite}
        # Ray shares out by itself.
        with open_job(paths, lists, left_out, output_dir, part if address is None else "1/1") as job:
            if address is not None:
                from lfm_deploy.cli.ray_jobs import run_on_ray

                asked: dict[str, Any] = {"actors": actors, "cores": actor_cores, "patience": patience}
                return run_on_ray(job, workdir, options, written, address=address, **asked, **flags)
            judge = open_judge(workdir, **options, on_message=say)
            warn_of_decoding()
            return run_job(job, judge, written, **flags)
    sources = require_some(find_sources(paths, lists, left_out), [*paths, *lists])
    judge = open_judge(workdir, **options, on_message=say)
    warn_of_decoding()
    overlays = None
    if evidence is not None:
        from lfm_deploy.prediction.overlays import OverlayWriter

        overlays = OverlayWriter(evidence, workdir, judge.engine, judge.path)
        say(f"drawing evidence of {overlays.origin} into {evidence}")
    opened = _open_output(output, judge, written, evidence=evidence is not None, overwrite=overwrite)
    with warnings.catch_warnings(), opened as file:
        warnings.filterwarnings("ignore", module="PIL")  # of odd metadata; what matters is an error in its row
        if file is not None:
            file.skip(sources)
        start = 0 if file is None else file.pictures
        groups = predict_groups(judge, sources, start=start, overlays=overlays, strict=strict)
        return _write_all(groups, judge, written, file, output, left_out)


def _choose_format(form: str | None, output: Place | None, output_dir: Place | None) -> "RowFormat":
    from lfm_deploy.prediction.rows import RowFormat

    if form == "table" and not (output is None and output_dir is None):
        raise click.UsageError(
            f"{'--output' if output_dir is None else '--output-dir'} takes --format csv, jsonl or parquet"
        )
    suffix = "" if output is None else output.suffix
    if form is None:
        on_terminal = output is None and output_dir is None and sys.stdout.isatty()
        form = "table" if on_terminal else _OF_SUFFIXES.get(suffix, "csv")
    if (form == "parquet") != (suffix == ".parquet") and output_dir is None:
        raise click.UsageError("Parquet goes to a file that is called so: --output FILE.parquet, or --output-dir OUT")
    if form == "parquet":
        from lfm_deploy.prediction.parquet import require_pyarrow

        require_pyarrow()
    return RowFormat(form)


def _open_output(
    output: Place | None, judge: "Judge", form: "RowFormat", *, evidence: bool, overwrite: bool
) -> "AbstractContextManager[ResumableFile | WholeFile | None]":
    if output is None:
        return nullcontext()
    from lfm_deploy.prediction.judges import describe_run
    from lfm_deploy.prediction.resumption import ResumableFile
    from lfm_deploy.prediction.rows import RowFormat, write_header
    from lfm_deploy.prediction.whole_file import WholeFile

    settings = describe_run(judge) | {"format": str(form), "evidence": evidence}
    header = write_header(form, provenance=judge.provenance)
    file: ResumableFile | WholeFile
    if isinstance(output, Path) and form is not RowFormat.PARQUET:
        file = ResumableFile(output, settings, header, overwrite=overwrite)
    else:
        file = WholeFile(output, settings, header, form, overwrite=overwrite)
    if file.resumed:
        say(f"{output}: continuing behind {file.pictures} pictures")
    return file


def _write_all(
    groups: "Iterator[list[Prediction]]",
    judge: "Judge",
    form: "RowFormat",
    file: "ResumableFile | WholeFile | None",
    output: Place | None,
    left_out: "LeftOut",
) -> int:
    from lfm_deploy.prediction.rows import RowFormat, write_header, write_rows

    form = RowFormat.JSONL if form is RowFormat.PARQUET else form  # on its way into the file
    counts: Counter[str] = Counter()
    outside = 0
    started, before = time.monotonic(), 0 if file is None else file.pictures
    colour = file is None and sys.stdout.isatty()
    try:
        with picture_count(hidden=file is None, before=before) as update:
            if file is None:
                _print(write_header(form, colour=colour, provenance=judge.provenance))
            for rows in groups:
                content = write_rows(rows, form, colour=colour)
                if file is None:
                    _print(content)
                else:
                    file.append(content, [row.path for row in rows])
                counts.update(row.verdict or "not judged" for row in rows)
                outside += sum(row.is_outside for row in rows)
                update(len(rows))
        if file is not None:
            file.finish()
    except KeyboardInterrupt:
        done = counts.total() if file is None else file.pictures
        if file is None:
            remedy = "with --output FILE it could be continued"
        elif isinstance(output, Path):
            remedy = "the same command again continues"
        else:
            remedy = "nothing was written to the store; with --output-dir it could be continued"
        say(f"Interrupted after {done} pictures; {remedy}.")
        return _INTERRUPTED
    _summarise(counts, before, time.monotonic() - started, output)
    _say_outside(outside, counts.total(), judge)
    say_left_out(left_out)
    if counts["not judged"] == counts.total() > 0 and not before:
        say("Error: not one of these pictures could be judged; the rows say why")
        return 1
    return 0


def _say_outside(outside: int, total: int, judge: "Judge") -> None:
    """On how many of the pictures the verdict is worth nothing."""
    if judge.proved is None:
        say("notes state facts alone: what this detector is proved on, 'lfm-deploy verify --envelope' measures")
    elif outside:
        are = "is" if outside == 1 else "are"
        say(f"{outside:,} of {total:,} pictures {are} outside of what this detector was proved on")


def _print(content: bytes) -> None:
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def _summarise(counts: "Counter[str]", before: int, seconds: float, output: Place | None) -> None:
    total = counts.total()
    behind = f" behind {before} that were there" if before else ""
    parts = [
        f"{counts[name]} {name}"
        for name in ("fake", "uncertain", "real", "not judged")
        if counts[name] or name in ("fake", "real")
    ]
    where = "" if output is None else f"; written: {output}"
    say(
        f"{total} picture{'' if total == 1 else 's'}{behind}: {', '.join(parts)}; {total / seconds:.0f} a second{where}"
    )
