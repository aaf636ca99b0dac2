"""The threshold that keeps false accusations below a rate, by an exact tolerance limit.

Let the (k+1)-th largest of n real logits be the threshold: k of them lie above it. Of all real pictures the share above
it is distributed as Beta(k + 1, n - k), whatever the distribution of logits (Wilks 1941). The Clopper-Pearson bound of
k in n is a quantile of the same Beta, so that the largest k whose bound is at most the rate keeps the promise with the
confidence of the bound, though the threshold was chosen on these very pictures. k depends on n alone: nothing is
searched for, so nothing has to be corrected for a search.
"""

import math

import numpy as np
from numpy.typing import NDArray

from lfm_deploy.errors import MetricError
from lfm_deploy.metrics.estimate import CONFIDENCE


def upper_bound(found: int, pictures: int, confidence: float = CONFIDENCE) -> float:
    """The one-sided Clopper-Pearson bound of a share: the true one lies above it with a chance of 1 - confidence.

    Args:
        found: number of pictures that have the property.
        pictures: number of all pictures, at least 1.
        confidence: confidence of the bound, a fraction.
    """
    from scipy.special import betaincinv  # scipy.stats, which has this by name, takes a second to import

    return 1.0 if found >= pictures else float(betaincinv(found + 1, pictures - found, confidence))


def pictures_for_claim(rate: float, confidence: float = CONFIDENCE) -> int:
    """Fewest pictures that can show that a share is below a rate: so many of which none has the property.

    Args:
        rate: share that is to be shown, a fraction in (0, 1).
        confidence: confidence of the claim, a fraction.
    """
    return math.ceil(math.log1p(-confidence) / math.log1p(-rate))


def most_exceedances(pictures: int, rate: float, confidence: float = CONFIDENCE) -> int | None:
    """How many of so many pictures may lie above the threshold; None where even none would show nothing.

    Args:
        pictures: number of pictures.
        rate: share that may lie above it, a fraction in (0, 1).
        confidence: confidence of the claim, a fraction.
    """
    low, high = -1, pictures  # the bound of ``low`` is within the rate, that of ``high`` is not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if upper_bound(middle, pictures, confidence) <= rate else (low, middle)
    return None if low < 0 else low


def choose_threshold(
    real: NDArray[np.floating],
    others: NDArray[np.floating],
    rate: float,
    confidence: float = CONFIDENCE,
    *,
    least_gap: float = 0.0,
) -> float:
    """The lowest threshold above which at most a share of real pictures lies, with a confidence.

    It stands in the middle between two logits, so that no picture lies on it: a runtime that rounds otherwise must not
    change a decision.

    Args:
        real: ``(N,)``, finite; logits of real pictures.
        others: ``(M,)``, finite; logits of other pictures that it should not stand on.
        rate: share of real pictures that may lie above it, a fraction in (0, 1).
        confidence: confidence that no more do, a fraction.
        least_gap: smallest distance between two logits that it may stand between.

    Returns:
        The threshold, a float32 value.

    Raises:
        MetricError: the pictures are too few for the claim, or a logit is no finite number.
    """
    if not (np.isfinite(real).all() and np.isfinite(others).all()):
        raise MetricError("a threshold is undefined where a logit is no finite number")
    allowed = most_exceedances(len(real), rate, confidence)
    if allowed is None:
        need = pictures_for_claim(rate, confidence)
        raise MetricError(
            f"{len(real)} pictures cannot show a rate below {100 * rate:g} % with {100 * confidence:g} % confidence, "
            f"which takes {need}; give more pictures, or a higher rate"
        )
    start = np.sort(real.astype(np.float64))[len(real) - 1 - allowed]
    every = np.unique(np.concatenate([real, others]).astype(np.float64))
    above = every[every >= start]
    wide = np.flatnonzero(np.diff(above) > least_gap)
    if len(wide):
        low, high = above[wide[0]], above[wide[0] + 1]
        return _shortest_between(low, high)
    return _shortest_between(above[-1], above[-1] + 2 * max(least_gap, 1e-3 * abs(above[-1]), 1e-6))


def _shortest_between(low: float, high: float) -> float:
    """A float32 value with few digits in the middle half of an interval, or its middle."""
    quarter = (high - low) / 4
    for digits in range(8):
        value = float(np.float32(round((low + high) / 2, digits)))
        if low + quarter <= value <= high - quarter:
            return value
    return float(np.float32((low + high) / 2))
