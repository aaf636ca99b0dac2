"""``lfm-deploy demo``: the whole chain on this machine, with data and a model that it makes itself."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from calib.calibration import calibrate_into
from calib.int8_graph import quantise_into
from calib.layer_choice import BudgetError
from calib.layer_times import NoGainError, RtxTarget, gpus_worth_building
from engines.build_progress import BuildProgress
from engines.builder import BuildConfig, BuildResult
from export.exporter import ProvedGraph
from export.graph import ExportConfig
from lfm_deploy.artifacts import Precision
from lfm_deploy.deployment.deployment import build_into, choose_target, export_into, make_typed_graph
from lfm_deploy.errors import GateError
from lfm_deploy.progress import Progress, ignore_progress
from lfm_deploy.quantisation import Budget, Recipe
from lfm_deploy.suites import load_suites
from lfm_deploy.verification.verification import verify
from lfm_deploy.verification.verification_result import Verification
from lfm_deploy.verification.verify_options import VerifyOptions
from lfm_deploy.workdir import Workdir, remove_reports
from training.demonstration_data import write_calibration_tiles, write_test_tiles
from training.recipe import read_recipe
from training.run import start_run
from training.train import Conduct

_CALIBRATION_TILES, _TEST_TILES = 8, 6
LEAST_AP = 0.95
# Some 300 pictures can show no less: even without one flip among them ACC may have moved by 1.2 points, and with 5
# flips 3.9 % of all decisions may flip. The limits of a deployment, 0.1 points for FP16, take thousands of pictures.
DEMO_LIMITS = Budget(acc=3, ap=3, flips=4)


@dataclass(frozen=True, kw_only=True)
class Demonstration:
    """What the demo made.

    Attributes:
        checkpoint: path of the checkpoint of the last epoch; one photograph is too few to choose a better epoch by.
        graph: exported graph with its proof.
        engines: engines in FP16, and in INT8 where it held its budget.
        without_int8: reason why there is no INT8, by recipe; only recipes that gave none have an entry.
        verification: verification over held-out photographs.
        suite: name of the suite that these photographs make.
        seconds: wall time of each step in seconds, by its name.
    """

    checkpoint: Path
    graph: ProvedGraph
    engines: list[BuildResult]
    without_int8: dict[Recipe, str]
    verification: Verification
    suite: str
    seconds: dict[str, float]


def demonstrate(
    workdir: Workdir,
    *,
    seed: int = 0,
    on_message: Callable[[str], None] = lambda _: None,
    on_progress: Progress = ignore_progress,
) -> Demonstration:
    """Make data, train, export, calibrate, build and verify; everything lies in the workdir afterwards.

    Args:
        workdir: folder of the demo's own.
        seed: seed of data and training.
        on_message: function that is given each line of text for people.
        on_progress: function that is given the name of a step, how much of it is done, and of how much.

    Raises:
        UnavailableError: scikit-image or a library of the chain is not installed.
        GateError: the model came out worse than a demonstration is worth.
    """
    watch = _Stopwatch()
    data = workdir.path / "data" / "upsampled"
    calibration = workdir.path / "data" / "calibration"
    on_message("1/6 data: tiles of photographs, and the same tiles up-sampled in five ways")
    write_test_tiles(data, tiles=_TEST_TILES, seed=seed)
    write_calibration_tiles(calibration, tiles=_CALIBRATION_TILES, seed=seed)
    watch.lap("data")

    recipe = read_recipe("demo", {"seed": seed})
    on_message(f"2/6 training: a small LFM on tiles of {recipe.crop} pixels, as 'lfm-deploy train --recipe demo' does")
    conduct = Conduct(workers=0, on_progress=on_progress)
    checkpoint = start_run(recipe, workdir.path / "training", overwrite=True, conduct=conduct).folder.last
    watch.lap("training")

    on_message("3/6 export: ONNX, proved equal to the checkpoint")
    graph = export_into(workdir, checkpoint, ExportConfig(), on_message)
    watch.lap("export")

    on_message("4/6 calibrate: activation ranges for INT8, on tiles of training photographs")
    calibrate_into(workdir, calibration, on_message=on_message, on_progress=on_progress)
    watch.lap("calibrate")

    engines, without_int8 = _build(workdir, on_message, on_progress)
    watch.lap("build")

    on_message("6/6 verify: every engine against PyTorch on photographs that were held out")
    verification = verify(
        workdir,
        load_suites(data),
        VerifyOptions(speed_seconds=0.5, limits=DEMO_LIMITS),
        on_start=lambda: remove_reports(workdir, on_message),
        on_warning=on_message,
        on_progress=on_progress,
    )
    watch.lap("verify")
    _require_worth(verification)
    return Demonstration(
        checkpoint=checkpoint,
        graph=graph,
        engines=engines,
        without_int8=without_int8,
        verification=verification,
        suite=data.name,
        seconds=watch.laps,
    )


def _build(
    workdir: Workdir, on_message: Callable[[str], None], on_progress: Progress
) -> tuple[list[BuildResult], dict[Recipe, str]]:
    """FP16 engines, INT8 engines and the INT8 graph for the CPU.

    INT8 that holds no budget, or is not faster than FP16, is said and left out.
    """
    target = choose_target(None, None)
    gpus = ", ".join(target.gpus)
    on_message(f"5/6 build: FP16 and INT8 with {target.library.name} for {gpus} ({target.reason}), INT8 for the CPU")

    def building(gpu: str, step: BuildProgress) -> None:
        if not step.nested:
            on_progress(f"{gpu}: building", step.done, step.steps)

    make_typed_graph(workdir, Precision.FP16, on_message)  # the one that INT8 for TensorRT is made of, too
    targets, without_int8 = {Precision.FP16: target}, {}
    for recipe in Recipe:
        rtx = RtxTarget(target.library, target.gpus)
        by_time = recipe is Recipe.TENSORRT and target.library.is_rtx
        try:
            made = quantise_into(
                workdir,
                recipe,
                Budget(),
                target=rtx if by_time else None,
                on_message=on_message,
                on_progress=on_progress,
            )
        except (BudgetError, NoGainError) as error:
            without_int8[recipe] = str(error)
            on_message(f"INT8 for {recipe}: {error}")
            continue
        on_message(f"INT8 for {recipe}: {100 * made.findings['int8_share']:.0f} % of the multiply-adds")
        if recipe is Recipe.TENSORRT:
            targets[Precision.INT8] = replace(target, gpus=gpus_worth_building(made.findings, rtx))
    engines = [
        built
        for precision, wanted in targets.items()
        for built in build_into(workdir, precision, wanted, BuildConfig(), on_message=on_message, on_progress=building)
    ]
    return engines, without_int8


def _require_worth(verification: Verification) -> None:
    """Refuse a model that learned nothing: its engines would agree about nothing of interest."""
    ap = verification.engines[0].suites[0].mean.ap
    if ap is None or ap.value < LEAST_AP:
        raise GateError(
            f"the demonstration model reached an average precision of {None if ap is None else ap.value} on held-out "
            f"photographs, expected {LEAST_AP} or more; try another --seed, and report this with the output of "
            "'pip freeze'"
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
        "without_int8": {str(recipe): why for recipe, why in demonstration.without_int8.items()},
        "seconds": demonstration.seconds,
    }
