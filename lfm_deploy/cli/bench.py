"""``lfm-deploy bench``: how fast every engine is, and how close to the machine's limits."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lfm_deploy.cli.console import (
    FOLDER,
    choose_device,
    compiled_option,
    gpus_option,
    json_option,
    make_console,
    print_json,
    progress_bar,
    say,
    workdir_option,
)
from lfm_deploy.workdir import Workdir

if TYPE_CHECKING:
    from lfm_deploy.benchmark.benchmark import BenchSettings

STEP_FAILED, NOTHING_RAN = 1, 3


def _parse_batches(_context: click.Context, _option: click.Parameter, text: str | None) -> tuple[int, ...] | None:
    """``1,2,4`` as numbers."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 1 <= int(part) <= 65535 for part in parts):
        raise click.BadParameter(f"{text!r}: expected batch sizes such as 1,8,32")
    return tuple(int(part) for part in parts)


@click.command("bench")
@click.option(
    "--engine",
    "wanted",
    multiple=True,
    metavar="NAME|FILE",
    help="Measure only this engine; repeat the option for several.",
)
@click.option(
    "--batch", "batches", callback=_parse_batches, metavar="1,2,4", help="Batch sizes.  [default: powers of two]"
)
@click.option(
    "--max-batch", type=click.IntRange(1, 65535), help="Largest of these powers of two.  [default: 32, on a GPU 256]"
)
@click.option("--seconds", type=click.FloatRange(0, min_open=True), default=3.0, show_default=True,
              help="Shortest time at each batch size; below 3 the result is marked as not for quoting.")  # fmt: skip
@click.option(
    "--rounds",
    type=click.IntRange(1, 1000),
    default=5,
    show_default=True,
    help="Number of turns that each engine takes.",
)
@click.option("--threads", type=click.IntRange(1, 4096), help="CPU threads of each engine.  [default: one a core]")
@click.option("--device", help="For PyTorch and ONNX Runtime: cpu, cuda or cuda:N.  [default: cpu]")
@gpus_option
@compiled_option
@click.option(
    "--pictures",
    type=FOLDER,
    help="Folder of pictures, for speed from files to verdicts.  [default: tiles of photographs, as PNG and JPEG]",
)
@click.option("--no-files", is_flag=True, help="Measure the engines alone, not from files to verdicts.")
@click.option(
    "--baseline",
    type=FOLDER,
    metavar="CHECKPOINT|WORKDIR",
    help="Another network to measure beside these, such as NPR.",
)
@workdir_option
@json_option
def command(
    wanted: tuple[str, ...],
    batches: tuple[int, ...] | None,
    max_batch: int | None,
    seconds: float,
    rounds: int,
    threads: int | None,
    device: str | None,
    gpus: str | None,
    compiled: bool,
    pictures: Path | None,
    no_files: bool,
    baseline: Path | None,
    workdir: Workdir,
    as_json: bool,
) -> int:
    """Measure how fast every engine is, and how close to what the machine can do.

    Engines take turns in interleaved rounds, each in a process of its own, beside the machine's own ceilings: matrix
    products and memory bandwidth. Writes bench.json, bench.svg and bench.png into the workdir.
    """
    if batches is not None and max_batch is not None:
        raise click.UsageError("--batch names the sizes; --max-batch is for the default ones. Give one of them")
    if no_files and pictures is not None:
        raise click.UsageError("--pictures is for measuring files, which --no-files leaves out. Give one of them")
    from lfm_deploy.benchmark.benchmark import BenchSettings
    from lfm_deploy.benchmark.rounds import Effort

    if pictures is not None:
        from lfm_deploy.storage.overlap import refuse_input

        refuse_input("--workdir", [workdir.path], [pictures])  # bench.png would be one of the pictures
    settings = BenchSettings(
        effort=Effort(seconds=seconds, rounds=rounds),
        threads=threads,
        batches=batches,
        max_batch=max_batch,
        with_files=not no_files,
        pictures=pictures,
    )
    report = _measure(workdir, baseline, wanted, choose_device(device, gpus) or "cpu", settings, compiled=compiled)
    _write(workdir, report)
    if as_json:
        print_json(report)
    else:
        from lfm_deploy.report.bench_tables import print_bench

        print_bench(report, make_console())
        say(f"written: bench.json, bench.svg and bench.png in {workdir.path}")
    if any(engine["failed"] for engine in report["engines"]):
        return STEP_FAILED
    return 0 if any(engine["about"] for engine in report["engines"]) else NOTHING_RAN


def _measure(
    workdir: Workdir,
    baseline: Path | None,
    wanted: tuple[str, ...],
    device: str,
    settings: "BenchSettings",
    *,
    compiled: bool,
) -> dict[str, Any]:
    """Every engine of the workdir and of the baseline in the same rounds, as a report."""
    from lfm_deploy.benchmark.baselines import open_baseline
    from lfm_deploy.benchmark.benchmark import choose_engines, run_benchmark
    from lfm_deploy.deployment.lineup import find_candidates
    from lfm_deploy.report.bench_advice import read_outcomes
    from lfm_deploy.report.bench_document import make_bench_report

    candidates = find_candidates(workdir, device, compiled=compiled)
    with ExitStack() as stack:
        if baseline is not None:
            candidates += stack.enter_context(open_baseline(baseline, device, say))
        candidates = choose_engines(candidates, wanted)
        names = ", ".join(one.path.name for one in candidates if one.path.parent == workdir.path)
        say(f"taking {names} from {workdir.path}" + (f", beside {baseline}" if baseline is not None else ""))
        with progress_bar() as update:
            found = run_benchmark(candidates, settings, on_progress=update)
        return make_bench_report(found, read_outcomes(workdir))


def _write(workdir: Workdir, report: dict[str, Any]) -> None:
    """bench.json and its plots together; without a single figure there is nothing to plot."""
    from lfm_deploy.report.plots.speed import plot_batches
    from lfm_deploy.storage.atomic import write_together

    content = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    files = {workdir.path / "bench.json": content.encode()}
    drawn = [
        engine | {"points": [point for point in engine["points"] if not point["not_run"]]}
        for engine in report["engines"]
    ]
    if any(engine["points"] for engine in drawn):
        plots = plot_batches(drawn, _subtitle(report))
        files |= {workdir.path / f"bench.{kind}": image for kind, image in plots.items()}
    with workdir.lock(say):
        write_together(files)


def _subtitle(report: dict[str, Any]) -> str:
    machine, settings = report["machine"], report["settings"]
    quick = ", quick: not for quoting" if report["quick"] else ""
    return f"{machine['processor']}, {settings['threads']} threads, {settings['rounds']} interleaved rounds{quick}"
