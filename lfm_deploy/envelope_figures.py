"""What an operating envelope consists of: figures of an engine's decisions after each condition."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lfm_deploy.conditions import Condition, describe_encoders
from lfm_deploy.metrics import accuracy, accuracy_of_class, average_precision

_SET_FIGURES = ("acc", "ap", "acc_fake", "fpr")
_FIGURES = ("acc", "acc_real", "acc_fake", "ap", "fpr")


@dataclass(frozen=True, slots=True)
class Estimate:
    """A fraction in [0, 1] with its 95 % interval; ``low`` and ``high`` are None where none was worked out."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetScores:
    """Logits of one test set after one condition.

    Attributes:
        name: of the test set.
        labels: ``(N,)``; 0 is real, 1 is fake.
        logits: float32 ``(N,)``, finite.
    """

    name: str
    labels: NDArray[np.int64]
    logits: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetFigures:
    """One test set after one condition; a figure is None where it is undefined.

    Attributes:
        name: of the test set.
        real, fake: how many pictures of each class were judged.
        acc: share of right decisions.
        ap: average precision of the fake class.
        acc_fake: share of the fakes that are found.
        fpr: share of the real pictures that are called fake.
    """

    name: str
    real: int
    fake: int
    acc: Estimate | None
    ap: Estimate | None
    acc_fake: Estimate | None
    fpr: Estimate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteFigures:
    """All test sets after one condition; a figure is None where it is undefined.

    Attributes:
        acc, acc_real, acc_fake, ap: means over the test sets that have both classes.
        fpr: share of all real pictures that are called fake, those of sets without fakes among them.
        sets: every test set.
    """

    acc: Estimate | None
    acc_real: Estimate | None
    acc_fake: Estimate | None
    ap: Estimate | None
    fpr: Estimate | None
    sets: tuple[SetFigures, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionResult:
    """How an engine decided after one condition.

    Attributes:
        condition: what happened to the pictures.
        pictures: how many were judged.
        reasons: why others were skipped, and how many for each reason.
        figures: of those that were judged.
    """

    condition: Condition
    pictures: int
    reasons: Mapping[str, int]
    figures: SuiteFigures


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """How an engine decided after each condition.

    Attributes:
        engine: its name in reports.
        suites: names of the suites whose pictures were used.
        conditions: one entry each, in the order asked for.
    """

    engine: str
    suites: tuple[str, ...]
    conditions: tuple[ConditionResult, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; shares in per cent, null where undefined."""
        return {
            "engine": self.engine,
            "suite": ", ".join(self.suites),
            "encoders": describe_encoders(),
            "conditions": [_condition_values(result) for result in self.conditions],
        }


def estimate_suite(scores: Sequence[SetScores], threshold: float) -> SuiteFigures:
    """Figures of all test sets after one condition: the one place where logits become figures.

    Args:
        scores: of every test set; some may have lost a class, or all pictures.
        threshold: a logit above it is fake.
    """
    sets = tuple(_estimate_set(part, threshold) for part in scores)
    both = [part for part in sets if part.real and part.fake]
    real = np.concatenate([part.logits[part.labels == 0] for part in scores]) if scores else np.empty(0)
    return SuiteFigures(
        acc=_mean([part.acc for part in both]),
        acc_real=_complement(_mean([part.fpr for part in both])),
        acc_fake=_mean([part.acc_fake for part in both]),
        ap=_mean([part.ap for part in both]),
        fpr=Estimate(float((real > threshold).mean())) if len(real) else None,
        sets=sets,
    )


def _estimate_set(scores: SetScores, threshold: float) -> SetFigures:
    logits, labels = scores.logits, scores.labels
    real, fake = (int((labels == label).sum()) for label in (0, 1))
    return SetFigures(
        name=scores.name,
        real=real,
        fake=fake,
        acc=Estimate(accuracy(logits, labels, threshold)) if real or fake else None,
        ap=Estimate(average_precision(logits, labels)) if real and fake else None,
        acc_fake=Estimate(accuracy_of_class(logits, labels, 1, threshold)) if fake else None,
        fpr=_complement(Estimate(accuracy_of_class(logits, labels, 0, threshold))) if real else None,
    )


def _mean(estimates: Sequence[Estimate | None]) -> Estimate | None:
    values = [estimate.value for estimate in estimates if estimate is not None]
    return Estimate(float(np.mean(values))) if values else None


def _complement(estimate: Estimate | None) -> Estimate | None:
    return None if estimate is None else Estimate(1 - estimate.value)


def _condition_values(result: ConditionResult) -> dict[str, Any]:
    return {
        "name": result.condition.name,
        "what": result.condition.what,
        **{name: _percent(getattr(result.figures, name)) for name in _FIGURES},
        "pictures": result.pictures,
        "skipped": sum(result.reasons.values()),
        "reasons": [{"reason": reason, "pictures": count} for reason, count in result.reasons.items()],
        "sets": [
            {"set": part.name, "real": part.real, "fake": part.fake}
            | {name: _percent(getattr(part, name)) for name in _SET_FIGURES}
            for part in result.figures.sets
        ],
    }


def _percent(estimate: Estimate | None) -> dict[str, float | None] | None:
    if estimate is None:
        return None
    ends = (("value", estimate.value), ("low", estimate.low), ("high", estimate.high))
    return {name: None if found is None else 100 * found for name, found in ends}
