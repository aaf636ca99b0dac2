"""A histogram that grows with what it sees, in a memory that does not."""

import numpy as np
from numpy.typing import NDArray

BINS = 65536


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

    def shrunk(self, bins: int) -> tuple[list[int], float, float]:
        """Counts of what was seen in fewer bins, and the outer edges of these."""
        ends = min(self.lowest, 0.0), self.highest
        centres = np.clip((self.edges[:-1] + self.edges[1:]) / 2, *ends)  # the outermost may lie beyond
        counts, edges = np.histogram(centres, bins, ends, weights=self.counts)
        return [int(count) for count in counts], float(edges[0]), float(edges[-1])

    def _double(self) -> None:
        quarter = BINS // 4
        merged = self.counts.reshape(-1, 2).sum(axis=1)
        self.counts = np.zeros(BINS, np.int64)
        self.counts[quarter : quarter + len(merged)] = merged
        self.width *= 2
