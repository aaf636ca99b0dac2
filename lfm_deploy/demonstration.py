"""``lfm-deploy demo``: the whole chain on this machine, with data and a model that it makes itself."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.builder import BuildConfig, BuildResult
from engines.progress import BuildProgress
from export.exporter import ProvedGraph
from export.graph import ExportConfig
from lfm_deploy.artifacts import Precision
from lfm_deploy.checkpoint import write_checkpoint
from lfm_deploy.config import ModelConfig
from lfm_deploy.deployment import build_into, choose_target, export_into
from lfm_deploy.errors import GateError
from lfm_deploy.suites import load_suites
from lfm_deploy.verification import Progress, Verification, verify
from lfm_deploy.workdir import Workdir
from training.data import make_training_tiles, write_test_tiles
from training.train import EpochResult, TrainConfig, train

# A quarter of the published width, so that two cores train it in seconds.
DEMO_MODEL = ModelConfig(widths=(16, 32, 64, 128), projection=32)
DEMO_RECIPE = TrainConfig(epochs=12, batch=32, learning_rate=2e-3)
_TRAINING_TILES, _TRAINING_SIDE, _TEST_TILES = 24, 128, 6
LEAST_AP = 0.95


@dataclass(frozen=True, kw_only=True)
class Demonstration:
    """What the demo made: checkpoint, proof, engines, verification, and the seconds that each step took."""

    checkpoint: Path
    graph: ProvedGraph
    engines: list[BuildResult]
    verification: Verification
    suite: str
    seconds: dict[str, float]


def demonstrate(
    workdir: Workdir,
    *,
    seed: int = 0,
    on_message: Callable[[str], None] = lambda _: None,
    on_progress: Progress = lambda *_: None,
) -> Demonstration:
    """Make data, train, export, build and verify; everything lies in the workdir afterwards.

    Args:
        workdir: a folder of its own.
        seed: of data and training.
        on_message: takes lines for people.
        on_progress: as of ``verify``.

    Raises:
        UnavailableError: scikit-image or a library of the chain is not installed.
        GateError: the model came out worse than a demonstration is worth.
    """
    watch = _Stopwatch()
    data, checkpoint = workdir.path / "data" / "upsampled", workdir.path / "demo.pth"
    on_message("1/5 data: tiles of photographs, and the same tiles up-sampled in five ways")
    write_test_tiles(data, tiles=_TEST_TILES, seed=seed)
    tiles = make_training_tiles(tiles=_TRAINING_TILES, side=_TRAINING_SIDE, seed=seed)
    watch.lap("data")

    on_message(f"2/5 training: a small LFM on {len(tiles.images)} tiles of {_TRAINING_SIDE} pixels")

    epochs: list[EpochResult] = []

    def report(result: EpochResult) -> None:
        epochs.append(result)
        on_progress("training", result.epoch, DEMO_RECIPE.epochs)

    recipe = TrainConfig(**DEMO_RECIPE.as_dict() | {"seed": seed})
    model = train(DEMO_MODEL, tiles.images, tiles.labels, recipe, report)
    metrics = {"loss": epochs[-1].loss, "training_accuracy": epochs[-1].accuracy}
    write_checkpoint(checkpoint, model, recipe=recipe.as_dict() | {"name": "demo"}, metrics=metrics)
    watch.lap("training")

    on_message("3/5 export: ONNX, proved equal to the checkpoint")
    graph = export_into(workdir, checkpoint, ExportConfig(), on_message)
    watch.lap("export")

    target = choose_target(None, None)
    on_message(f"4/5 build: FP16 with {target.library.name} for {', '.join(target.gpus)} ({target.reason})")

    def building(gpu: str, step: BuildProgress) -> None:
        if not step.nested:
            on_progress(f"{gpu}: building", step.done, step.steps)

    engines = build_into(workdir, Precision.FP16, target, BuildConfig(), on_message=on_message, on_progress=building)
    watch.lap("build")

    on_message("5/5 verify: every engine against PyTorch on photographs that were held out")
    verification = verify(workdir, load_suites(data), on_progress=on_progress)
    watch.lap("verify")
    _require_worth(verification)
    return Demonstration(
        checkpoint=checkpoint,
        graph=graph,
        engines=engines,
        verification=verification,
        suite=data.name,
        seconds=watch.laps,
    )


def _require_worth(verification: Verification) -> None:
    """Refuse a model that learned nothing: its engines would agree about nothing of interest."""
    ap = verification.engines[0].suites[0].ap
    if ap is None or ap < LEAST_AP:
        raise GateError(
            f"the demonstration model reached an average precision of {ap} on held-out photographs, expected "
            f"{LEAST_AP} or more; try another --seed, and report this with the output of 'pip freeze'"
        )


class _Stopwatch:
    """Seconds between laps."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = round(now - self._last, 1)
        self._last = now


def as_values(demonstration: Demonstration) -> dict[str, Any]:
    """What a demonstration made, as plain values for JSON."""
    return {
        "checkpoint": str(demonstration.checkpoint),
        "graph_sha256": demonstration.graph.sha256,
        "engines": [str(built.engine) for built in demonstration.engines],
        "seconds": demonstration.seconds,
    }
