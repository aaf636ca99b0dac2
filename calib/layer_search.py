"""Which layers may be INT8: as much work as the accuracy budget allows, decided by pictures that chose nothing."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from calib.activations import ActivationReader, collect_moments
from calib.flip_estimate import FlipEstimate, as_number, estimate_change
from calib.noise import measure_snr
from calib.pictures import PictureStore
from calib.ranges import CHOOSE, JUDGE, Ranges
from calib.scoring import score_graph
from export.names import LAST_OUTPUT, find_convolutions, input_name
from export.precision import Int8Config, PreparedGraph, make_int8_graph, prepare_int8
from export.unfolding import can_unfold, unfold_first_layer
from lfm_deploy.config import ModelConfig
from lfm_deploy.contract import usual_side
from lfm_deploy.errors import ConfigError, GateError
from lfm_deploy.progress import Progress, ignore_progress
from lfm_deploy.quantisation import Budget, Recipe

# A network of nine layers has 511 assignments; those with the most INT8 work come first.
_MOST_TRIALS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """What INT8 in one layer does on the pictures that choose.

    Attributes:
        only: with this layer alone in INT8.
        without: with every layer but this one in INT8.
    """

    only: FlipEstimate
    without: FlipEstimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One assignment that was tried.

    Attributes:
        layers: those in INT8.
        int8_share: of the multiply-adds.
        chosen_by, judged_by: estimates on the pictures that choose and, if it held there, on those that judge.
        broken: what of the budget it broke, in words; empty if it held.
    """

    layers: tuple[str, ...]
    int8_share: float
    chosen_by: FlipEstimate
    judged_by: FlipEstimate | None
    broken: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        judged = None if self.judged_by is None else self.judged_by.as_dict()
        return asdict(self) | {"chosen_by": self.chosen_by.as_dict(), "judged_by": judged}


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What a search found.

    Attributes:
        recipe, budget, layers_asked: what it was asked for.
        base: the graph without INT8, on the pictures that judge.
        sensitivities: by layer.
        trials: in the order in which they were tried.
        layers: those in INT8 in the end; empty where nothing held.
        int8_share: of the multiply-adds.
        within_budget: whether they hold the budget.
        reasons: for each layer, why it has its precision.
        multiply_adds: of each layer, for one picture.
        snr_db: by layer, power of its input over the power of the error that arrives there, in dB.
        logits: reference and INT8 logits and labels of the pictures that judge, for plots.
        model: the graph; None where nothing held.
    """

    recipe: Recipe
    budget: Budget
    layers_asked: str
    base: FlipEstimate
    sensitivities: dict[str, Sensitivity]
    trials: tuple[Trial, ...]
    layers: tuple[str, ...]
    int8_share: float
    within_budget: bool
    reasons: dict[str, str]
    multiply_adds: dict[str, int]
    snr_db: dict[str, float]
    logits: dict[str, list[float]]
    model: onnx.ModelProto | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the graph; an SNR without any noise is None."""
        precisions = {layer: "int8" if layer in self.layers else self.recipe.base for layer in self.multiply_adds}
        return {
            "recipe": str(self.recipe),
            "budget": self.budget.as_dict(),
            "layers_asked": self.layers_asked,
            "within_budget": self.within_budget,
            "int8_share": self.int8_share,
            "layers": {
                layer: {
                    "precision": precision,
                    "why": self.reasons[layer],
                    "multiply_adds": self.multiply_adds[layer],
                    "only": self.sensitivities[layer].only.as_dict(),
                    "without": self.sensitivities[layer].without.as_dict(),
                }
                | ({"snr_db": as_number(self.snr_db[layer])} if layer in self.snr_db else {})
                for layer, precision in precisions.items()
            },
            "base": self.base.as_dict(),
            "trials": [trial.as_dict() for trial in self.trials],
            "logits": self.logits,
        }


class BudgetError(GateError):
    """No assignment with INT8 holds the budget; ``result`` has the table."""

    def __init__(self, message: str, result: SearchResult) -> None:
        super().__init__(message)
        self.result = result


class _Scorer:
    """Scores graphs on the two parts of the pictures and compares them with the float32 reference."""

    def __init__(self, reference: onnx.ModelProto, store: PictureStore, ranges: Ranges, recipe: Recipe) -> None:
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

    def pairs(self, prepared: PreparedGraph, layers: Sequence[str]) -> dict[str, list[float]]:
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
            self._measured[key] = self.logits(_make(prepared, layers), part)
        return self._measured[key]

    def _compare(self, logits: NDArray[np.float32], part: str) -> FlipEstimate:
        return estimate_change(logits, self._reference[part], self._labels[part], self._threshold)


def search_layers(
    reference: onnx.ModelProto,
    base: onnx.ModelProto,
    config: ModelConfig,
    ranges: Ranges,
    store: PictureStore,
    recipe: Recipe,
    budget: Budget,
    *,
    layers_asked: str = "search",
    on_progress: Progress = ignore_progress,
) -> SearchResult:
    """Find the INT8 layers with the most multiply-adds that hold a budget.

    Args:
        reference: the float32 graph.
        base: the graph to quantise, typed as the recipe wants it.
        config: the architecture.
        ranges: from ``calibrate``.
        store: the pictures of the ranges, in their order.
        recipe: for which machine.
        budget: what must hold on the pictures that judge.
        layers_asked: ``"search"``; the names of layers, with commas, to try no others; or ``"all"`` to take every
            layer whatever comes out.
        on_progress: called with what is done, how much, and of how much.

    Raises:
        ConfigError: a layer has another name.
        BudgetError: the graph without INT8 breaks the budget, or every assignment with INT8 does.
    """
    side = usual_side(ranges.contract.size)
    counts = config.multiply_adds(side, side)
    asked = _choices(layers_asked, counts)
    scorer = _Scorer(reference, store, ranges, recipe)
    prepared = prepare(reference, base, ranges, store, scorer.parts[CHOOSE], recipe)
    without_int8 = scorer.estimate(base, JUDGE)
    sensitivities = _measure_sensitivities(prepared, config.layers, scorer, on_progress)
    trials: list[Trial] = []
    base_broken = without_int8.broken(budget)
    for index, layers in enumerate(asked if layers_asked == "all" or not base_broken else []):
        on_progress("trying assignments", index, len(asked))
        trials.append(_try(prepared, layers, _share(layers, counts), scorer, budget))
        if not trials[-1].broken:
            break
    on_progress("trying assignments", len(asked), len(asked))
    held = bool(trials) and not trials[-1].broken and not base_broken
    layers = trials[-1].layers if held or layers_asked == "all" else ()
    model = _make(prepared, layers) if layers else None
    result = SearchResult(
        recipe=recipe,
        budget=budget,
        layers_asked=layers_asked,
        base=without_int8,
        sensitivities=sensitivities,
        trials=tuple(trials),
        layers=layers,
        int8_share=_share(layers, counts),
        within_budget=held,
        reasons=_explain(config.layers, layers, trials, layers_asked),
        multiply_adds=counts,
        snr_db={} if model is None else measure_snr(prepared, layers, store, scorer.parts[CHOOSE]),
        logits={} if model is None else scorer.pairs(prepared, layers),
        model=model,
    )
    if base_broken and layers_asked != "all":
        raise BudgetError(
            f"even the {recipe.base} graph breaks the budget {budget}: {'; '.join(base_broken)}; allow more with "
            "--budget, or ship FP32",
            result,
        )
    if model is None:
        raise BudgetError(
            f"{'no choice of INT8 layers' if layers_asked == 'search' else f'INT8 in {layers_asked} never'} holds the "
            f"budget {budget} on {without_int8.pictures} pictures that chose nothing; ship FP16, allow more with "
            "--budget, or calibrate on more pictures",
            result,
        )
    return result


def prepare(
    reference: onnx.ModelProto,
    base: onnx.ModelProto,
    ranges: Ranges,
    store: PictureStore,
    chooses: Sequence[int],
    recipe: Recipe,
) -> PreparedGraph:
    """The base graph with ranges, gains and rounded weights of a calibration, for any choice of layers."""
    limits = {name: tensor.chosen(recipe) for name, tensor in ranges.tensors.items() if recipe in tensor.choice}
    convolutions = find_convolutions(reference)
    weights = {tensor.name: tensor.dims for tensor in reference.graph.initializer}
    taps = {node.input[0]: weights[node.input[1]][2] for node in convolutions}
    reader = ActivationReader(reference, list(taps))
    parts = {name: np.array(tensor.parts[recipe]) for name, tensor in ranges.tensors.items() if recipe in tensor.parts}
    by_channel = ranges.tensors[LAST_OUTPUT].channel_ranges.get(recipe)
    kept = {name: (low, high * parts.get(name, np.ones(1)).reshape(-1, 1, 1)) for name, (low, high) in limits.items()}
    moments = collect_moments(reader, store.batches(chooses), taps, kept, ranges.seed)
    return prepare_int8(
        base,
        Int8Config(
            recipe=recipe,
            ranges=limits,
            channel_highest={
                name: np.array(tensor.channel_highest)
                for name, tensor in ranges.tensors.items()
                if name not in (input_name("conv1"), LAST_OUTPUT)
            },
            parts=parts,
            channel_ranges=None if by_channel is None else np.array(by_channel),
            moments={node.name: moments[node.input[0]] for node in convolutions},
        ),
    )


def _make(prepared: PreparedGraph, layers: Sequence[str]) -> onnx.ModelProto:
    """The INT8 graph as it will be handed over: for the CPU with its first layer unfolded."""
    model = make_int8_graph(prepared, layers)
    return unfold_first_layer(model) if prepared.config.recipe is Recipe.CPU and can_unfold(model) else model


def _measure_sensitivities(
    prepared: PreparedGraph, layers: tuple[str, ...], scorer: _Scorer, on_progress: Progress
) -> dict[str, Sensitivity]:
    found = {}
    for index, layer in enumerate(layers):
        on_progress("measuring layers", index, len(layers))
        others = [other for other in layers if other != layer]
        found[layer] = Sensitivity(
            only=scorer.estimate_layers(prepared, [layer], CHOOSE),
            without=scorer.estimate_layers(prepared, others, CHOOSE),
        )
    return found


def _try(prepared: PreparedGraph, layers: tuple[str, ...], share: float, scorer: _Scorer, budget: Budget) -> Trial:
    first = scorer.estimate_layers(prepared, layers, CHOOSE)
    broken = first.broken(budget)
    second = None
    if not broken:
        second = scorer.estimate_layers(prepared, layers, JUDGE)
        broken = second.broken(budget)
    return Trial(layers=layers, int8_share=share, chosen_by=first, judged_by=second, broken=tuple(broken))


def _choices(layers_asked: str, counts: dict[str, int]) -> list[tuple[str, ...]]:
    """The choices to try, in order, without the one that has no layer."""
    if layers_asked == "search":
        return list(itertools.islice(_by_work(counts), _MOST_TRIALS))
    if layers_asked == "all":
        return [tuple(counts)]
    names = [name.strip() for name in layers_asked.split(",")]
    unknown = [name for name in names if name not in counts]
    if unknown:
        raise ConfigError(f"--layers {layers_asked}: no layer {unknown[0]!r}; there are {', '.join(counts)}")
    return [tuple(name for name in counts if name in names)]


def _by_work(counts: dict[str, int]) -> Iterator[tuple[str, ...]]:
    """Every choice of one layer or more, the one with the most multiply-adds first."""
    layers = list(counts)
    choices = [part for size in range(1, len(layers) + 1) for part in itertools.combinations(layers, size)]
    return iter(sorted(choices, key=lambda part: -sum(counts[layer] for layer in part)))


def _share(layers: Sequence[str], counts: dict[str, int]) -> float:
    return sum(counts[layer] for layer in layers) / sum(counts.values())


def _explain(names: tuple[str, ...], layers: tuple[str, ...], trials: list[Trial], layers_asked: str) -> dict[str, str]:
    """One reason for each layer."""
    if layers_asked != "search":
        return dict.fromkeys(names, f"--layers {layers_asked}")
    by_layers = {frozenset(trial.layers): trial for trial in trials}
    reasons = {}
    for name in names:
        if name in layers:
            reasons[name] = "in the largest choice that holds the budget"
            continue
        added = by_layers.get(frozenset({*layers, name}))
        reasons[name] = f"with it: {added.broken[0]}" if added and added.broken else "no choice with it holds"
    return reasons
