"""What an operating envelope consists of: figures of an engine's decisions after each condition."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lfm_deploy.metrics.engine_metrics import Metrics
from lfm_deploy.metrics.estimate import Estimate, EstimateValues
from lfm_deploy.metrics.resampling import ROUNDS, SEED
from lfm_deploy.metrics.summary import make_resampling, summarise
from lfm_deploy.verification.conditions import Condition, describe_encoders
from lfm_deploy.verification.envelope_values import ConditionValues, EnvelopeValues


@dataclass(frozen=True, slots=True, kw_only=True)
class SetScores:
    """Logits of one test set after one condition.

    Attributes:
        name: name of the test set.
        labels: int64 ``(N,)``; 0 is real, 1 is fake.
        logits: float32 ``(N,)``, finite.
    """

    name: str
    labels: NDArray[np.int64]
    logits: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetFigures:
    """One test set after one condition; a figure is None where it is undefined.

    Attributes:
        name: name of the test set.
        real, fake: number of pictures of each class that were judged.
        acc: share of right decisions, a fraction.
        ap: average precision of the fake class, a fraction.
        acc_fake: share of the fakes that are found, a fraction.
        fpr: share of the real pictures that are called fake, a fraction.
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
        acc, acc_real, acc_fake, ap: means, as fractions, over the test sets that have both classes.
        fpr: share of all real pictures that are called fake, those of sets without fakes among them.
        sets: figures of every test set.
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
        condition: condition that the pictures were put under.
        pictures: number of pictures that were judged.
        reasons: number of pictures that were skipped, by reason.
        figures: figures of the pictures that were judged.
    """

    condition: Condition
    pictures: int
    reasons: Mapping[str, int]
    figures: SuiteFigures


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """How an engine decided after each condition.

    Attributes:
        engine: name of the engine in reports.
        suites: names of the suites whose pictures were used.
        conditions: results, one a condition, in the order asked for.
        cached: number of logits that were known from an earlier run.
    """

    engine: str
    suites: tuple[str, ...]
    conditions: tuple[ConditionResult, ...]
    cached: int = 0

    def as_dict(self) -> EnvelopeValues:
        """Plain values for JSON; shares in per cent, null where undefined."""
        return {
            "engine": self.engine,
            "suite": ", ".join(self.suites),
            "encoders": describe_encoders(),
            "cached": self.cached,
            "conditions": [_condition_values(result) for result in self.conditions],
        }


def estimate_suite(
    scores: Sequence[SetScores], threshold: float, *, rounds: int = ROUNDS, seed: int = SEED
) -> SuiteFigures:
    """Figures of all test sets after one condition, with intervals.

    Args:
        scores: scores of every test set; some may have lost a class, or all pictures.
        threshold: logit above which a picture is fake.
        rounds: number of rounds of the resampling.
        seed: seed of the resampling.
    """
    judged = [part for part in scores if len(part.labels)]
    if not judged:
        return SuiteFigures(
            acc=None, acc_real=None, acc_fake=None, ap=None, fpr=None, sets=tuple(_no_figures(part) for part in scores)
        )
    resampling = make_resampling([part.labels for part in judged], rounds, seed)
    summary = summarise([(part.logits, part.labels) for part in judged], threshold, resampling)
    metrics = dict(zip((part.name for part in judged), summary.sets, strict=True))
    return SuiteFigures(
        acc=summary.mean.acc,
        acc_real=summary.mean.acc_real,
        acc_fake=summary.mean.acc_fake,
        ap=summary.mean.ap,
        fpr=_complement(summary.pooled.acc_real),
        sets=tuple(_set_figures(part, metrics.get(part.name)) for part in scores),
    )


def _set_figures(scores: SetScores, metrics: Metrics | None) -> SetFigures:
    if metrics is None:
        return _no_figures(scores)
    real, fake = (int((scores.labels == label).sum()) for label in (0, 1))
    return SetFigures(
        name=scores.name,
        real=real,
        fake=fake,
        acc=metrics.acc,
        ap=metrics.ap,
        acc_fake=metrics.acc_fake,
        fpr=_complement(metrics.acc_real),
    )


def _no_figures(scores: SetScores) -> SetFigures:
    return SetFigures(name=scores.name, real=0, fake=0, acc=None, ap=None, acc_fake=None, fpr=None)


def _complement(estimate: Estimate | None) -> Estimate | None:
    return None if estimate is None else Estimate(1 - estimate.value, 1 - estimate.high, 1 - estimate.low)


def _condition_values(result: ConditionResult) -> ConditionValues:
    figures = result.figures
    return {
        "name": result.condition.name,
        "what": result.condition.what,
        "acc": _percent(figures.acc),
        "acc_real": _percent(figures.acc_real),
        "acc_fake": _percent(figures.acc_fake),
        "ap": _percent(figures.ap),
        "fpr": _percent(figures.fpr),
        "pictures": result.pictures,
        "skipped": sum(result.reasons.values()),
        "reasons": [{"reason": reason, "pictures": count} for reason, count in result.reasons.items()],
        "sets": [
            {
                "set": part.name,
                "real": part.real,
                "fake": part.fake,
                "acc": _percent(part.acc),
                "ap": _percent(part.ap),
                "acc_fake": _percent(part.acc_fake),
                "fpr": _percent(part.fpr),
            }
            for part in figures.sets
        ],
    }


def _percent(estimate: Estimate | None) -> EstimateValues | None:
    return None if estimate is None else estimate.as_dict(100)
