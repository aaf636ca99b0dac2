"""Whether the sigmoid of a logit is the probability of "fake" that it looks like: its expected calibration error."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

BINS = 15


class ProbabilityDeviations:
    """Deviations of probabilities from labels, ready to be counted.

    The error is the mean over 15 equal bins of the probability of |mean probability - share of fakes|, weighted with
    the pictures of each bin: the sum over bins of |sum of (probability - label)|, over the number of pictures. Sums of
    bins add up over test sets.

    Args:
        logits: ``(N,)``, finite.
        labels: ``(N,)``; 0 is real, 1 is fake.
    """

    def __init__(self, logits: NDArray[np.floating], labels: NDArray[np.integer]) -> None:
        from scipy.special import expit

        probabilities = expit(logits.astype(np.float64))
        bins = np.minimum((BINS * probabilities).astype(np.intp), BINS - 1)
        self._order = np.argsort(bins, kind="stable")
        self._deviations = (probabilities - labels)[self._order]
        edges = np.searchsorted(bins[self._order], np.arange(BINS + 1))
        self._slices = [slice(low, high) for low, high in pairwise(edges)]

    def sum_bins(self, counts: NDArray[np.uint8]) -> NDArray[np.float64]:
        """The sum of deviations in each bin of each round, ``(R, 15)``.

        Args:
            counts: ``(R, N)``, how often each of these pictures was drawn.
        """
        drawn = np.take(counts, self._order, axis=1, mode="clip")
        return np.stack([np.einsum("ij,j->i", drawn[:, part], self._deviations[part]) for part in self._slices], axis=1)


def error_of_bins(sums: NDArray[np.float64], pictures: int) -> NDArray[np.float64]:
    """The expected calibration error of each round, ``(R,)``, from ``sum_bins`` over so many pictures."""
    return np.asarray(np.abs(sums).sum(axis=1) / pictures)


def expected_calibration_error(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Expected calibration error of the sigmoid of logits, in [0, 1], over 15 equal bins.

    Args:
        logits: ``(N,)``, finite.
        labels: ``(N,)``; 0 is real, 1 is fake.
    """
    once = np.ones((1, len(logits)), dtype=np.uint8)
    return float(error_of_bins(ProbabilityDeviations(logits, labels).sum_bins(once), len(logits))[0])
