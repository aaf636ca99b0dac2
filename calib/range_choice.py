"""Which range each activation gets: all that today's tools would choose are tried, and the logit decides."""

from collections.abc import Sequence
from functools import partial
from math import sqrt

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from calib.activations import ActivationReader, TensorStatistics
from calib.pictures import PictureStore
from calib.range_study import RangeBench, TensorStudy, View, Way, as_tuple
from calib.ranges import CalibrationPicture, Kept, KeptRange, TensorRange
from export.levelling import choose_channel_ranges, selected_name
from export.names import LAST_OUTPUT, find_convolutions, input_name, quantisable_tensors
from export.splitting import choose_part_gains, count_parts, widest_part
from lfm_deploy.config import ModelConfig
from lfm_deploy.progress import Progress
from lfm_deploy.quantisation import Recipe

_BY_CHANNEL = "by channel, of what is selected"
# A channel that is all but silent still has a reach; equalisation ends long before.
_LEAST_REACH = 1e-4
# Per cent of a channel's values that its range reaches.
_KEPT, _KEPT_IN_PARTS = (99.99, 99.999, 100.0), (99.9, 99.97, 99.99, 99.997, 99.999)


def measure_tensors(
    base: onnx.ModelProto,
    config: ModelConfig,
    store: PictureStore,
    pictures: Sequence[CalibrationPicture],
    on_progress: Progress,
) -> tuple[dict[str, TensorRange], tuple[Kept, ...]]:
    """Measure every tensor that can be quantised, and choose its range for each recipe.

    Args:
        base: the float32 graph.
        config: the architecture.
        store: the pictures of a calibration.
        pictures: paths, sources and folds of the store's pictures, in their order.
        on_progress: function that is given the name of a step, how much of it is done, and of how much.

    Returns:
        The tensors by name, in the order of the network; and for each fold what would be kept of them without its
        pictures: the ways in numbers of the other pictures, chosen by their logits. Only which ways are tried at all is
        decided by all pictures.
    """
    names = quantisable_tensors(config)
    folds = np.array([picture.fold for picture in pictures])
    views = _collect(base, names, store, folds, on_progress)
    studies = {
        # For TensorRT, what Top-K pooling selects from stays float16.
        name: TensorStudy(
            name, (Recipe.CPU,) if name == LAST_OUTPUT else tuple(Recipe), views[name][0], views[name][1:], pictures
        )
        for name in names
    }
    with RangeBench(base, store) as bench:
        _try_all_ways(base, studies, bench, on_progress)
    on_progress("choosing ranges", len(names) + 1, len(names) + 1)
    left_out = tuple(
        {name: {recipe: study.keep(recipe, fold) for recipe in study.recipes} for name, study in studies.items()}
        for fold in range(folds.max() + 1)
    )
    return {name: study.result() for name, study in studies.items()}, left_out


def _collect(
    base: onnx.ModelProto,
    names: Sequence[str],
    store: PictureStore,
    folds: NDArray[np.int64],
    on_progress: Progress,
) -> dict[str, list[View]]:
    """Each tensor on all pictures, and then without each fold."""
    picked = selected_name(base)
    reader = ActivationReader(base, [*names, picked])
    collected: list[dict[str, TensorStatistics]] = []
    done = 0
    for fold in range(folds.max() + 1):
        statistics: dict[str, TensorStatistics] = {}
        for images in store.batches(np.flatnonzero(folds == fold).tolist()):
            found = reader.read(images)
            found[picked] = found[picked][..., None]  # (N, C, k, 1)
            for name, values in found.items():
                if name not in statistics:
                    statistics[name] = TensorStatistics(values.shape[1], by_channel=name in names[1:-1])
                statistics[name].add(values)
            done += len(images)
            on_progress("collecting activations", done, len(folds))
        collected.append(statistics)

    resting = {name: values[0, :, 0, 0] for name, values in reader.read(_make_flat(store)).items() if name != picked}

    def view(name: str, parts: list[dict[str, TensorStatistics]]) -> View:
        selected = TensorStatistics.added([part[picked] for part in parts]) if name == LAST_OUTPUT else None
        return View(TensorStatistics.added([part[name] for part in parts]), resting[name], selected)

    without = [[part for other, part in enumerate(collected) if other != fold] for fold in range(len(collected))]
    return {name: [view(name, parts) for parts in (collected, *without)] for name in names}


def _try_all_ways(
    base: onnx.ModelProto, studies: dict[str, TensorStudy], bench: RangeBench, on_progress: Progress
) -> None:
    """What tools would choose for each tensor, and what only the CPU's recipe can do."""
    inner = [name for name in list(studies)[1:-1] if studies[name].whole.statistics.histogram.lowest >= 0]
    for index, (name, study) in enumerate(studies.items()):
        on_progress("choosing ranges", index, len(studies) + 1)
        _try_usual_ways(study, bench)
        # For the CPU every layer must be INT8 to be fast, so channels get ranges of their own there, which float32
        # weights carry exactly enough, and the tensor that suffers most gets finer steps.
        if name in inner:
            study.attempt({Recipe.CPU: _ways_by_channel(base, name, in_parts=False)}, bench)
        elif name == LAST_OUTPUT:
            study.attempt({Recipe.CPU: {_BY_CHANNEL: _keep_by_channel}}, bench)
    on_progress("choosing ranges", len(studies), len(studies) + 1)
    if inner:
        worst = max(inner, key=lambda name: min(studies[name].errors(Recipe.CPU).values()))
        studies[worst].attempt({Recipe.CPU: _ways_by_channel(base, worst, in_parts=True)}, bench)


def _make_flat(store: PictureStore) -> NDArray[np.uint8]:
    """A picture of one grey, as large as the first."""
    first: NDArray[np.uint8] = next(store.batches([0]))
    return np.full_like(first, 128)


def _try_usual_ways(study: TensorStudy, bench: RangeBench) -> None:
    """What tools would choose, and between the best of that and its neighbours."""
    if study.name == input_name("conv1"):  # its scale is exactly 1 grey level
        study.attempt({recipe: {"grey levels": partial(_keep_levels, recipe)} for recipe in study.recipes}, bench)
        return
    usual: dict[Recipe, dict[str, Way]] = {
        recipe: {name: partial(_keep_range, recipe, name) for name in study.whole.ranges(recipe.levels)}
        for recipe in study.recipes
    }
    study.attempt(usual, bench)
    study.attempt({recipe: _ways_between(study, recipe) for recipe in study.recipes}, bench)


def _ways_between(study: TensorStudy, recipe: Recipe) -> dict[str, Way]:
    """Two more ways: half way, by ratio, from the best one to the next smaller and the next larger."""
    ranges, best = study.whole.ranges(recipe.levels), study.best(recipe)
    smaller = [name for name in ranges if ranges[name][1] < ranges[best][1]]
    larger = [name for name in ranges if ranges[name][1] > ranges[best][1]]
    neighbours = []
    if smaller:
        neighbours.append(max(smaller, key=lambda name: ranges[name][1]))
    if larger:
        neighbours.append(min(larger, key=lambda name: ranges[name][1]))
    return {f"between {best} and {name}": partial(_keep_between, recipe, best, name) for name in neighbours}


def _ways_by_channel(base: onnx.ModelProto, tensor: str, *, in_parts: bool) -> dict[str, Way]:
    """With a range for each channel, by how much of each channel is kept; loud channels in parts, or none."""
    weights = {constant.name: constant for constant in base.graph.initializer}
    (reader,) = [node for node in find_convolutions(base) if node.input[0] == tensor]
    importance = np.sqrt(np.square(numpy_helper.to_array(weights[reader.input[1]])).sum(axis=(0, 2, 3)))
    ending, kept = (", in parts", _KEPT_IN_PARTS) if in_parts else ("", _KEPT)
    return {
        f"{percent:.5g} % of each channel{ending}": partial(_keep_channels, percent, importance if in_parts else None)
        for percent in kept
    }


def _keep_levels(recipe: Recipe, view: View) -> KeptRange:
    return view.keep(recipe, 0.0, float(recipe.levels), equalise=False)


def _keep_range(recipe: Recipe, name: str, view: View) -> KeptRange:
    return view.keep(recipe, *view.ranges(recipe.levels)[name])


def _keep_between(recipe: Recipe, first: str, second: str, view: View) -> KeptRange:
    (low, high), (other_low, other_high) = (view.ranges(recipe.levels)[name] for name in (first, second))
    return view.keep(recipe, 0.0 - sqrt(max(low * other_low, 0.0)), sqrt(high * other_high))


def _keep_channels(percent: float, importance: NDArray[np.floating] | None, view: View) -> KeptRange:
    """A range for each channel, and loud channels in parts if it is known how much each matters; for the CPU."""
    channels = view.statistics.channels
    if channels is None:
        raise ValueError("this tensor's channels were not counted")
    reach: NDArray[np.float64] = np.minimum(channels.percentile(percent), view.statistics.channel_highest)
    reach = np.maximum(reach, max(_LEAST_REACH * float(reach.max()), float(np.finfo(np.float32).tiny)))
    parts = np.ones(len(reach), np.int64) if importance is None else count_parts(reach, importance)
    high = widest_part(reach, parts)
    return KeptRange(
        low=0.0,
        high=high,
        gains=view.align(Recipe.CPU, choose_part_gains(reach, parts, high), high),
        parts=() if importance is None else tuple(int(count) for count in parts),
    )


def _keep_by_channel(view: View) -> KeptRange:
    """The projection's output with a range for each channel."""
    if view.selected is None:
        raise ValueError("nothing is selected from this tensor")
    limits = choose_channel_ranges(view.selected.channel_lowest, view.selected.channel_highest)
    return KeptRange(
        low=float(limits[:, 0].min()),
        high=float(limits[:, 1].max()),
        gains=as_tuple(np.ones(len(limits))),
        channel_ranges=tuple((float(low), float(high)) for low, high in limits),
    )
