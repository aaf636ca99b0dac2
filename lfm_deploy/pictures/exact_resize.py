"""The contract's resize in whole numbers: what a kernel on a card needs to give the very same pixels.

Algebra. Along one axis, output i is the sum of the pixels first[i] .. first[i] + count[i] - 1, each times a weight. In
float64, the weight of pixel x is the triangle max(0, 1 - |x + 0.5 - centre| / width) over its sum, with the centre at
(i + 0.5) * before / after and a width of max(1, before / after). Weights are then rounded to 22 bits behind the point,
the sum is taken in int32, rounded by adding a half and shifting, and clipped to a byte. The width comes first; its
bytes are what the height sees. This is Pillow's arithmetic (``Resample.c``), so that no bit may differ.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

BITS = 22
"""Bits behind the point of a weight: 32, less 8 of a pixel and 2 to spare."""
_SIZES_KEPT = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """How one axis is resized.

    Attributes:
        first: index of the first pixel of each output, int32 ``(after,)``.
        values: weight of each pixel from there, int32 ``(after, taps)``; 0 behind the last.
    """

    first: NDArray[np.int32]
    values: NDArray[np.int32]

    @property
    def taps(self) -> int:
        """Number of pixels that an output sees at most."""
        return int(self.values.shape[1])


@lru_cache(_SIZES_KEPT)
def make_weights(before: int, after: int) -> Weights:
    """Weights of Pillow's antialiased bilinear resize along one axis; 1 for each pixel where nothing changes.

    Args:
        before: number of pixels along the axis.
        after: number of pixels to resize to.
    """
    if before == after:
        # A pass that is skipped: each pixel once.
        return Weights(np.arange(after, dtype=np.int32), np.full((after, 1), 1 << BITS, np.int32))
    scale = before / after
    width = max(scale, 1.0)
    centre = (np.arange(after) + 0.5) * scale
    # A conversion to an integer cuts towards 0, as in C.
    first = np.maximum((centre - width + 0.5).astype(np.int64), 0)
    count = np.minimum((centre + width + 0.5).astype(np.int64), before) - first
    # Column by column, since the order of a sum in float64 is part of its value.
    columns, total = [], np.zeros(after)
    for tap in range(int(count.max())):
        away = np.abs((tap + first - centre + 0.5) * (1.0 / width))
        column = np.where((tap < count) & (away < 1.0), 1.0 - away, 0.0)
        columns.append(column)
        total += column
    exact = np.stack(columns, axis=1) / total[:, None]
    return Weights(first.astype(np.int32), (exact * (1 << BITS) + 0.5).astype(np.int32))


def resize_exactly(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Resize as ``resize_picture`` does, in NumPy: the reference for kernels, and no faster than Pillow.

    Args:
        pixels: picture uint8 ``(H, W, C)``.
        width: width to resize to in pixels.
        height: height to resize to in pixels.

    Returns:
        uint8 ``(height, width, C)``.
    """
    rows = _resize_rows(pixels.swapaxes(0, 1), make_weights(pixels.shape[1], width)).swapaxes(0, 1)
    return np.ascontiguousarray(_resize_rows(rows, make_weights(rows.shape[0], height)))


def _resize_rows(pixels: NDArray[np.uint8], weights: Weights) -> NDArray[np.uint8]:
    """Resize along the first axis."""
    total: NDArray[np.int32] = np.full((len(weights.first), *pixels.shape[1:]), 1 << (BITS - 1), np.int32)
    for tap in range(weights.taps):
        rows = np.minimum(weights.first + tap, len(pixels) - 1)  # beyond the end the weight is 0
        total += pixels[rows].astype(np.int32) * weights.values[:, tap, None, None]
    found: NDArray[np.uint8] = np.clip(total >> BITS, 0, 255).astype(np.uint8)
    return found
