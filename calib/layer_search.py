"""Which layers may be INT8: as much work as the budget allows, judged by sources of pictures that chose nothing."""

import itertools
from collections.abc import Iterator, Sequence
from types import MappingProxyType

import onnx

from calib.graph_preparation import make_final_graph
from calib.layer_choice import BudgetError, LayerChoice, Sensitivity, Trial
from calib.layer_scoring import Known, LayerScorer, PreparedFolds, prepare_folds
from calib.layer_times import LayerTimes
from calib.noise import measure_snr
from calib.pictures import PictureStore
from calib.ranges import Ranges
from lfm_deploy.config import ModelConfig
from lfm_deploy.contract import usual_side
from lfm_deploy.errors import ConfigError
from lfm_deploy.progress import Progress, ignore_progress
from lfm_deploy.quantisation import Budget, Recipe

# A network of nine layers has 511 assignments; those with the most INT8 work come first.
_MOST_TRIALS = 64
# Nothing is decided by the ratios, so that a quarter of the pictures will do.
_SNR_STRIDE = 4


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
    times: LayerTimes | None = None,
    known: Known = MappingProxyType({}),
    on_progress: Progress = ignore_progress,
) -> LayerChoice:
    """Find the INT8 layers with the most multiply-adds, or the fastest, that hold a budget.

    Args:
        reference: the float32 graph.
        base: the graph to quantise, typed as the recipe wants it.
        config: the architecture.
        ranges: ranges from ``calibrate``.
        store: the pictures of the ranges, in their order.
        recipe: kind of machine that the graph is for: ``tensorrt`` or ``cpu``.
        budget: limit that must hold on pictures of sources that chose nothing.
        layers_asked: ``"search"``; the names of layers, with commas, to try no others; or ``"all"`` to take every
            layer whatever comes out.
        times: times of engines, for a search that begins with the fastest choice and leaves out what is no faster than
            without INT8; None begins with the most multiply-adds.
        known: estimates of an earlier search with the same ranges, which are not measured again.
        on_progress: function that is given the name of a step, how much of it is done, and of how much.

    Raises:
        ConfigError: a layer has another name.
        BudgetError: the graph without INT8 breaks the budget, or every assignment with INT8 does.
        NoGainError: no choice is faster than without INT8.
    """
    side = usual_side(ranges.contract.size)
    counts = config.multiply_adds(side, side)
    asked = _choices(layers_asked, counts)
    scorer = LayerScorer(reference, store, ranges, recipe, known)
    prepared = prepare_folds(reference, base, ranges, store, recipe, on_progress)
    without_int8 = scorer.estimate(base)
    base_broken = bool(without_int8.broken(budget))
    if times is not None and layers_asked == "search" and not base_broken:
        asked = times.arrange(asked, lambda layers: make_final_graph(prepared.whole, layers), on_progress)
    sensitivities = _measure_sensitivities(prepared, config.layers, scorer, on_progress)
    promising = asked if layers_asked == "all" or not base_broken else []
    trials = _try_until_one_holds(promising, counts, prepared, scorer, budget, on_progress)
    held = bool(trials) and not trials[-1].broken and not base_broken
    layers = trials[-1].layers if held or layers_asked == "all" else ()
    model = make_final_graph(prepared.whole, layers) if layers else None
    result = LayerChoice(
        recipe=recipe,
        budget=budget,
        layers_asked=layers_asked,
        base=without_int8,
        sensitivities=sensitivities,
        trials=tuple(trials),
        layers=layers,
        int8_share=_share(layers, counts),
        within_budget=held,
        reasons=_explain(config.layers, layers, trials, layers_asked, by_time=times is not None),
        multiply_adds=counts,
        at_best=[] if model is None or times is None else times.compare(model),
        snr_db={} if model is None else measure_snr(prepared.whole, layers, store, range(0, len(store), _SNR_STRIDE)),
        logits=None if model is None else scorer.pairs(prepared, layers),
        model=model,
    )
    _check_that_one_held(result, by_time=times is not None)
    return result


def _measure_sensitivities(
    prepared: PreparedFolds, layers: tuple[str, ...], scorer: LayerScorer, on_progress: Progress
) -> dict[str, Sensitivity]:
    found = {}
    for index, layer in enumerate(layers):
        on_progress("measuring layers", index, len(layers))
        others = [other for other in layers if other != layer]
        found[layer] = Sensitivity(
            only=scorer.estimate_layers(prepared, [layer], unseen=False),
            without=scorer.estimate_layers(prepared, others, unseen=False),
        )
    return found


def _try_until_one_holds(
    asked: Sequence[tuple[str, ...]],
    counts: dict[str, int],
    prepared: PreparedFolds,
    scorer: LayerScorer,
    budget: Budget,
    on_progress: Progress,
) -> list[Trial]:
    """Trials in their order; the last one holds the budget, or none does."""
    trials: list[Trial] = []
    for index, layers in enumerate(asked):
        on_progress("trying assignments", index, len(asked))
        trials.append(_try(prepared, layers, _share(layers, counts), scorer, budget))
        if not trials[-1].broken:
            break
    on_progress("trying assignments", len(asked), len(asked))
    return trials


def _try(prepared: PreparedFolds, layers: tuple[str, ...], share: float, scorer: LayerScorer, budget: Budget) -> Trial:
    first = scorer.estimate_layers(prepared, layers, unseen=False)
    broken = first.broken(budget)
    second = None
    if not broken:
        second = scorer.estimate_layers(prepared, layers, unseen=True)
        broken = second.broken(budget)
    return Trial(layers=layers, int8_share=share, chosen_by=first, judged_by=second, broken=tuple(broken))


def _check_that_one_held(result: LayerChoice, *, by_time: bool) -> None:
    """Refuse a search that found nothing, unless every layer was asked for whatever comes out."""
    budget, asked, base_broken = result.budget, result.layers_asked, result.base.broken(result.budget)
    if base_broken and asked != "all":
        raise BudgetError(
            f"even the {result.recipe.base} graph breaks the budget {budget}: {'; '.join(base_broken)}; allow more "
            "with --budget, or ship FP32",
            result,
        )
    if result.model is None:
        raise BudgetError(
            f"{_tried(asked, by_time)} holds the budget "
            f"{budget} on sources of pictures that chose nothing; ship {result.recipe.base.upper()}, allow more with "
            "--budget, or calibrate on more pictures",
            result,
        )


def _tried(asked: str, by_time: bool) -> str:
    if asked != "search":
        return f"INT8 in {asked} never"
    return f"no choice of INT8 layers{' that is faster than FP16' if by_time else ''}"


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


def _explain(
    names: tuple[str, ...], layers: tuple[str, ...], trials: list[Trial], layers_asked: str, *, by_time: bool
) -> dict[str, str]:
    """One reason for each layer."""
    if layers_asked != "search":
        return dict.fromkeys(names, f"--layers {layers_asked}")
    by_layers = {frozenset(trial.layers): trial for trial in trials}
    reasons = {}
    for name in names:
        if name in layers:
            reasons[name] = f"in the {'fastest' if by_time else 'largest'} choice that holds the budget"
            continue
        added = by_layers.get(frozenset({*layers, name}))
        failed = "no choice with it is faster and holds" if by_time else "no choice with it holds"
        reasons[name] = f"with it: {added.broken[0]}" if added and added.broken else failed
    return reasons
