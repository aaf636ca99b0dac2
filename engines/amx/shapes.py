"""Sizes of AMX's tile registers, and how they are shared out."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

ROWS = 16
"""Positions, or outputs, of one tile."""
ROW_BYTES = 64
"""Bytes of a row: inputs of a position."""
TILE = ROWS * ROW_BYTES
"""Bytes of a tile."""
PAIRED, FIRST_STAGE = 0, 1
"""Rows of ``make_configurations``."""
_REGISTERS = 8
_VALUES = 16


def make_configurations(dtype: np.dtype[Any]) -> NDArray[np.uint8]:
    """What ``LDTILECFG`` reads: the shape of each register.

    Args:
        dtype: dtype of the maps, uint16 for bfloat16 or uint8.

    Returns:
        uint8 ``(2, 64)``: full tiles for the convolutions, and those of the first stage, whose sums are short.
    """
    whole, values = (ROWS, ROW_BYTES), _VALUES * dtype.itemsize
    # Four sums; the differences of a position with their weights; twelve bytes of pixels with theirs.
    short = [*[whole] * 4, (ROWS, values), (values // 4, ROW_BYTES), (ROWS, 12), (3, ROW_BYTES)]
    found = np.zeros((2, ROW_BYTES), np.uint8)
    for row, registers in ((PAIRED, [whole] * _REGISTERS), (FIRST_STAGE, short)):
        found[row, 0] = 1  # palette
        for register, (rows, columns) in enumerate(registers):
            found[row, 16 + 2 * register] = columns
            found[row, 48 + register] = rows
    return found
