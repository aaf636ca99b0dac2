"""Stratified bootstrap: how often each picture is drawn in each round.

How many real and fake pictures each test set has is its design and no accident, so each round draws, with replacement,
as many pictures from each class of each set as there are. A round belongs to pictures and not to an engine: every
engine is judged on the same rounds, so that the difference between two engines is paired.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

ROUNDS = 2000
SEED = 0
# Counts of one block: large enough that NumPy's calls cost nothing, small enough for a processor's cache.
_BLOCK_COUNTS = 8_000_000
# Counts that are kept for the next engine; beyond it each engine draws the same ones anew.
_KEPT_COUNTS = 256_000_000


class Resampling:
    """The rounds of a test suite.

    Attributes:
        strata: number of pictures of each class of each test set, real before fake, in the order of columns.
        rounds: number of rounds.
        seed: seed of the draws; the same strata and seed give the same rounds.
    """

    def __init__(self, strata: tuple[int, ...], rounds: int = ROUNDS, seed: int = SEED) -> None:
        self.strata, self.rounds, self.seed = strata, rounds, seed
        self._kept: list[NDArray[np.uint8]] = []

    @property
    def pictures(self) -> int:
        """How many columns a block has."""
        return sum(self.strata)

    def blocks(self) -> Iterator[NDArray[np.uint8]]:
        """Counts ``(rounds of the block, pictures)``, block after block; do not write into them."""
        if self._kept:
            yield from self._kept
            return
        keep = self.rounds * self.pictures <= _KEPT_COUNTS
        drawn = []
        for block in self._draw():
            if keep:
                drawn.append(block)
            yield block
        self._kept = drawn

    def _draw(self) -> Iterator[NDArray[np.uint8]]:
        # A stream for each stratum: its rounds are the same whatever other sets there are, and however large a block.
        streams = [np.random.default_rng((self.seed, index)) for index in range(len(self.strata))]
        step = max(1, _BLOCK_COUNTS // self.pictures)
        for start in range(0, self.rounds, step):
            rows = min(step, self.rounds - start)
            # A picture is drawn once in the mean, and more than 255 times with a chance below 1e-500.
            block = np.empty((rows, self.pictures), dtype=np.uint8)
            column = 0
            for stream, size in zip(streams, self.strata, strict=True):
                block[:, column : column + size] = _count(stream, rows, size)
                column += size
            yield block


def _count(stream: np.random.Generator, rows: int, size: int) -> NDArray[np.intp]:
    """How often each of ``size`` pictures is among ``size`` draws, ``rows`` times."""
    drawn = stream.integers(size, size=(rows, size), dtype=np.int32)
    drawn += (size * np.arange(rows, dtype=np.int32))[:, None]
    return np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size)
