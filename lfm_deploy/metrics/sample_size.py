"""How many pictures would decide a gate, if what was seen in these goes on."""

from collections.abc import Callable

import numpy as np

from lfm_deploy.metrics.estimate import Estimate, resolution
from lfm_deploy.metrics.paired import exact_interval

# More pictures than anybody has; a figure so close to its limit is not decided by more of them.
_MOST = 10**9


def is_decided(low: float, high: float, limit: float) -> bool:
    """Whether an interval lies within a limit as a whole, or beyond it as a whole."""
    return high <= limit or low > limit


def pictures_for_rate(rate: float, limit: float) -> int | None:
    """Pictures of which a share that is seen at this rate has an exact interval on one side of the limit.

    Args:
        rate: share that was seen, in [0, 1].
        limit: share that is allowed, in (0, 1).

    Returns:
        The number; None where no number of pictures would do.
    """

    def decides(pictures: int) -> bool:
        # Not rounded to whole pictures: the interval then shrinks with every one.
        return is_decided(*exact_interval(rate * pictures, pictures), limit)

    return _smallest(decides)


def pictures_for_change(change: Estimate, limit: float, pictures: int, effective: float | None = None) -> int | None:
    """Pictures of which the interval of a change lies within or beyond a limit, in either direction.

    Intervals shrink with the square root of the number of pictures, and what they can resolve with the number.

    Args:
        change: share of these pictures that changed.
        limit: change that is allowed, above 0.
        pictures: number of pictures that were seen.
        effective: number of pictures that these are worth in the change, where their resolution counts; None where it
            does not.

    Returns:
        The number, at the present mixture of test sets; None where no number of pictures would do.
    """

    def decides(more: int) -> bool:
        shrink = np.sqrt(pictures / more)
        low, high = ((edge - change.value) * shrink for edge in (change.low, change.high))
        if effective is not None:
            margin = resolution(effective * more / pictures)
            low, high = min(low, -margin), max(high, margin)
        return is_decided(*magnitude(change.value + low, change.value + high), limit)

    return _smallest(decides)


def magnitude(low: float, high: float) -> tuple[float, float]:
    """The interval of |x| where x lies in an interval."""
    return (0.0 if low <= 0 <= high else min(abs(low), abs(high))), max(abs(low), abs(high))


def _smallest(decides: Callable[[int], bool]) -> int | None:
    """By doubling and halving: intervals shrink as pictures are added."""
    high = 1
    while not decides(high):
        high *= 2
        if high > _MOST:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    return high
