"""What INT8 means for one graph: the recipe, the precision of every layer, and the budget that it was held to."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Self, TypedDict

from lfm_deploy.errors import ConfigError
from lfm_deploy.storage.values import NotNegative, Sha256, Share

LayerPrecision = Literal["int8", "fp16", "fp32"]
_BUDGET_ITEM = re.compile(r"\s*(acc|ap|flips)\s*=\s*(\d+(?:\.\d+)?)\s*%?\s*")


class Recipe(StrEnum):
    """For which machine a graph is quantised; ONNX Runtime and TensorRT want different things."""

    TENSORRT = "tensorrt"
    """Symmetric int8 in front of convolutions, on a float16 graph."""
    CPU = "cpu"
    """uint8 from the first convolution to the projection's output, on a float32 graph, for ONNX Runtime."""

    @property
    def base(self) -> Literal["fp16", "fp32"]:
        """Precision of what is left in floating point."""
        return "fp16" if self is Recipe.TENSORRT else "fp32"

    @property
    def levels(self) -> int:
        """Steps between 0 and the largest value; symmetric int8 spends half of its codes on negative values."""
        return 127 if self is Recipe.TENSORRT else 255


class BudgetValues(TypedDict):
    """A budget as JSON has it.

    Attributes:
        acc: largest change of accuracy, in percentage points.
        ap: largest change of average precision, in percentage points.
        flips: largest share of changed decisions, in per cent.
    """

    acc: NotNegative
    ap: NotNegative
    flips: NotNegative


class QuantisationValues(TypedDict):
    """How an INT8 graph came about, as JSON has it; the fields are those of ``Quantisation``.

    Attributes:
        recipe: machine that it is for, ``"tensorrt"`` or ``"cpu"``.
        layers: precision of every convolution by name, in order: ``"int8"``, ``"fp16"`` or ``"fp32"``.
        int8_share: share of the convolutions' multiply-adds that are done in INT8, in [0, 1].
        ranges_sha256: SHA-256 of the ``ranges.json`` that it was made with, in hexadecimal.
        budget: allowance that it was held to.
        layers_asked: ``"search"``, ``"all"``, or names of layers with commas.
        within_budget: whether it held the budget on calibration pictures of sources that chose nothing.
    """

    recipe: str
    layers: dict[str, LayerPrecision]
    int8_share: float
    ranges_sha256: str
    budget: BudgetValues
    layers_asked: str
    within_budget: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How far an INT8 graph may move from the float32 checkpoint.

    Attributes:
        acc, ap: accuracy and average precision, in percentage points.
        flips: share of decisions that change, in per cent.
    """

    acc: NotNegative = 0.2
    ap: NotNegative = 0.15
    flips: NotNegative = 0.7

    def __post_init__(self) -> None:
        """Refuse negative allowances."""
        if min(self.acc, self.ap, self.flips) < 0:
            raise ConfigError(f"a budget cannot be negative, got {self}")

    def __str__(self) -> str:
        """As ``parse`` reads it."""
        return f"acc={self.acc:g},ap={self.ap:g},flips={self.flips:g}%"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``acc=0.2,ap=0.15,flips=0.7%``; what is not named keeps its default.

        Args:
            text: limits as ``"acc=0.2,ap=0.15,flips=0.7%"``; a limit that is left out keeps its default.

        Raises:
            ConfigError: a name is unknown, or a value is no number.
        """
        values: dict[str, float] = {}
        for item in text.split(","):
            match = _BUDGET_ITEM.fullmatch(item)
            if match is None or match[1] in values:
                raise ConfigError(
                    f"budget {text!r}: cannot read {item!r}; expected acc=POINTS,ap=POINTS,flips=PERCENT%, each once, "
                    f"such as {cls()}"
                )
            values[match[1]] = float(match[2])
        return cls(**values)

    def as_dict(self) -> BudgetValues:
        """Plain values for JSON."""
        return {"acc": self.acc, "ap": self.ap, "flips": self.flips}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantisation:
    """How an INT8 graph came about; inside the ONNX file and in the sidecars of engines built from it.

    Attributes:
        recipe: kind of machine that the graph is for: ``tensorrt`` or ``cpu``.
        layers: precision of every convolution, in order: ``"int8"``, ``"fp16"`` or ``"fp32"``.
        int8_share: share of the convolutions' multiply-adds that are done in INT8, in [0, 1].
        ranges_sha256: SHA-256 of the ``ranges.json`` that the graph was made with.
        budget: limit that the graph was held to.
        layers_asked: ``"search"``, the layers that were asked for, or ``"all"`` where every layer was quantised
            whatever came out.
        within_budget: whether it held the budget on calibration pictures of sources that chose nothing.
    """

    recipe: Recipe
    layers: dict[str, LayerPrecision]
    int8_share: Share
    ranges_sha256: Sha256
    budget: Budget
    layers_asked: str
    within_budget: bool

    def as_dict(self) -> QuantisationValues:
        """Plain values for JSON."""
        return {
            "recipe": str(self.recipe),
            "layers": dict(self.layers),
            "int8_share": self.int8_share,
            "ranges_sha256": self.ranges_sha256,
            "budget": self.budget.as_dict(),
            "layers_asked": self.layers_asked,
            "within_budget": self.within_budget,
        }
