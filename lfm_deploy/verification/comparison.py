"""One engine's scores over a suite: its metrics, and how it compares with the reference picture by picture."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lfm_deploy.errors import MetricError
from lfm_deploy.metrics.categories import CategoryResult, measure_categories
from lfm_deploy.metrics.decisions import decide
from lfm_deploy.metrics.engine_metrics import Metrics, Rounds
from lfm_deploy.metrics.estimate import Estimate
from lfm_deploy.metrics.paired import (
    Change,
    LogitError,
    effective_pictures,
    estimate_change,
    estimate_rate,
    mcnemar_p,
    measure_logit_error,
)
from lfm_deploy.metrics.resampling import ROUNDS, SEED, Resampling
from lfm_deploy.metrics.summary import make_resampling, summarise
from lfm_deploy.scoring.scores import Scores


@dataclass(frozen=True, kw_only=True)
class SetResult:
    """How one engine did on one test set.

    Attributes:
        name: name of the test set.
        real, fake: number of pictures of each class.
        metrics: metrics with intervals.
        categories: figures of each category that some of its pictures have.
        finite: whether every logit is a finite number; if not, accuracies count it as "real", and what ranks is None.
    """

    name: str
    real: int
    fake: int
    metrics: Metrics
    categories: tuple[CategoryResult, ...]
    finite: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """A picture on which an engine decides otherwise than the reference.

    Attributes:
        set: name of the test set.
        path: file of the picture.
        label: label of the picture; 0 is real, 1 is fake.
        reference: logit of the reference.
        logit: logit of the engine.
        margin: distance of the reference's logit to its threshold: how clear the decision was.
    """

    set: str
    path: Path
    label: int
    reference: float
    logit: float
    margin: float


@dataclass(frozen=True, kw_only=True)
class Against:
    """How an engine compares with the reference on the same pictures.

    Attributes:
        flipped: pictures that are decided otherwise.
        flip_rate: share of all pictures that are decided otherwise, a fraction with its exact interval.
        better: number of flips that mended a decision.
        worse: number of flips that spoilt a decision.
        mcnemar_p: exact p-value of McNemar's test of a difference in accuracy, from ``better`` and ``worse``.
        acc, ap: changes of the means over test sets; None where the figure is undefined.
        logit_error: summary of |logit - reference logit|.
        crossed: share of all pictures that are on another side of the lower end of the band than for the reference, a
            fraction with its exact interval; None without a band.
    """

    flipped: tuple[Flip, ...]
    flip_rate: Estimate
    better: int
    worse: int
    mcnemar_p: float
    acc: Change | None
    ap: Change | None
    logit_error: LogitError
    crossed: Estimate | None = None

    @property
    def flips(self) -> int:
        """How many decisions differ."""
        return len(self.flipped)

    @property
    def delta_acc(self) -> Estimate | None:
        """Change of the mean accuracy, with its paired interval."""
        return None if self.acc is None else self.acc.estimate

    @property
    def delta_ap(self) -> Estimate | None:
        """Change of the mean average precision, with its paired interval."""
        return None if self.ap is None else self.ap.estimate


@dataclass(frozen=True, kw_only=True)
class SuiteResult:
    """How one engine did on one suite.

    Attributes:
        suite: name of the suite.
        sets: results, one a test set.
        mean: metrics as means over the test sets that have both classes, as the paper takes them.
        pooled: metrics over all pictures together.
        against: comparison with the reference; None for the reference and for what is not compared.
        threshold: logit above which a picture is "fake".
        uncertain_above: logit above which, up to the threshold, a picture is "uncertain"; None without such a band.
        scores: names of the test sets with the scores that all of this was computed from.
        resampling: rounds of the intervals.
        mean_rounds: means in each round, for differences.
    """

    suite: str
    sets: tuple[SetResult, ...]
    mean: Metrics
    pooled: Metrics
    against: Against | None = None
    threshold: float
    uncertain_above: float | None = None
    scores: tuple[tuple[str, Scores], ...] = field(repr=False)
    resampling: Resampling = field(repr=False)
    mean_rounds: Rounds = field(repr=False)

    @property
    def pictures(self) -> int:
        """How many pictures were judged."""
        return sum(part.real + part.fake for part in self.sets)

    @property
    def spread(self) -> float:
        """Standard deviation of the logits over all pictures."""
        return float(self.logits.std(dtype=np.float64))

    @property
    def logits(self) -> NDArray[np.float32]:
        """Logits float32 ``(N,)`` of all test sets, one after the other."""
        return np.concatenate([part.logits for _, part in self.scores])


def measure_suite(
    suite: str,
    scores: Sequence[tuple[str, Scores]],
    threshold: float,
    *,
    uncertain_above: float | None = None,
    rounds: int = ROUNDS,
    seed: int = SEED,
    resampling: Resampling | None = None,
) -> SuiteResult:
    """Compute the metrics of one engine over a suite, with intervals.

    Args:
        suite: name of the suite.
        scores: names of the test sets with the engine's scores on each.
        threshold: logit above which a picture is "fake".
        uncertain_above: lower end of the band below the threshold; None without a band. No metric depends on it.
        rounds: number of rounds of the resampling.
        seed: seed of the resampling.
        resampling: resampling of the reference, whose rounds then count instead; None makes one.
    """
    resampling = resampling or make_resampling([part.labels for _, part in scores], rounds, seed)
    summary = summarise([(part.logits, part.labels) for _, part in scores], threshold, resampling)
    return SuiteResult(
        suite=suite,
        sets=tuple(
            SetResult(
                name=name,
                real=int((part.labels == 0).sum()),
                fake=int((part.labels == 1).sum()),
                metrics=metrics,
                categories=measure_categories(part.categories, part.labels, part.logits, threshold),
                finite=bool(np.isfinite(part.logits).all()),
            )
            for (name, part), metrics in zip(scores, summary.sets, strict=True)
        ),
        mean=summary.mean,
        pooled=summary.pooled,
        threshold=threshold,
        uncertain_above=uncertain_above,
        scores=tuple(scores),
        resampling=resampling,
        mean_rounds=summary.mean_rounds,
    )


def compare_suite(
    suite: str, scores: Sequence[tuple[str, Scores]], reference: SuiteResult, threshold: float
) -> SuiteResult:
    """Measure an engine on the rounds of the reference, and compare the two picture by picture.

    Args:
        suite: name of the suite.
        scores: names of the test sets with the engine's scores on each.
        reference: result of the reference on the same test sets and pictures, with the band if there is one.
        threshold: logit above which a picture is "fake".

    Raises:
        MetricError: engine and reference were scored on different pictures.
    """
    if [part.paths for _, part in scores] != [part.paths for _, part in reference.scores]:
        raise MetricError(f"{suite}: a comparison needs the same pictures in the same order")
    band = reference.uncertain_above
    mine = measure_suite(suite, scores, threshold, uncertain_above=band, resampling=reference.resampling)
    labels = np.concatenate([part.labels for _, part in scores])
    fake, expected = (decide(_judged(result.logits), result.threshold) for result in (mine, reference))
    flips = np.flatnonzero(fake != expected)
    better = int((fake == (labels == 1))[flips].sum())
    return replace(
        mine,
        against=Against(
            flipped=tuple(_describe_flips(mine, reference, flips)),
            flip_rate=estimate_rate(len(flips), len(labels)),
            better=better,
            worse=len(flips) - better,
            mcnemar_p=mcnemar_p(better, len(flips) - better),
            acc=_compare_means(mine, reference, "acc"),
            ap=_compare_means(mine, reference, "ap"),
            logit_error=measure_logit_error(mine.logits, reference.logits),
            crossed=None if band is None else _count_crossed(mine, reference, band),
        ),
    )


def _count_crossed(mine: SuiteResult, reference: SuiteResult, edge: float) -> Estimate:
    above, expected = (decide(_judged(result.logits), edge) for result in (mine, reference))
    return estimate_rate(int((above != expected).sum()), len(above))


def without_calibration(result: SuiteResult) -> SuiteResult:
    """The same without calibration errors: logits moved by a threshold are not those of the probabilities any more.

    Args:
        result: result of a foreign detector with a threshold.
    """
    return replace(
        result,
        mean=replace(result.mean, ece=None),
        pooled=replace(result.pooled, ece=None),
        sets=tuple(replace(part, metrics=replace(part.metrics, ece=None)) for part in result.sets),
    )


def _compare_means(mine: SuiteResult, reference: SuiteResult, name: str) -> Change | None:
    value, expected = getattr(mine.mean, name), getattr(reference.mean, name)
    if value is None or expected is None:
        return None
    return estimate_change(
        value.value,
        expected.value,
        mine.mean_rounds[name],
        reference.mean_rounds[name],
        effective=effective_pictures([part.real + part.fake for part in mine.sets if part.real and part.fake]),
        always_floored=name == "acc",
    )


def _describe_flips(mine: SuiteResult, reference: SuiteResult, flips: NDArray[np.intp]) -> list[Flip]:
    pictures = [
        (name, path, int(label))
        for name, part in mine.scores
        for path, label in zip(part.paths, part.labels, strict=True)
    ]
    logits, expected = mine.logits.tolist(), reference.logits.tolist()
    return [
        Flip(
            set=pictures[index][0],
            path=pictures[index][1],
            label=pictures[index][2],
            reference=expected[index],
            logit=logits[index],
            margin=expected[index] - reference.threshold,
        )
        for index in flips
    ]


def _judged(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """What decides: a logit that is no number is above no threshold, so it decides "real"."""
    return np.where(np.isfinite(logits), logits, np.float32(-np.inf))
