"""Two engines on the same pictures: decisions that flip, metrics that move, logits that differ."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lfm_deploy.metrics.estimate import CONFIDENCE, NO_WIDTH, Estimate, percentile_interval, resolution, widen


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitError:
    """Of |logit - reference logit| over all pictures: largest, mean, and quantiles; NaN where a logit is no number."""

    max: float
    mean: float
    p50: float
    p95: float
    p99: float


def measure_logit_error(logits: NDArray[np.floating], reference: NDArray[np.floating]) -> LogitError:
    """How far logits are from the reference's, both ``(N,)``."""
    with np.errstate(invalid="ignore"):
        errors = np.abs(logits.astype(np.float64) - reference)
        p50, p95, p99 = (float(value) for value in np.quantile(errors, (0.5, 0.95, 0.99)))
    return LogitError(max=float(errors.max()), mean=float(errors.mean()), p50=p50, p95=p95, p99=p99)


def estimate_rate(found: int, pictures: int) -> Estimate:
    """A share of pictures with its exact (Clopper-Pearson) interval.

    Args:
        found: pictures that have the property.
        pictures: number of all pictures, at least 1.
    """
    return Estimate(found / pictures, *exact_interval(found, pictures))


def exact_interval(found: float, pictures: int) -> tuple[float, float]:
    """The Clopper-Pearson interval of a share, from quantiles of the beta distribution.

    Args:
        found: pictures that have the property; any number from 0 to ``pictures``.
        pictures: number of all pictures, at least 1.
    """
    from scipy.special import betaincinv  # scipy.stats, which has this by name, takes a second to import

    tail = (1 - CONFIDENCE) / 2
    low = float(betaincinv(found, pictures - found + 1, tail)) if found else 0.0
    high = float(betaincinv(found + 1, pictures - found, 1 - tail)) if found < pictures else 1.0
    return low, high


def mcnemar_p(better: int, worse: int) -> float:
    """McNemar's exact test: the chance of flips as one-sided as these, or more, if either direction were as likely.

    Args:
        better: decisions that were wrong and are right now.
        worse: decisions that were right and are wrong now.
    """
    from scipy.special import bdtr

    # Both directions are alike, so the two-sided chance is twice that of the rarer side.
    return min(1.0, 2 * float(bdtr(min(better, worse), better + worse, 0.5)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """By how much a mean over test sets differs between two engines on the same pictures, as a share.

    Attributes:
        sampled: the difference, with the percentile interval of its differences in the same rounds.
        effective: pictures that the mean is worth, by Kish.
        floored: whether the number of pictures sets a least width. Where hardly any decision flips, a paired bootstrap
            has hardly any width, and that says nothing about flips which are rarer than one in so many pictures.
    """

    sampled: Estimate
    effective: float
    floored: bool

    @property
    def estimate(self) -> Estimate:
        """The difference and its interval, never narrower than so many pictures can resolve where that counts."""
        margin = resolution(self.effective) if self.floored else 0.0
        return widen(self.sampled, margin, lowest=-1, highest=1)


def estimate_change(
    value: float,
    reference: float,
    rounds: NDArray[np.float64],
    reference_rounds: NDArray[np.float64],
    *,
    effective: float,
    always_floored: bool,
) -> Change:
    """Compare two engines' means.

    Args:
        value: the engine's mean, in [0, 1].
        reference: the reference's.
        rounds: the engine's mean in each round, ``(R,)``.
        reference_rounds: the reference's in the same rounds.
        effective: pictures that the mean is worth.
        always_floored: whether the least width counts in any case, as for accuracy, which moves by whole pictures; or
            only where the rounds have no width, as for AP, which moves with every pair that changes its order.
    """
    sampled = percentile_interval(value - reference, rounds - reference_rounds)
    return Change(sampled=sampled, effective=effective, floored=always_floored or sampled.width <= NO_WIDTH)


def effective_pictures(sizes: Sequence[int]) -> float:
    """Kish's effective number of pictures of the mean over test sets: of a plain mean that is as sure.

    Every set weighs the same, so pictures of a small set weigh more: (sum of weights)^2 / sum of squared weights is
    S^2 / sum(1 / n) with S sets.

    Args:
        sizes: pictures of each set.
    """
    return len(sizes) ** 2 / sum(1 / size for size in sizes)
