"""INT8 on pictures of sources that its calibration never saw: calibrated on some test sets, judged on the others.

    python benchmarks/left_out_sources.py deploy FOLDER_OF_TEST_SETS [ANOTHER ...] --parts 2 --recipe cpu

The test sets are dealt into parts. For each part, ranges and layers are chosen with pictures of the other parts alone,
as ``calibrate`` and ``build --int8`` choose them, and the graph judges the part's pictures beside FP32.
"""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import onnx

from calib.calibration import calibrate_into
from calib.int8_graph import quantise_into
from calib.pictures import PictureStore
from calib.scoring import score_graph
from lfm_deploy.artifacts import Precision, read_graph_info
from lfm_deploy.cli.console import make_console, progress_bar, say
from lfm_deploy.pictures.images import find_images, read_image
from lfm_deploy.quantisation import Budget, Recipe
from lfm_deploy.report.tables import make_table
from lfm_deploy.suites import CLASS_FOLDERS
from lfm_deploy.workdir import Workdir


@dataclass(frozen=True)
class Judged:
    """What a graph said of pictures that its calibration never saw; ``errors`` are INT8's logits less FP32's."""

    name: str
    flips: int
    right_before: int
    right_after: int
    errors: np.ndarray


@click.command()
@click.argument("workdir", type=click.Path(path_type=Path))
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--parts", default=2, show_default=True, help="Number of parts to deal the test sets into.")
@click.option("--recipe", default="cpu", show_default=True, type=click.Choice([str(recipe) for recipe in Recipe]))
@click.option("--count", default=128, show_default=True, help="Pictures to calibrate on.")
def main(workdir: Path, folders: tuple[Path, ...], parts: int, recipe: str, count: int) -> None:
    """Measure and print."""
    sets = sorted(path for folder in folders for path in folder.iterdir() if (path / CLASS_FOLDERS[0]).is_dir())
    if not 1 < parts <= len(sets):
        raise click.UsageError(f"{len(sets)} test sets (folders with {CLASS_FOLDERS[0]}/) cannot make {parts} parts")
    judged: list[Judged] = []
    for part in range(parts):
        mine = sets[part::parts]
        others = [path for path in sets if path not in mine]
        with tempfile.TemporaryDirectory(prefix="lfm-left-out-") as scratch:
            copy = Workdir(Path(scratch) / "deploy")
            copy.path.mkdir()
            for path in (Workdir(workdir).checkpoint, Workdir(workdir).graph(Precision.FP32)):
                shutil.copy(path, copy.path)
            pictures = Path(scratch) / "pictures"
            for path in others:
                shutil.copytree(path, pictures / path.name)
            with progress_bar() as update:
                calibrate_into(copy, pictures, count=count, on_message=say, on_progress=update)
                made = quantise_into(copy, Recipe(recipe), Budget(), on_progress=update)
            layers = [name for name, layer in made.findings["layers"].items() if layer["precision"] == "int8"]
            estimate = made.findings["trials"][-1]["judged_by"]
            say(f"part {part + 1}: INT8 in {', '.join(layers)}; estimated {estimate}")
            judged += [_judge(copy, made.path, path) for path in mine]
    _print(judged)


def _judge(workdir: Workdir, graph: Path, test_set: Path) -> Judged:
    info = read_graph_info(graph)
    threshold, labels = info.contract.threshold, []
    with PictureStore() as store:
        for path in find_images(test_set):
            store.add(read_image(path, info.contract.size, info.config))
            labels.append(CLASS_FOLDERS[1] in path.parts)
        before, after = (
            score_graph(onnx.load(path), store, range(len(store))) for path in (workdir.graph(Precision.FP32), graph)
        )
    right_before, right_after = (int(((logits > threshold) == np.array(labels)).sum()) for logits in (before, after))
    flips = int(((before > threshold) != (after > threshold)).sum())
    return Judged(test_set.name, flips, right_before, right_after, after - before)


def _print(judged: Sequence[Judged]) -> None:
    table = make_table("INT8 on test sets that did not calibrate it", "test set")
    for heading in ("pictures", "flips", "right in FP32", "right in INT8", "mean |Δlogit|"):
        table.add_column(heading, justify="right")
    whole = Judged(
        "all of them",
        sum(one.flips for one in judged),
        sum(one.right_before for one in judged),
        sum(one.right_after for one in judged),
        np.concatenate([one.errors for one in judged]),
    )
    for one in (*judged, whole):
        figures = (len(one.errors), one.flips, one.right_before, one.right_after)
        table.add_row(one.name, *map(str, figures), f"{np.abs(one.errors).mean():.3f}")
    make_console().print(table)
    say(
        f"{100 * whole.flips / len(whole.errors):.2f} % flips, accuracy "
        f"{100 * (whole.right_after - whole.right_before) / len(whole.errors):+.2f} points"
    )


if __name__ == "__main__":
    main()
