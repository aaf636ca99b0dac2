"""FPS of the FP32 graph on the CPU against the published model as its authors run it, side by side.

    python benchmarks/against_published.py deploy --threads 2

Three contenders take turns (A B C, A B C, ...), each in a process of its own:

- ours: lfm.onnx of the workdir, by ``load_engine``, from uint8 pixels;
- the published forward pass in PyTorch: eager, float32, the whole batch at once, the C library's memory as it is;
- the same module, exported as it is by ``torch.onnx.export``, in ONNX Runtime's default session.

The published two get normalised float32 pictures that lie ready: pre-processing, which ours has inside, is a gift to
them. The workdir's checkpoint must be of the published layout.
"""

import logging
import os
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor, nn

from engines.engine import normalise_pixels
from engines.loading import load_engine
from lfm_deploy.artifacts import Precision
from lfm_deploy.benchmark.bench_worker import time_runs
from lfm_deploy.benchmark.rounds import Effort
from lfm_deploy.benchmark.sweep import Contender, Sweep, run_sweep
from lfm_deploy.benchmark.workers import serve
from lfm_deploy.cli.console import make_console
from lfm_deploy.environment import describe_environment
from lfm_deploy.errors import CheckpointError, DeployError
from lfm_deploy.machine import describe_load, peak_memory_mib
from lfm_deploy.network.checkpoint import PUBLISHED_CONFIG
from lfm_deploy.pictures.photographs import sample_tiles
from lfm_deploy.report.tables import make_table
from lfm_deploy.workdir import Workdir

OURS, EAGER, PLAIN = "lfm-deploy, ONNX FP32", "published, PyTorch eager", "published, plain export in ORT"
_SIDE, _CHECKED = 256, 8


class PublishedLFM(nn.Module):
    """The published forward pass, under the checkpoint's own names: ``(N, 3, H, W)`` normalised -> ``(N, 1)``."""

    def __init__(self) -> None:
        super().__init__()
        self.downsample_conv = nn.Conv2d(3, 3, 2, stride=2, bias=False)
        self.upsample_conv = nn.ConvTranspose2d(3, 3, 2, stride=2, bias=False)
        self.cnn = nn.Module()
        channels = 3
        for index, width in enumerate(PUBLISHED_CONFIG.widths, start=1):
            stage = nn.Sequential(nn.Conv2d(channels, width, 2), nn.BatchNorm2d(width), nn.ReLU())
            if index < PUBLISHED_CONFIG.depth:
                stage.append(nn.MaxPool2d(2))
            self.cnn.add_module(f"layer{index}", stage)
            channels = width
        self.covn1_1 = nn.Conv2d(channels, PUBLISHED_CONFIG.projection, 1, bias=False)
        self.fc1 = nn.Linear(PUBLISHED_CONFIG.projection * PUBLISHED_CONFIG.k, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and the pooled vector, which is computed a second time for it."""
        x = (x - self.upsample_conv(self.downsample_conv(x))).abs()
        for stage in self.cnn.children():
            x = stage(x)
        maps = self.covn1_1(x).flatten(2)
        return self.fc1(self._pool(maps)), self._pool(maps)

    @staticmethod
    def _pool(maps: Tensor) -> Tensor:
        return maps.topk(PUBLISHED_CONFIG.k, dim=2, largest=True, sorted=True).values.flatten(1)


def load_published(path: Path) -> PublishedLFM:
    """The module with a published checkpoint's weights.

    Raises:
        CheckpointError: it is of another layout.
    """
    model = PublishedLFM()
    try:
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except RuntimeError:
        raise CheckpointError(f"{path}: not of the published layout; export the published checkpoint first") from None
    return model.eval().requires_grad_(False)


def export_plainly(model: PublishedLFM, path: Path) -> None:
    """What anyone would do: ``torch.onnx.export`` of the module, float input, dynamic batch."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of torchvision, which is not used
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (torch.zeros(2, 3, _SIDE, _SIDE),),
            path,
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=65535)},),
            input_names=["x"],
            external_data=False,
            verbose=False,
        )


def open_published(opening: dict[str, Any]) -> tuple[dict[str, Any], Callable[[dict[str, Any]], dict[str, Any]]]:
    """A worker's job: the published module, or its plain export, by the file's suffix."""
    path, threads = Path(opening["path"]), opening["threads"]
    run = _open_eager(path, threads) if path.suffix == ".pth" else _open_plain(path, threads)

    def measure(request: dict[str, Any]) -> dict[str, Any]:
        pictures = normalise_pixels(sample_tiles(_SIDE, _SIDE, request["batch"]))
        times = time_runs(lambda: run(pictures), seconds=request["seconds"], runs=request["runs"], warm_up=2)
        memory = {"peak_memory_mib": peak_memory_mib(), "gpu_memory_mib": None, "gpu_clocks": None}
        return {"times": times, "phases": []} | memory

    logits = run(normalise_pixels(sample_tiles(_SIDE, _SIDE, _CHECKED)))
    return {"device": "cpu", "logits": np.ravel(logits).tolist()}, measure


def _open_eager(path: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    torch.set_num_threads(threads)
    model = load_published(path)

    def run(pictures: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            logits: np.ndarray = model(torch.from_numpy(pictures))[0].numpy()
        return logits

    return run


def _open_plain(path: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if threads != os.cpu_count():
        options.intra_op_num_threads = threads  # the default is a thread for every core
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda pictures: session.run(None, {"x": pictures})[0]


@click.command()
@click.argument("workdir", type=click.Path(path_type=Path))
@click.option("--batch", "batches", type=int, multiple=True, default=(8, 32), show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=3.0, show_default=True, help="For each contender at each batch size.")
def main(workdir: Path, batches: tuple[int, ...], threads: int, rounds: int, seconds: float) -> None:
    """Measure and print."""
    folder = Workdir(workdir)
    worker = (sys.executable, __file__, "--worker")
    load = describe_load()
    with tempfile.TemporaryDirectory(prefix="lfm-published-") as name:
        plain = Path(name, "plain.onnx")
        export_plainly(load_published(folder.require_checkpoint()), plain)
        common: dict[str, Any] = {"device": "cpu", "size": _SIDE, "batches": tuple(sorted(batches))}
        contenders = [
            Contender(name=OURS, path=folder.graph(Precision.FP32), **common),
            Contender(name=EAGER, path=folder.checkpoint, command=worker, **common),
            Contender(name=PLAIN, path=plain, command=worker, **common),
        ]
        effort = Effort(seconds=seconds, rounds=rounds)
        found = run_sweep(contenders, effort, threads=threads, with_ceilings=False)
    for reason in (*found.not_run.values(), *(point.failure for point in found.points.values())):
        if reason is not None:
            raise click.ClickException(reason)
    _print(found, folder, threads, effort)
    if load is not None:
        click.echo(load)
    if effort.quick:
        click.echo("quick: not for quoting")


def _print(found: Sweep, folder: Workdir, threads: int, effort: Effort) -> None:
    environment = describe_environment()
    console = make_console()
    table = make_table(f"{environment['processor']}, {threads} threads, {effort.rounds} rounds", "contender")
    for heading in ("batch", "FPS", "drift %", "runs", "ours to it: median", "lowest", "highest"):
        table.add_column(heading, justify="right", no_wrap=True)
    for (name, batch), point in sorted(found.points.items(), key=lambda item: item[0][1]):
        figures = point.summarise(batch)
        ours = found.points[OURS, batch].summarise(batch)
        ratios = [mine / its for mine, its in zip(ours.round_fps, figures.round_fps, strict=True)]
        shown = [f"{value:.2f}x" for value in (statistics.median(ratios), min(ratios), max(ratios))]
        drift = f"{100 * figures.rounds_share:.1f}"
        row = (name, str(batch), f"{figures.fps:.1f}", drift, str(figures.runs))
        table.add_row(*row, *(["-"] * 3 if name == OURS else shown))
    console.print(table)
    libraries = environment["libraries"]
    console.print(f"torch {libraries['torch']}, onnxruntime {libraries.get('onnxruntime')}")
    mine = load_engine(folder.graph(Precision.FP32)).logits(sample_tiles(_SIDE, _SIDE, _CHECKED))
    for name in (EAGER, PLAIN):
        apart = np.abs(mine - np.array(found.about[name]["logits"])).max()
        console.print(f"{name}: logits of {_CHECKED} photographs differ from ours by at most {apart:.1e}")


if __name__ == "__main__":
    if sys.argv[1:] == ["--worker"]:
        serve(open_published)
    else:
        try:
            main()
        except DeployError as error:
            sys.exit(f"Error: {error}")
