"""Which layers are INT8: a choice, what was tried on the way to it, and that none holds the budget."""

from dataclasses import dataclass

import onnx

from calib.findings_schema import CardSpeedValues, Findings, LayerValues, LogitPairs, TrialValues
from calib.flip_estimate import FlipEstimate, as_number
from lfm_deploy.errors import GateError
from lfm_deploy.quantisation import Budget, Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """What INT8 in one layer does to the pictures that chose its range.

    Attributes:
        only: estimate with this layer alone in INT8.
        without: estimate with every layer but this one in INT8.
    """

    only: FlipEstimate
    without: FlipEstimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One assignment that was tried.

    Attributes:
        layers: names of the layers in INT8.
        int8_share: share of the multiply-adds that they do, in [0, 1].
        chosen_by: estimate on every second picture that chose.
        judged_by: estimate on pictures of sources that chose nothing; None where the budget was broken before.
        broken: sentences, one for each part of the budget that is broken; empty where it holds.
    """

    layers: tuple[str, ...]
    int8_share: float
    chosen_by: FlipEstimate
    judged_by: FlipEstimate | None
    broken: tuple[str, ...]

    def as_dict(self) -> TrialValues:
        """Plain values for JSON."""
        return {
            "layers": list(self.layers),
            "int8_share": self.int8_share,
            "chosen_by": self.chosen_by.as_dict(),
            "judged_by": None if self.judged_by is None else self.judged_by.as_dict(),
            "broken": list(self.broken),
        }


@dataclass(frozen=True, kw_only=True)
class LayerChoice:
    """Which layers are INT8, how that was found out, and the graph.

    Attributes:
        recipe: machine that the graph is for.
        budget: allowance that it was held to.
        layers_asked: ``"search"``, ``"all"``, or names of layers with commas.
        base: estimate of the graph without INT8.
        sensitivities: effects of INT8 in one layer, by layer.
        trials: choices in the order in which they were tried.
        layers: names of the layers in INT8 in the end; empty where nothing held.
        int8_share: share of the multiply-adds that they do, in [0, 1].
        within_budget: whether they hold the budget.
        reasons: reason for the precision of each layer, by layer.
        multiply_adds: number of multiply-adds for one picture, by layer.
        at_best: speeds at best on the cards that the layers were chosen for; empty where they were chosen by
            multiply-adds, or nothing held.
        snr_db: signal-to-noise ratio in dB of what arrives at a layer, by layer; infinite where no value changes.
        logits: reference and INT8 logits and labels, each picture's of the graph chosen without its source, for plots;
            None without a graph.
        model: INT8 graph; None where nothing held.
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
    at_best: list[CardSpeedValues]
    snr_db: dict[str, float]
    logits: LogitPairs | None
    model: onnx.ModelProto | None

    def as_dict(self) -> Findings:
        """Plain values for JSON, without the graph."""
        return {
            "recipe": str(self.recipe),
            "budget": self.budget.as_dict(),
            "layers_asked": self.layers_asked,
            "within_budget": self.within_budget,
            "int8_share": self.int8_share,
            "layers": {layer: self._layer_values(layer) for layer in self.multiply_adds},
            "base": self.base.as_dict(),
            "trials": [trial.as_dict() for trial in self.trials],
            "at_best": self.at_best,
            "logits": self.logits,
        }

    def _layer_values(self, layer: str) -> LayerValues:
        values: LayerValues = {
            "precision": "int8" if layer in self.layers else self.recipe.base,
            "why": self.reasons[layer],
            "multiply_adds": self.multiply_adds[layer],
            "only": self.sensitivities[layer].only.as_dict(),
            "without": self.sensitivities[layer].without.as_dict(),
        }
        if layer in self.snr_db:
            values["snr_db"] = as_number(self.snr_db[layer])
        return values


class BudgetError(GateError):
    """No assignment with INT8 holds the budget; ``result`` has the table."""

    def __init__(self, message: str, result: LayerChoice) -> None:
        super().__init__(message)
        self.result = result
