"""Pixels to the first pooled maps, a row at a time: NPR, the first convolution, pooling and ReLU.

As ``export.blocks`` shows, the pooled value of a 2x2 block reads fifteen differences of pixels, and is the largest of
four sums of them. Differences are a product with weights of 1 and -1 of the three rows of pixels that they see:

    values[position, v] = | sum over rows r and bytes b of pixels[2 y + r, 6 position + b] differences[r, b, v] |

where the twelve bytes of a position, three pixels and one that is not read, overlap those of the next: tiles are read
out of the picture itself, 6 bytes apart.
"""

from typing import Any

import numpy as np
from numba import njit

from engines.amx.shapes import ROWS, TILE
from engines.amx.tiles import multiply_windows, subtract_pixels
from engines.amx.vectors import narrow_differences, pool_windows

VALUES = 16
"""Values of a block: fifteen differences and one that is 0."""
_BLOCK = 6  # bytes of two pixels
_SUMS = 64  # bytes of 16 sums


@njit(nogil=True)
def run_first_row(like: Any, pixels: int, below: int, columns: int, ends: Any, room: Any, out: int) -> None:
    """One row of the first pooled maps.

    Args:
        like: any number of the maps' type.
        pixels: address of the row of pixels that its blocks begin in.
        below: bytes from a row of pixels to the next.
        columns: columns of the maps, half the width of the pictures less one.
        ends: weights of the differences and of the first stage, a ``forward.Ends``.
        room: memory, a ``forward.Room``.
        out: address of the row's first value. Values of up to 15 positions behind the last one are written too.
    """
    channels, size, values = ends.channels, ends.size, room.values
    groups = (columns + ROWS - 1) // ROWS
    for group in range(groups):
        place = pixels + _BLOCK * ROWS * group
        subtract_pixels(np.uint8(0), place, place + below, place + 2 * below, ends.differences, room.signed)
        for position in range(ROWS):
            to = values + (ROWS * group + position) * VALUES * size
            narrow_differences(like, room.signed + _SUMS * position, to)
    tile = ROWS * VALUES * size
    for group in range(groups):
        for output in range(0, channels, ROWS):
            multiply_windows(like, values + tile * group, ends.windows + 4 * tile * (output // ROWS), room.windows)
            bias, multipliers = ends.bias + 4 * output, ends.multipliers + 4 * output
            for position in range(ROWS):
                to = out + ((ROWS * group + position) * channels + output) * size
                pool_windows(like, room.windows + _SUMS * position, TILE, bias, multipliers, to)
