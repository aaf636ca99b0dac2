"""Histograms that grow with what they see, in a memory that does not, and that can be added up."""

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

BINS = 65536
# Of channels: bins for each doubling, and the octaves that they cover, from 2**-16 to 2**24.
_BINS_PER_OCTAVE, _LEAST_OCTAVE, _OCTAVES = 16, -16, 40


class StreamingHistogram:
    """Counts in equal bins from ``-width`` to ``width``; values outside double the width and merge bins in pairs.

    Widths are powers of two, so that batches in any order give the same counts.
    """

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros(BINS, np.int64)
        self.width = 2.0**-10
        self.lowest, self.highest = np.inf, -np.inf

    @property
    def edges(self) -> NDArray[np.float64]:
        """Edges of the bins ``(BINS + 1,)``."""
        return np.linspace(-self.width, self.width, BINS + 1)

    def add(self, values: NDArray[np.floating]) -> None:
        """Count more values, of any shape; they must be finite."""
        low, high = float(values.min()), float(values.max())
        self.lowest, self.highest = min(self.lowest, low), max(self.highest, high)
        while max(-low, high) > self.width:
            self._double()
        scaled = (values.ravel().astype(np.float32) + np.float32(self.width)) * np.float32(BINS / (2 * self.width))
        bins = np.minimum(scaled.astype(np.int32), BINS - 1)
        self.counts += np.bincount(bins, minlength=BINS)

    @classmethod
    def added(cls, histograms: "Sequence[StreamingHistogram]") -> Self:
        """One histogram of what several saw."""
        total = cls()
        total.width = max(histogram.width for histogram in histograms)
        for histogram in histograms:
            total.counts += histogram._widened(total.width)
            total.lowest = min(total.lowest, histogram.lowest)
            total.highest = max(total.highest, histogram.highest)
        return total

    def shrunk(self, bins: int) -> tuple[list[int], float, float]:
        """Counts of what was seen in fewer bins, and the outer edges of these."""
        ends = min(self.lowest, 0.0), self.highest
        centres = np.clip((self.edges[:-1] + self.edges[1:]) / 2, *ends)  # the outermost may lie beyond
        counts, edges = np.histogram(centres, bins, ends, weights=self.counts)
        return [int(count) for count in counts], float(edges[0]), float(edges[-1])

    def _double(self) -> None:
        self.counts = self._widened(2 * self.width)
        self.width *= 2

    def _widened(self, width: float) -> NDArray[np.int64]:
        """Counts in as many bins of ``-width`` to ``width``, which is this width times a power of two."""
        ratio = min(round(width / self.width), BINS // 2)  # beyond that all of it lies in the two bins beside 0
        merged = self.counts.reshape(-1, ratio).sum(axis=1)
        counts = np.zeros(BINS, np.int64)
        start = (BINS - len(merged)) // 2
        counts[start : start + len(merged)] = merged
        return counts


class ChannelHistogram:
    """Counts of each channel's values, which are 0 or more, in bins of equal ratios."""

    def __init__(self, channels: int) -> None:
        self.counts: NDArray[np.int64] = np.zeros((channels, _BINS_PER_OCTAVE * _OCTAVES), np.int64)

    def add(self, values: NDArray[np.floating]) -> None:
        """Count the values of one batch ``(N, C, H, W)``; they must be finite, and 0 or more."""
        channels, bins = self.counts.shape
        with np.errstate(divide="ignore"):
            octaves = np.log2(values.swapaxes(0, 1).reshape(channels, -1)) - _LEAST_OCTAVE
        places = np.clip(octaves * _BINS_PER_OCTAVE, 0, bins - 1).astype(np.int64)
        places += np.arange(channels)[:, None] * bins
        self.counts += np.bincount(places.ravel(), minlength=channels * bins).reshape(channels, bins)

    @classmethod
    def added(cls, histograms: "Sequence[ChannelHistogram]") -> Self:
        """One histogram of what several saw."""
        total = cls(len(histograms[0].counts))
        total.counts = np.sum([histogram.counts for histogram in histograms], axis=0)
        return total

    def percentile(self, percent: float) -> NDArray[np.float64]:
        """What this share of each channel's values does not exceed ``(C,)``, to 4 %: the upper edge of its bin."""
        below = np.cumsum(self.counts, axis=1)
        reached = (below >= percent / 100 * below[:, -1:]).argmax(axis=1)
        return np.asarray(np.exp2(_LEAST_OCTAVE + (reached + 1) / _BINS_PER_OCTAVE))
