"""A figure with its 95 % interval."""

from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
_TAIL = (1 - CONFIDENCE) / 2
# Rounds that add the same numbers in another order differ by float64 rounding; that is no width.
NO_WIDTH = 1e-9


class EstimateValues(TypedDict):
    """A figure as JSON has it.

    Attributes:
        value: figure, in its own unit.
        low: lower end of its 95 % interval.
        high: upper end of its 95 % interval.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and the 95 % interval around it, in the figure's own unit; fractions are in [0, 1]."""

    value: float
    low: float
    high: float

    @property
    def width(self) -> float:
        """Of the interval."""
        return self.high - self.low

    def as_dict(self, factor: float = 1) -> EstimateValues:
        """Plain values for JSON, times a factor: 100 makes per cent of a share."""
        return {"value": factor * self.value, "low": factor * self.low, "high": factor * self.high}


def resolution(pictures: float) -> float:
    """The largest share that can stay unseen in so many pictures: 1 - 0.025^(1/n), the exact rule of three.

    Were the true share of what was never seen larger, it would have been seen with a chance above 97.5 %.

    Args:
        pictures: number of pictures, or the effective number of a weighted mean; above 0.
    """
    return float(-np.expm1(np.log(_TAIL) / pictures))


def percentile_interval(value: float, rounds: NDArray[np.float64]) -> Estimate:
    """The percentile interval of resampled figures, widened to hold the figure itself where it lies outside.

    Args:
        value: figure of the sample.
        rounds: float64 ``(R,)``, the figure of each resampled sample.
    """
    low, high = np.quantile(rounds, (_TAIL, 1 - _TAIL))
    return Estimate(value, min(value, float(low)), max(value, float(high)))


def share_interval(value: float, rounds: NDArray[np.float64], pictures: float) -> Estimate:
    """The percentile interval of a share in [0, 1]; where it has no width, what so many pictures can resolve.

    Where no picture of a class is judged wrongly, none is in any round either: the rounds are silent on how rare
    errors are, the number of pictures is not.

    Args:
        value: figure of the sample, in [0, 1].
        rounds: float64 ``(R,)``, the figure of each resampled sample.
        pictures: number of pictures that the figure rests on.
    """
    found = percentile_interval(value, rounds)
    if found.width > NO_WIDTH:
        return found
    return widen(found, resolution(pictures), lowest=0, highest=1)


def reversed_interval(value: float, rounds: NDArray[np.float64]) -> Estimate:
    """The reversed percentile ("basic") interval of a figure that resampling inflates, from 0 up.

    A resampled sample is to the sample what the sample is to the truth: where rounds lie above the figure, the figure
    lies above the truth. The calibration error is such a figure: noise in a bin counts as error whatever its sign.

    Args:
        value: figure of the sample, 0 or above.
        rounds: float64 ``(R,)``, the figure of each resampled sample.
    """
    low, high = np.quantile(rounds, (_TAIL, 1 - _TAIL))
    return Estimate(value, max(0.0, min(value, float(2 * value - high))), max(value, float(2 * value - low)))


def widen(estimate: Estimate, margin: float, *, lowest: float, highest: float) -> Estimate:
    """The hull of an interval and of its figure with a margin on both sides, cut to what the figure can be."""
    return Estimate(
        estimate.value,
        max(lowest, min(estimate.low, estimate.value - margin)),
        min(highest, max(estimate.high, estimate.value + margin)),
    )
