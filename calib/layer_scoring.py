"""What INT8 in some layers does to the logits of calibration pictures, also of those that had no part in choosing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import onnx
from numpy.typing import NDArray

from calib.findings_schema import Findings, LogitPairs
from calib.flip_estimate import FlipEstimate, estimate_change, restore_estimate
from calib.graph_preparation import make_final_graph, prepare_graphs
from calib.pictures import PictureStore
from calib.ranges import Ranges
from calib.scoring import score_graph
from calib.sources import count_turns
from export.precision import PreparedGraph
from lfm_deploy.progress import Progress
from lfm_deploy.quantisation import Recipe

Known = Mapping[tuple[frozenset[str], bool], FlipEstimate]
"""Estimates by the layers in INT8, none for the graph without, and by whether the pictures had no part in choosing."""


def known_estimates(findings: Findings) -> Known:
    """What a search measured, for another one with the same ranges: none of it depends on the budget.

    Args:
        findings: findings of the search.
    """
    layers = frozenset(findings["layers"])
    values = {(frozenset[str](), True): findings["base"]}
    for name, layer in findings["layers"].items():
        values |= {(frozenset({name}), False): layer["only"], (layers - {name}, False): layer["without"]}
    for trial in findings["trials"]:
        values[frozenset(trial["layers"]), False] = trial["chosen_by"]
        if trial["judged_by"] is not None:
            values[frozenset(trial["layers"]), True] = trial["judged_by"]
    restored = {key: restore_estimate(value) for key, value in values.items()}
    return {key: estimate for key, estimate in restored.items() if estimate is not None}


@dataclass(frozen=True, slots=True)
class PreparedFolds:
    """One graph prepared with all pictures, and the same without each fold's.

    Attributes:
        whole: graph that all pictures chose.
        without: graphs that all pictures but those of a fold chose, by fold.
    """

    whole: PreparedGraph
    without: tuple[PreparedGraph, ...]


def prepare_folds(
    reference: onnx.ModelProto,
    base: onnx.ModelProto,
    ranges: Ranges,
    store: PictureStore,
    recipe: Recipe,
    on_progress: Progress,
) -> PreparedFolds:
    """Prepare a graph for INT8 with all pictures, and without each fold.

    Args:
        reference: float32 graph.
        base: graph to quantise, typed as the recipe wants it.
        ranges: calibration.
        store: pictures of the ranges, in their order.
        recipe: machine that the graphs are for.
        on_progress: function that is given the name of a step, how much of it is done, and of how much.
    """
    on_progress("rounding weights", 0, 1)
    whole, *without = prepare_graphs(reference, base, ranges, store, recipe)
    on_progress("rounding weights", 1, 1)
    return PreparedFolds(whole, tuple(without))


class LayerScorer:
    """Scores graphs on the pictures of a calibration and compares them with the float32 reference."""

    def __init__(
        self,
        reference: onnx.ModelProto,
        store: PictureStore,
        ranges: Ranges,
        recipe: Recipe,
        known: Known = MappingProxyType({}),
    ) -> None:
        """Score the reference, which everything else is compared with.

        Args:
            reference: float32 graph.
            store: pictures of the ranges, in their order.
            ranges: calibration that says which picture is of which source and fold.
            recipe: machine that the graphs to be scored are for.
            known: estimates that need not be measured again.
        """
        self._known = known
        self._store = store
        self._fuse_integers = recipe is Recipe.CPU
        self._threshold, self._uncertain_above = ranges.contract.decision
        self._sources = [picture.source for picture in ranges.pictures]
        self._folds = np.array([picture.fold for picture in ranges.pictures])
        self._everything = np.arange(len(ranges.pictures))
        self._half = np.flatnonzero(np.array(count_turns(self._sources)) % 2 == 0)
        self._reference = self._score(reference, self._everything)
        self._measured: dict[tuple[frozenset[str], bool], NDArray[np.float32]] = {}
        given = [picture.label for picture in ranges.pictures]
        # Pictures without labels: the checkpoint's own decisions stand for them, so every flip is a loss.
        self._labels = (
            np.array(given, dtype=np.int64)
            if None not in given
            else (self._reference > self._threshold).astype(np.int64)
        )

    def estimate(self, model: onnx.ModelProto) -> FlipEstimate:
        """What the graph without INT8 changes, in which no picture had a part."""
        found = self._find_known((), unseen=True)
        return found or self._compare(self._score(model, self._everything), self._everything)

    def estimate_layers(self, prepared: PreparedFolds, layers: Sequence[str], *, unseen: bool) -> FlipEstimate:
        """What INT8 in these layers changes; each choice is measured once.

        Args:
            prepared: graphs from ``prepare_folds``.
            layers: names of the layers in INT8.
            unseen: True for all pictures, each with the graph that was chosen without it; False for a first look, at
                every second picture with the graph that all chose.
        """
        if found := self._find_known(layers, unseen=unseen):
            return found
        indices = self._everything if unseen else self._half
        return self._compare(self._int8_logits(prepared, layers, unseen=unseen), indices)

    def pairs(self, prepared: PreparedFolds, layers: Sequence[str]) -> LogitPairs:
        """Reference and INT8 logits of all pictures, each of the graph that was chosen without it, with labels."""
        return {
            "reference": [round(float(value), 4) for value in self._reference],
            "int8": [round(float(value), 4) for value in self._int8_logits(prepared, layers, unseen=True)],
            "labels": [int(label) for label in self._labels],
        }

    def _find_known(self, layers: Sequence[str], *, unseen: bool) -> FlipEstimate | None:
        """What need not be measured again; an earlier version left a band out."""
        found = self._known.get((frozenset(layers), unseen))
        return None if found is None or (found.band is None) != (self._uncertain_above is None) else found

    def _int8_logits(self, prepared: PreparedFolds, layers: Sequence[str], *, unseen: bool) -> NDArray[np.float32]:
        key = frozenset(layers), unseen
        if key in self._measured:
            return self._measured[key]
        if unseen:
            logits = np.empty_like(self._reference)
            for fold, graph in enumerate(prepared.without):
                indices = np.flatnonzero(self._folds == fold)
                logits[indices] = self._score(make_final_graph(graph, layers), indices)
        else:
            logits = self._score(make_final_graph(prepared.whole, layers), self._half)
        self._measured[key] = logits
        return logits

    def _score(self, model: onnx.ModelProto, indices: NDArray[np.intp]) -> NDArray[np.float32]:
        return score_graph(model, self._store, indices.tolist(), fuse_integers=self._fuse_integers)

    def _compare(self, logits: NDArray[np.float32], indices: NDArray[np.intp]) -> FlipEstimate:
        sources = [self._sources[index] for index in indices]
        return estimate_change(
            logits,
            self._reference[indices],
            self._labels[indices],
            self._threshold,
            sources,
            uncertain_above=self._uncertain_above,
        )
