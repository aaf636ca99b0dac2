"""Which range each activation gets: all that today's tools would choose are tried, and the logit decides."""

from dataclasses import replace
from math import sqrt
from typing import TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray

from calib.activations import ActivationReader, TensorStatistics
from calib.candidates import find_candidates
from calib.pictures import PictureStore
from calib.ranges import TensorRange
from calib.scoring import score_graph
from engines.ort import open_session
from export.levelling import choose_channel_ranges, selected_name
from export.names import LAST_OUTPUT, input_name, quantisable_tensors
from export.precision import Int8Config
from export.simulation import simulate_tensor
from export.splitting import count_parts
from lfm_deploy.config import ModelConfig
from lfm_deploy.progress import Progress
from lfm_deploy.quantisation import Recipe

_HISTOGRAM_BINS = 128
_BY_CHANNEL = "by channel, of what is selected"
_Key = TypeVar("_Key")
_Candidates = dict[Recipe, dict[str, tuple[float, float]]]


class _Bench:
    """Measures what quantising one tensor does to the logits of the pictures that choose."""

    def __init__(self, base: onnx.ModelProto, store: PictureStore, chooses: list[int]) -> None:
        self._base = onnx.shape_inference.infer_shapes(base)
        self._store, self._chooses = store, chooses
        self._reference = score_graph(base, store, chooses)

    def errors(self, name: str, configs: dict[_Key, Int8Config]) -> dict[_Key, float]:
        """Mean |Δlogit| with this tensor alone quantised, for each way of doing so."""
        reader = ActivationReader(self._base, [name])
        simulations = {found: simulate_tensor(self._base, config, name) for found, config in configs.items()}
        sessions = {
            found: open_session(model.SerializeToString(), f"{name}, quantised", spin=False)
            for found, model in simulations.items()
        }
        totals = dict.fromkeys(configs, 0.0)
        done = 0
        for images in self._store.batches(self._chooses, size=1):  # many sessions hold memory for one picture each
            values = reader.read(images)[name]
            expected = self._reference[done : done + len(images)]
            for found, session in sessions.items():
                totals[found] += float(np.abs(session.run(["logit"], {name: values})[0] - expected).sum())
            done += len(images)
        return {found: round(total / done, 6) for found, total in totals.items()}


def measure_tensors(
    base: onnx.ModelProto, config: ModelConfig, store: PictureStore, chooses: list[int], on_progress: Progress
) -> dict[str, TensorRange]:
    """Measure every tensor that can be quantised, and choose its range for each recipe.

    Args:
        base: the float32 graph.
        config: the architecture.
        store: the pictures of a calibration.
        chooses: positions in the store of the pictures that choose.
        on_progress: function that is given the name of a step, how much of it is done, and of how much.

    Returns:
        By name, in the order of the network.
    """
    names = quantisable_tensors(config)
    statistics = {name: TensorStatistics() for name in names}
    picked = selected_name(base)
    reader, done = ActivationReader(base, [*names, picked]), 0
    lowest, highest = np.full(config.projection, np.inf), np.full(config.projection, -np.inf)
    for images in store.batches(chooses):
        found = reader.read(images)
        selected = found.pop(picked)  # (N, C, k)
        lowest, highest = np.minimum(lowest, selected.min((0, 2))), np.maximum(highest, selected.max((0, 2)))
        for name, values in found.items():
            statistics[name].add(values)
        done += len(images)
        on_progress("collecting activations", done, len(chooses))
    bench = _Bench(base, store, chooses)
    tensors = {}
    for index, name in enumerate(names):
        on_progress("choosing ranges", index, len(names) + 1)
        tensors[name] = _measure_tensor(name, statistics[name], bench)
    tensors[LAST_OUTPUT] = _try_channels(tensors[LAST_OUTPUT], choose_channel_ranges(lowest, highest), bench)
    on_progress("choosing ranges", len(names), len(names) + 1)
    # For the CPU every layer must be INT8 to be fast, so the tensor that suffers most gets finer steps.
    inner = [name for name in names[1:-1] if tensors[name].lowest >= 0]
    if inner:
        worst = max(inner, key=lambda name: tensors[name].errors[Recipe.CPU][tensors[name].choice[Recipe.CPU]])
        tensors[worst] = _try_parts(worst, tensors[worst], bench)
    on_progress("choosing ranges", len(names) + 1, len(names) + 1)
    return tensors


def _measure_tensor(name: str, statistics: TensorStatistics, bench: _Bench) -> TensorRange:
    histogram = statistics.histogram
    highest = statistics.channel_highest if statistics.channel_highest is not None else np.zeros(0, np.float32)
    inner = {name: highest} if histogram.lowest >= 0 else {}
    # For TensorRT, what Top-K pooling selects from stays float16.
    recipes = (Recipe.CPU,) if name == LAST_OUTPUT else tuple(Recipe)

    def measure(tried: _Candidates) -> dict[Recipe, dict[str, float]]:
        configs = {
            (recipe, found): Int8Config(recipe=recipe, ranges={name: limits}, channel_highest=inner)
            for recipe, ranges in tried.items()
            for found, limits in ranges.items()
        }
        measured = bench.errors(name, configs)
        return {recipe: {found: measured[recipe, found] for found in ranges} for recipe, ranges in tried.items()}

    if name == input_name("conv1"):  # its scale is exactly 1 grey level
        candidates: _Candidates = {recipe: {"grey levels": (0.0, float(recipe.levels))} for recipe in recipes}
        errors = measure(candidates)
    else:
        candidates = {recipe: find_candidates(histogram, recipe.levels) for recipe in recipes}
        errors = measure(candidates)
        more = {recipe: _between(candidates[recipe], errors[recipe]) for recipe in recipes}
        better = measure(more)
        candidates = {recipe: candidates[recipe] | more[recipe] for recipe in recipes}
        errors = {recipe: errors[recipe] | better[recipe] for recipe in recipes}
    counts, low, high = histogram.shrunk(_HISTOGRAM_BINS)
    return TensorRange(
        lowest=histogram.lowest,
        highest=histogram.highest,
        channel_highest=tuple(float(value) for value in highest),
        histogram=tuple(counts),
        histogram_low=low,
        histogram_high=high,
        candidates=candidates,
        errors=errors,
        choice={recipe: min(found, key=found.__getitem__) for recipe, found in errors.items()},
        parts={},
        channel_ranges={},
    )


def _try_parts(name: str, tensor: TensorRange, bench: _Bench) -> TensorRange:
    """The same tensor for the CPU with its loud channels in parts, if that is better with one of the ranges."""
    highest = np.array(tensor.channel_highest)
    candidates = dict(tensor.candidates[Recipe.CPU])
    parts, configs = {}, {}
    for found, (low, high) in tensor.candidates[Recipe.CPU].items():
        split = f"{found}, loud channels in parts"
        parts[split] = count_parts(highest, high)
        if parts[split].max() == 1:
            continue
        candidates[split] = (low, high)
        configs[split] = Int8Config(
            recipe=Recipe.CPU,
            ranges={name: (low, high)},
            channel_highest={name: highest},
            parts={name: parts[split]},
        )
    errors = tensor.errors[Recipe.CPU] | bench.errors(name, configs)
    best = min(errors, key=errors.__getitem__)
    return replace(
        tensor,
        candidates=tensor.candidates | {Recipe.CPU: candidates},
        errors=tensor.errors | {Recipe.CPU: errors},
        choice=tensor.choice | {Recipe.CPU: best},
        parts={Recipe.CPU: tuple(int(count) for count in parts[best])} if best in parts else {},
    )


def _try_channels(tensor: TensorRange, limits: NDArray[np.float64], bench: _Bench) -> TensorRange:
    """The projection's output for the CPU with a range for each channel, if that is better than one for all."""
    outer = (float(limits[:, 0].min()), float(limits[:, 1].max()))
    config = Int8Config(recipe=Recipe.CPU, ranges={LAST_OUTPUT: outer}, channel_ranges=limits)
    errors = tensor.errors[Recipe.CPU] | bench.errors(LAST_OUTPUT, {_BY_CHANNEL: config})
    best = min(errors, key=errors.__getitem__)
    rows = tuple((float(low), float(high)) for low, high in limits)
    return replace(
        tensor,
        candidates={Recipe.CPU: tensor.candidates[Recipe.CPU] | {_BY_CHANNEL: outer}},
        errors={Recipe.CPU: errors},
        choice={Recipe.CPU: best},
        channel_ranges={Recipe.CPU: rows} if best == _BY_CHANNEL else {},
    )


def _between(candidates: dict[str, tuple[float, float]], errors: dict[str, float]) -> dict[str, tuple[float, float]]:
    """Two more candidates: half way, by ratio, from the best one to the next smaller and the next larger."""
    best = min(errors, key=errors.__getitem__)
    smaller = [name for name in candidates if candidates[name][1] < candidates[best][1]]
    larger = [name for name in candidates if candidates[name][1] > candidates[best][1]]
    neighbours = []
    if smaller:
        neighbours.append(max(smaller, key=lambda name: candidates[name][1]))
    if larger:
        neighbours.append(min(larger, key=lambda name: candidates[name][1]))
    return {
        f"between {best} and {name}": (
            0.0 - sqrt(max(candidates[best][0] * candidates[name][0], 0.0)),
            sqrt(candidates[best][1] * candidates[name][1]),
        )
        for name in neighbours
    }
