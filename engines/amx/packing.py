"""Weights in the order in which tiles read them.

A tile of weights holds 64 bytes of inputs of 16 outputs, in rows: four bytes of inputs (two bfloat16, or four int8) of
each output beside each other, then the next four bytes. Inputs of a 2x2 convolution whose channels lie last are two
neighbouring positions in one row of the maps, and two in the row below.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.amx.shapes import ROW_BYTES, ROWS
from export.blocks import make_differences

_GROUP_BYTES = 4


def pack_convolution(weight: NDArray[Any]) -> NDArray[Any]:
    """Weights of a 2x2 convolution.

    Args:
        weight: uint16 (bits of bfloat16) or int8 ``(C_out, C_in, 2, 2)``; ``C_out`` a multiple of 32.

    Returns:
        ``(C_out / 32, steps, 2, 2, tile)`` of the same dtype: by 32 outputs, piece of 64 bytes, row, and 16 outputs.
    """
    outputs, inputs = weight.shape[:2]
    rows = [pack_products(weight[:, :, row].transpose(0, 2, 1).reshape(outputs, 2 * inputs)) for row in range(2)]
    return np.ascontiguousarray(np.stack(rows, axis=2))


def pack_products(weight: NDArray[Any]) -> NDArray[Any]:
    """Weights of a 1x1 convolution.

    Args:
        weight: uint16 (bits of bfloat16) or int8 ``(C_out, C_in)``; ``C_out`` a multiple of 32. Inputs are filled up
            with zeros to pieces of 64 bytes.

    Returns:
        ``(C_out / 32, steps, 2, tile)`` of the same dtype.
    """
    outputs, inputs = weight.shape
    step = ROW_BYTES // weight.itemsize
    steps = -(-inputs // step)
    filled = np.zeros((outputs, steps * step), weight.dtype)
    filled[:, :inputs] = weight
    tiles = _lay_out(filled.reshape(outputs // ROWS, ROWS, steps, step).transpose(0, 2, 1, 3))
    return np.ascontiguousarray(tiles.reshape(outputs // (2 * ROWS), 2, steps, -1).transpose(0, 2, 1, 3))


def pack_windows(weights: NDArray[Any]) -> NDArray[Any]:
    """Weights of the first stage.

    Args:
        weights: uint16 (bits of bfloat16) or int8 ``(4, C, 16)``: by window, output and value of the block.

    Returns:
        ``(C / 16, 4, tile)`` of the same dtype.
    """
    windows, outputs, values = weights.shape
    tiles = _lay_out(weights.reshape(windows, outputs // ROWS, ROWS, values))
    return np.ascontiguousarray(tiles.transpose(1, 0, 2))


def pack_differences() -> NDArray[np.int8]:
    """Weights of the differences of pixels, int8 ``(3, 192)``: for each row of pixels, twelve bytes of a block."""
    weight = make_differences().astype(np.int8)  # (16, 3, 3, 3): value, colour, row, column
    by_row = np.zeros((3, ROWS, 12), np.int8)
    by_row[:, :, :9] = weight.transpose(2, 0, 3, 1).reshape(3, ROWS, 9)
    return np.ascontiguousarray(_lay_out(by_row))


def _lay_out(weight: NDArray[Any]) -> NDArray[Any]:
    """Tiles ``(..., tile)`` of weights ``(..., 16, inputs)``."""
    group = _GROUP_BYTES // weight.itemsize
    *others, outputs, inputs = weight.shape
    grouped = weight.reshape(*others, outputs, inputs // group, group)
    return np.moveaxis(grouped, -3, -2).reshape(*others, outputs * inputs)
