"""What each way of choosing ranges does to decisions, with every layer in INT8; and what the search found beside it.

    python benchmarks/range_methods.py deploy FOLDER_OF_TEST_SETS --images CALIBRATION_PICTURES

One method gives the ranges of all tensors. "Plain" graphs have weights rounded to the nearest and nothing equalised;
"prepared" ones are made as ``lfm-deploy build --int8`` makes them, apart from ranges and layers. All have a first scale
of one grey level.
"""

from pathlib import Path

import click
import numpy as np
import onnx
from rich.table import Table

from calib.calibration import load_pictures
from calib.graph_preparation import prepare_graphs
from calib.pictures import PictureStore
from calib.ranges import Kept, KeptRange, Ranges, read_ranges
from calib.scoring import score_graph
from export.equalisation import choose_gains
from export.graph import ExportConfig, make_graph
from export.names import LAST_OUTPUT
from export.precision import Int8Config, make_int8_graph, prepare_int8
from lfm_deploy.artifacts import Precision
from lfm_deploy.cli.console import make_console, progress_bar
from lfm_deploy.network.origin import read_origin
from lfm_deploy.pictures.images import read_image
from lfm_deploy.quantisation import Recipe
from lfm_deploy.report.tables import make_table
from lfm_deploy.scoring.scores import Scores
from lfm_deploy.suites import Suite, load_suites
from lfm_deploy.verification.comparison import SuiteResult, compare_suite, measure_suite
from lfm_deploy.workdir import Workdir

METHODS = ("min/max", "entropy", "MSE", "99.9 %", "99.99 %", "99.999 %")


class Judge:
    """Scores graphs over the test sets of a suite and compares them with the float32 graph."""

    def __init__(self, suite: Suite, reference: onnx.ModelProto, store: PictureStore) -> None:
        self._suite, self._store = suite, store
        for part in suite.sets:
            for image in part.images:
                store.add(read_image(image.path, suite.size))
        # The table has no intervals: one round is the fewest there can be.
        self._reference = measure_suite(suite.name, self._score(reference), 0.0, rounds=1)

    def judge(self, model: onnx.ModelProto) -> SuiteResult:
        """How a graph compares."""
        return compare_suite(self._suite.name, self._score(model), self._reference, 0.0)

    def _score(self, model: onnx.ModelProto) -> list[tuple[str, Scores]]:
        scores, start = [], 0
        for part in self._suite.sets:
            logits = score_graph(model, self._store, range(start, start + len(part.images)))
            start += len(part.images)
            labels = np.array([image.label for image in part.images])
            paths = tuple(image.path for image in part.images)
            scores.append((part.name, Scores(paths=paths, labels=labels, logits=logits)))
        return scores


@click.command()
@click.argument("workdir", type=click.Path(path_type=Path))
@click.argument("suite", type=click.Path(path_type=Path))
@click.option("--images", type=click.Path(path_type=Path), help="Calibration pictures, if they moved.")
def main(workdir: Path, suite: Path, images: Path | None) -> None:
    """Measure and print."""
    folder = Workdir(workdir)
    source, info = read_origin(folder)
    ranges = read_ranges(folder.ranges)
    reference = onnx.load(folder.graph(Precision.FP32))
    half = make_graph(source, ExportConfig(size=info.contract.size, precision=Precision.FP16))
    table = make_table("every layer in INT8", "recipe", "ranges", "weights")
    for heading in ("ACC %", "AP %", "flips", "mean |Δlogit|"):
        table.add_column(heading, justify="right")
    with PictureStore() as store, PictureStore() as calibration, progress_bar() as update:
        load_pictures(ranges, images or Path(ranges.images), info.config, calibration)
        judge = Judge(load_suites(str(suite), None)[0], reference, store)
        _add(table, "-", "FP32", "-", judge.judge(reference))
        _add(table, "-", "FP16", "-", judge.judge(half))
        for done, (recipe, method) in enumerate((recipe, method) for recipe in Recipe for method in METHODS):
            update("range methods", done, 2 * len(METHODS))
            base = half if recipe is Recipe.TENSORRT else reference
            chosen = {
                name: tensor.candidates[recipe].get(method, tensor.chosen(recipe))
                for name, tensor in ranges.tensors.items()
                if recipe in tensor.candidates
            }
            plain = prepare_int8(base, Int8Config(recipe=recipe, ranges=chosen))
            _add(table, recipe, method, "plain", judge.judge(make_int8_graph(plain, info.config.layers)))
            kept = [_only(ranges, recipe, method)]
            (prepared,) = prepare_graphs(reference, base, ranges, calibration, recipe, kept=kept)
            _add(table, recipe, method, "prepared", judge.judge(make_int8_graph(prepared, info.config.layers)))
        for recipe in Recipe:
            graph = folder.graph(Precision.INT8, recipe)
            if graph.is_file():
                _add(table, recipe, "the search", graph.name, judge.judge(onnx.load(graph)))
    make_console().print(table)


def _only(ranges: Ranges, recipe: Recipe, method: str) -> Kept:
    """One method for every tensor that has it, in one part, with one range for all channels."""
    kept: Kept = {}
    for name, tensor in ranges.tensors.items():
        kept[name] = {}
        if method in tensor.candidates.get(recipe, {}):
            low, high = tensor.candidates[recipe][method]
            inner = low >= 0 and name != LAST_OUTPUT
            gains = (
                choose_gains(np.array(tensor.channel_highest), high) if inner else np.ones(len(tensor.channel_highest))
            )
            kept[name][recipe] = KeptRange(low=low, high=high, gains=tuple(float(gain) for gain in gains))
        elif recipe in tensor.kept:
            kept[name][recipe] = tensor.kept[recipe]
    return kept


def _add(table: Table, recipe: str, method: str, weights: str, result: SuiteResult) -> None:
    acc, ap = ("-" if share is None else f"{100 * share.value:.2f}" for share in (result.mean.acc, result.mean.ap))
    against = result.against
    figures = (acc, ap, str(against.flips), f"{against.logit_error.mean:.2g}") if against else (acc, ap, "-", "-")
    table.add_row(str(recipe), method, weights, *figures)


if __name__ == "__main__":
    main()
