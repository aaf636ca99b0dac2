"""One tensor under study: what each way of choosing its range does to the logits, and which way is best."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Self

import numpy as np
import onnx
from numpy.typing import NDArray

from calib.activations import TensorStatistics
from calib.candidates import find_candidates
from calib.kept_tensor import KeptTensor
from calib.pictures import PictureStore
from calib.ranges import CalibrationPicture, KeptRange, TensorRange
from calib.scoring import score_graph
from calib.sources import count_turns
from engines.ort import open_session
from export.equalisation import align_gains, choose_gains
from export.precision import Int8Config
from export.simulation import simulate_tensor
from lfm_deploy.quantisation import Recipe

_HISTOGRAM_BINS = 128
# Every fifth picture of a source is looked at first; ways with twice the best one's error there are looked at no more.
_FIRST_LOOK, _FAR = 5, 2.0


class RangeBench:
    """Measures what quantising one tensor does to the logits of calibration pictures; a context manager.

    Each tensor is computed once, from the one that was measured before it where that lies in front of it, so that it is
    cheapest to ask for the tensors in their order in the network, and for all ways of one before the next.
    """

    def __init__(self, base: onnx.ModelProto, store: PictureStore) -> None:
        """Score the graph without INT8, which everything else is compared with.

        Args:
            base: float32 graph.
            store: calibration pictures.
        """
        self._base = onnx.shape_inference.infer_shapes(base)
        self._store = store
        self._reference = score_graph(base, store, range(len(store)))
        self._held: list[KeptTensor] = []

    def __enter__(self) -> Self:
        """Use it in a ``with`` statement."""
        return self

    def __exit__(self, *_: object) -> None:
        """Delete what is kept of the tensors."""
        for tensor in self._held:
            tensor.close()

    def measure(self, name: str, configs: Sequence[Int8Config], pictures: NDArray[np.intp]) -> NDArray[np.float64]:
        """|Δlogit| of pictures with a tensor alone quantised.

        Args:
            name: name of the tensor.
            configs: ways to quantise it.
            pictures: indices of the pictures ``(N,)``.

        Returns:
            float64 ``(len(configs), N)``.
        """
        tensor = self._hold(name)
        sessions = [
            open_session(
                simulate_tensor(self._base, config, name).SerializeToString(), f"{name}, quantised", spin=False
            )
            for config in configs
        ]
        logits: list[list[NDArray[np.float32]]] = [[] for _ in configs]
        # Many sessions hold memory, so they get one picture at a time.
        for index in pictures.tolist():
            values = tensor.read(index)
            for found, session in zip(logits, sessions, strict=True):
                found.append(session.run(["logit"], {name: values})[0])
        return np.abs([np.concatenate(found).astype(np.float64) - self._reference[pictures] for found in logits])

    def _hold(self, name: str) -> KeptTensor:
        """A tensor of the pictures; of those before it only the last one's values stay on disk."""
        names = [tensor.name for tensor in self._held]
        if name not in names:
            for tensor in self._held[:-1]:
                tensor.close()
            self._held.append(KeptTensor(self._base, name, self._held[-1] if self._held else self._store))
            return self._held[-1]
        return self._held[names.index(name)]


class View:
    """A tensor on some of the pictures, with the ranges that tools would choose for it there.

    Attributes:
        statistics: counts and extremes of the tensor's values.
        resting: value of each channel where a picture has no detail ``(C,)``.
        selected: counts and extremes of the values that Top-K pooling selects; None where it selects none.
    """

    def __init__(
        self, statistics: TensorStatistics, resting: NDArray[np.float32], selected: TensorStatistics | None = None
    ) -> None:
        """Take statistics."""
        self.statistics, self.resting, self.selected = statistics, resting, selected
        self.ranges = cache(lambda levels: find_candidates(statistics.histogram, levels))

    def keep(self, recipe: Recipe, low: float, high: float, *, equalise: bool = True) -> KeptRange:
        """One range for all channels, which are equalised where they have a ReLU in front of them."""
        highest = self.statistics.channel_highest
        gains = (
            choose_gains(highest, high) if equalise and low >= 0 and self.selected is None else np.ones(len(highest))
        )
        return KeptRange(low=low, high=high, gains=self.align(recipe, gains, high) if equalise else as_tuple(gains))

    def align(self, recipe: Recipe, gains: NDArray[np.float64], high: float) -> tuple[float, ...]:
        """Gains that put what each channel rests at on a step; float16 would round them, so those of TensorRT stay."""
        if recipe is Recipe.CPU and self.selected is None:
            gains = align_gains(gains, np.maximum(self.resting, 0), high, recipe.levels)
        return as_tuple(gains)


def as_tuple(values: NDArray[np.floating]) -> tuple[float, ...]:
    """Plain floats."""
    return tuple(float(value) for value in values)


Way = Callable[[View], KeptRange]
"""A way of choosing what is kept of a tensor, given what it does on some pictures."""


@dataclass(slots=True)
class _Tried:
    way: Way
    errors: NDArray[np.float64]  # of each picture; NaN where it was not measured


class TensorStudy:
    """The ways that were tried for one tensor, by recipe.

    A way is as good as it is on the source where it is worst: on average over the sources at hand, ranges that cut off
    more came out best, and were worse on pictures of other generators.
    """

    def __init__(
        self,
        name: str,
        recipes: Sequence[Recipe],
        whole: View,
        folds: Sequence[View],
        pictures: Sequence[CalibrationPicture],
    ) -> None:
        """Begin with no way.

        Args:
            name: name of the tensor.
            recipes: recipes that it is quantised for.
            whole: the tensor on all pictures.
            folds: the tensor on all pictures but those of a fold, by fold.
            pictures: pictures of the calibration.
        """
        self.name, self.recipes, self.whole = name, tuple(recipes), whole
        self._folds = folds
        self._fold_of = np.array([picture.fold for picture in pictures])
        sources = [picture.source for picture in pictures]
        self._sources = np.unique(sources, return_inverse=True)[1]
        self._turns = np.array(count_turns(sources))
        self._tried: dict[Recipe, dict[str, _Tried]] = {recipe: {} for recipe in recipes}

    def attempt(self, ways: dict[Recipe, dict[str, Way]], bench: RangeBench) -> None:
        """Measure more ways: all on some pictures, and on the others those that are not far from the best."""
        flat = [(recipe, name, way) for recipe, found in ways.items() for name, way in found.items()]
        configs = [describe_kept(self.name, way(self.whole), recipe) for recipe, _, way in flat]
        first = self._turns % _FIRST_LOOK == 0
        errors = np.full((len(flat), len(first)), np.nan)
        errors[:, first] = bench.measure(self.name, configs, np.flatnonzero(first))
        means = np.nanmean(errors, axis=1)
        best = {
            recipe: min(means[at] for at, way in enumerate(flat) if way[0] is recipe) for recipe in ways if ways[recipe]
        }
        promising = [at for at, (recipe, _, _) in enumerate(flat) if means[at] <= _FAR * best[recipe]]
        errors[np.ix_(promising, ~first)] = bench.measure(
            self.name, [configs[at] for at in promising], np.flatnonzero(~first)
        )
        for at, (recipe, name, way) in enumerate(flat):
            self._tried[recipe][name] = _Tried(way, errors[at])

    def errors(self, recipe: Recipe, without_fold: int | None = None) -> dict[str, float]:
        """|Δlogit| of each way, as a mean over the source where that is largest, of those that a fold keeps."""
        counted = np.ones(len(self._sources), bool) if without_fold is None else self._fold_of != without_fold
        return {name: round(self._worst_mean(tried.errors, counted), 6) for name, tried in self._tried[recipe].items()}

    def _worst_mean(self, errors: NDArray[np.float64], counted: NDArray[np.bool_]) -> float:
        counted = counted & ~np.isnan(errors)
        if not counted.any():
            return float("inf")  # it was given up by what a fold leaves out
        sums = np.bincount(self._sources[counted], errors[counted])
        counts = np.bincount(self._sources[counted])
        return float((sums[counts > 0] / counts[counts > 0]).max())

    def best(self, recipe: Recipe, without_fold: int | None = None) -> str:
        """Name of the way with the smallest error."""
        errors = self.errors(recipe, without_fold)
        return min(errors, key=errors.__getitem__)

    def keep(self, recipe: Recipe, fold: int | None = None) -> KeptRange:
        """What the best way keeps; of a fold, what it is without that fold's pictures."""
        view = self.whole if fold is None else self._folds[fold]
        return self._tried[recipe][self.best(recipe, fold)].way(view)

    def result(self) -> TensorRange:
        """All of it for ``ranges.json``."""
        histogram = self.whole.statistics.histogram
        counts, low, high = histogram.shrunk(_HISTOGRAM_BINS)
        limits = {
            recipe: {name: (kept.low, kept.high) for name, kept in self._kept_by_way(recipe).items()}
            for recipe in self.recipes
        }
        return TensorRange(
            lowest=histogram.lowest,
            highest=histogram.highest,
            channel_highest=as_tuple(self.whole.statistics.channel_highest),
            histogram=tuple(counts),
            histogram_low=low,
            histogram_high=high,
            candidates=limits,
            errors={recipe: self.errors(recipe) for recipe in self.recipes},
            choice={recipe: self.best(recipe) for recipe in self.recipes},
            kept={recipe: self.keep(recipe) for recipe in self.recipes},
        )

    def _kept_by_way(self, recipe: Recipe) -> dict[str, KeptRange]:
        return {name: tried.way(self.whole) for name, tried in self._tried[recipe].items()}


def describe_kept(name: str, kept: KeptRange, recipe: Recipe) -> Int8Config:
    """What is kept of one tensor, as the settings of a quantisation."""
    return describe_all({name: {recipe: kept}}, recipe)


def describe_all(kept: dict[str, dict[Recipe, KeptRange]], recipe: Recipe) -> Int8Config:
    """What is kept of tensors, as the settings of a quantisation without moments."""
    own = {name: ranges[recipe] for name, ranges in kept.items() if recipe in ranges}
    by_channel = [np.array(found.channel_ranges) for found in own.values() if found.channel_ranges]
    return Int8Config(
        recipe=recipe,
        ranges={name: (found.low, found.high) for name, found in own.items()},
        gains={name: np.array(found.gains) for name, found in own.items() if set(found.gains) != {1.0}},
        parts={name: np.array(found.parts) for name, found in own.items() if found.parts},
        channel_ranges=by_channel[0] if by_channel else None,
    )
