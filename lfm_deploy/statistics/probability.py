"""Is the probability of "fake", the sigmoid of the logit, one? Its expected calibration error."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

BINS = 15


class Calibration:
    """Deviations of probabilities from labels, ready to be counted.

    The error is the mean over 15 equal bins of the probability of |mean probability - share of fakes|, weighted with
    the pictures of each bin: the sum over bins of |sum of (probability - label)|, over the number of pictures.

    Args:
        logits: ``(N,)``, finite.
        labels: ``(N,)``; 0 is real, 1 is fake.
        columns: of these pictures in the counts that ``judge`` is given.
    """

    def __init__(self, logits: NDArray[np.floating], labels: NDArray[np.integer], columns: NDArray[np.intp]) -> None:
        from scipy.special import expit

        probabilities = expit(logits.astype(np.float64))
        bins = np.minimum((BINS * probabilities).astype(np.intp), BINS - 1)
        order = np.argsort(bins, kind="stable")
        self._columns = columns[order]
        self._deviations = (probabilities - labels)[order]
        edges = np.searchsorted(bins[order], np.arange(BINS + 1))
        self._slices = [slice(low, high) for low, high in pairwise(edges) if low < high]

    def judge(self, counts: NDArray[np.uint8]) -> NDArray[np.float64]:
        """The error of each round, ``(R,)``, in [0, 1].

        Args:
            counts: ``(R, pictures)``, how often each picture was drawn.
        """
        drawn = np.take(counts, self._columns, axis=1)
        sums = [np.einsum("ij,j->i", drawn[:, part], self._deviations[part]) for part in self._slices]
        return np.asarray(np.sum(np.abs(sums), axis=0) / len(self._columns))


def expected_calibration_error(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Expected calibration error of the sigmoid of logits, in [0, 1], over 15 equal bins.

    Args:
        logits: ``(N,)``, finite.
        labels: ``(N,)``; 0 is real, 1 is fake.
    """
    once = np.ones((1, len(logits)), dtype=np.uint8)
    return float(Calibration(logits, labels, np.arange(len(logits))).judge(once)[0])
