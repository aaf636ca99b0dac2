"""How many pictures a second does a training step take in, ours beside the published model class in the same loop?

    python benchmarks/training_step.py --rounds 5 --seconds 20

Both train the published architecture from scratch with Adam on binary cross-entropy, eager, in float32, on the CPU.
The published class is written anew for this (``against_published.py``): NPR by a strided and a transposed convolution
whose weights are fixed, and pooling done twice in each forward pass. Its loop is what one would write around it. Pixels
lie ready in memory; both loops normalise them. Each contender has a process of its own; they take turns. ``ours, all
regularisers`` also does RBLD and RKS, which the published loop leaves out. ``keeps memory`` is the published class in a
process whose C library keeps freed memory, as ``lfm-deploy train`` makes its own do, to show what that alone is worth.
"""

import statistics
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import click
import numpy as np
import torch
from against_published import PublishedLFM
from torch.nn import functional as F

from engines.host import keep_freed_memory
from lfm_deploy.benchmark.bench_worker import time_runs
from lfm_deploy.benchmark.rounds import Effort, schedule_turns, summarise_times
from lfm_deploy.benchmark.workers import Worker, serve
from lfm_deploy.cli.console import make_console
from lfm_deploy.environment import describe_environment
from lfm_deploy.errors import DeployError
from lfm_deploy.machine import describe_load
from lfm_deploy.network.model import normalise
from lfm_deploy.report.tables import make_table
from training.recipe import read_recipe
from training.step import Stepper

PUBLISHED, KEEPS, OURS, WHOLE = "published class", "published, keeps memory", "ours", "ours, all regularisers"
NAMES = (PUBLISHED, KEEPS, OURS, WHOLE)
_RATE = 1e-4


def open_contender(opening: dict[str, Any]) -> tuple[dict[str, Any], Callable[[dict[str, Any]], dict[str, Any]]]:
    """A worker's job: one loop, a step for each call."""
    torch.set_num_threads(opening["threads"])
    if opening["name"] != PUBLISHED:
        keep_freed_memory()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (opening["batch"], opening["side"], opening["side"], 3), dtype=np.uint8)
    labels = (np.arange(opening["batch"]) % 2).astype(np.int64)
    step = _published_step() if opening["name"] in (PUBLISHED, KEEPS) else _our_step(opening["name"] == WHOLE)

    def measure(request: dict[str, Any]) -> dict[str, Any]:
        run = lambda: step(images, labels)  # noqa: E731  # a name for the call that is timed
        return {"times": time_runs(run, seconds=request["seconds"], runs=request["runs"], warm_up=1)}

    return {"device": "cpu"}, measure


def _published_step() -> Callable[[np.ndarray, np.ndarray], None]:
    torch.manual_seed(0)
    model = PublishedLFM().train()
    for fixed in (model.downsample_conv, model.upsample_conv):
        fixed.requires_grad_(False)
    optimizer = torch.optim.Adam([part for part in model.parameters() if part.requires_grad], lr=_RATE)

    def step(images: np.ndarray, labels: np.ndarray) -> None:
        logits, _ = model(normalise(torch.from_numpy(images)))
        loss = F.binary_cross_entropy_with_logits(logits.squeeze(1), torch.from_numpy(labels).float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    return step


def _our_step(whole: bool) -> Callable[[np.ndarray, np.ndarray], None]:
    recipe = read_recipe("paper" if whole else "table4_tkp")
    stepper = Stepper(recipe, torch.device("cpu"))
    return lambda images, labels: stepper.take(images, labels, _RATE) and None


@click.command()
@click.option("--batch", default=16, show_default=True)
@click.option("--side", default=224, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=20.0, show_default=True, help="For each contender, in all rounds together.")
def main(batch: int, side: int, threads: int, rounds: int, seconds: float) -> None:
    """Measure and print."""
    effort, load = Effort(seconds=seconds, rounds=rounds), describe_load()
    common = {"batch": batch, "side": side, "threads": threads}
    _print(_measure(common, effort), f"{threads} threads, batch {batch}, {side}x{side} pixels", batch)
    if load is not None:
        click.echo(load)
    if effort.quick:
        click.echo("quick: not for quoting")


def _measure(common: dict[str, int], effort: Effort) -> dict[str, list[list[float]]]:
    """Times of each contender's steps, round by round."""
    times: dict[str, list[list[float]]] = {name: [] for name in NAMES}
    with ExitStack() as stack:
        command = (sys.executable, __file__, "--worker")
        workers = {name: stack.enter_context(Worker(command, {"name": name} | common)) for name in NAMES}
        for worker in workers.values():
            worker.open()
        for turn in schedule_turns({name: [common["batch"]] for name in NAMES}, effort.rounds):
            request = {"seconds": effort.turn_seconds, "runs": effort.turn_runs}
            times[turn.name].append(workers[turn.name].ask(request)["times"])
    return times


def _print(times: dict[str, list[list[float]]], setting: str, batch: int) -> None:
    environment = describe_environment()
    table = make_table(f"{environment['processor']}, {setting}", "contender")
    for heading in ("images/s", "drift %", "steps", "to the published: median", "lowest", "highest"):
        table.add_column(heading, justify="right", no_wrap=True)
    base = summarise_times(times[PUBLISHED], batch)
    for name in NAMES:
        figures = summarise_times(times[name], batch)
        ratios = [mine / its for mine, its in zip(figures.round_fps, base.round_fps, strict=True)]
        shown = [f"{value:.2f}x" for value in (statistics.median(ratios), min(ratios), max(ratios))]
        cells = [f"{figures.fps:.2f}", f"{100 * figures.rounds_share:.1f}", str(figures.runs)]
        table.add_row(name, *cells, *(["-"] * 3 if name == PUBLISHED else shown))
    make_console().print(table)
    click.echo(f"torch {environment['libraries']['torch']}")


if __name__ == "__main__":
    if sys.argv[1:] == ["--worker"]:
        serve(open_contender)
    else:
        try:
            main()
        except DeployError as error:
            sys.exit(f"Error: {error}")
