"""What INT8 in some layers does to logits, on the pictures that choose and on those that judge."""

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from calib.findings_schema import LogitPairs
from calib.flip_estimate import FlipEstimate, estimate_change
from calib.graph_preparation import make_final_graph
from calib.pictures import PictureStore
from calib.ranges import CHOOSE, JUDGE, Ranges
from calib.scoring import score_graph
from export.precision import PreparedGraph
from lfm_deploy.quantisation import Recipe


class LayerScorer:
    """Scores graphs on the two parts of the pictures and compares them with the float32 reference."""

    def __init__(self, reference: onnx.ModelProto, store: PictureStore, ranges: Ranges, recipe: Recipe) -> None:
        """Score the reference, which everything else is compared with.

        Args:
            reference: float32 graph.
            store: pictures of the ranges, in their order.
            ranges: calibration that says which pictures choose and which judge.
            recipe: machine that the graphs to be scored are for.
        """
        self._store = store
        self._fuse_integers = recipe is Recipe.CPU
        self._threshold = ranges.contract.threshold
        self.parts = {
            part: [index for index, picture in enumerate(ranges.pictures) if picture.part == part]
            for part in (CHOOSE, JUDGE)
        }
        self._reference = {part: self.logits(reference, part) for part in self.parts}
        self._measured: dict[tuple[frozenset[str], str], NDArray[np.float32]] = {}
        given = [picture.label for picture in ranges.pictures]
        # Pictures without labels: the checkpoint's own decisions stand for them, so every flip is a loss.
        self._labels = {
            part: np.array([given[index] for index in indices], dtype=np.int64)
            if None not in given
            else (self._reference[part][0] > self._threshold).astype(np.int64)
            for part, indices in self.parts.items()
        }

    def logits(self, model: onnx.ModelProto, part: str) -> NDArray[np.float32]:
        """Logits ``(views, N)``: each picture, and where it judges also its mirror image, as training shows them."""
        views = (False, True) if part == JUDGE else (False,)
        return np.stack([self._score(model, part, mirrored=view) for view in views])

    def _score(self, model: onnx.ModelProto, part: str, *, mirrored: bool) -> NDArray[np.float32]:
        return score_graph(model, self._store, self.parts[part], mirrored=mirrored, fuse_integers=self._fuse_integers)

    def estimate(self, model: onnx.ModelProto, part: str) -> FlipEstimate:
        """What a graph changes on one part of the pictures."""
        return self._compare(self.logits(model, part), part)

    def estimate_layers(self, prepared: PreparedGraph, layers: Sequence[str], part: str) -> FlipEstimate:
        """What INT8 in these layers changes on one part of the pictures; each choice is measured once."""
        return self._compare(self._int8_logits(prepared, layers, part), part)

    def pairs(self, prepared: PreparedGraph, layers: Sequence[str]) -> LogitPairs:
        """Reference and INT8 logits of the pictures that judge, unmirrored, with labels."""
        mine = self._int8_logits(prepared, layers, JUDGE)[0]
        return {
            "reference": [round(float(value), 4) for value in self._reference[JUDGE][0]],
            "int8": [round(float(value), 4) for value in mine],
            "labels": [int(label) for label in self._labels[JUDGE]],
        }

    def _int8_logits(self, prepared: PreparedGraph, layers: Sequence[str], part: str) -> NDArray[np.float32]:
        key = frozenset(layers), part
        if key not in self._measured:
            self._measured[key] = self.logits(make_final_graph(prepared, layers), part)
        return self._measured[key]

    def _compare(self, logits: NDArray[np.float32], part: str) -> FlipEstimate:
        return estimate_change(logits, self._reference[part], self._labels[part], self._threshold)
