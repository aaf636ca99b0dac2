"""The most that the matrix units of a core multiply: tiles that stay in their registers, nothing loaded or stored."""

from typing import Any

import numpy as np
from numba import njit
from numba.extending import intrinsic

from engines.amx.instructions import make_instruction
from engines.amx.shapes import PAIRED, ROW_BYTES, ROWS, make_configurations
from engines.amx.units import Emitter, configure, release

_AT_A_TIME = 16


@intrinsic
def _multiply_registers(_context: Any, like: Any) -> Any:
    def write(emit: Emitter) -> None:
        for number in range(_AT_A_TIME):
            emit.multiply(number % 4, 4 + number % 2, 6 + number // 2 % 2)

    return make_instruction(Emitter, write, like)


@njit(nogil=True)
def _multiply(like: Any, shapes: int, times: int) -> None:
    configure(shapes)
    for _ in range(times):
        _multiply_registers(like)
    release()


def multiply_tiles(kind: str, times: int) -> float:
    """Multiply tiles in registers on one core.

    Args:
        kind: precision: ``"bf16"`` or ``"int8"``.
        times: number of times that sixteen products are computed.

    Returns:
        Number of operations, two a multiply-add.
    """
    dtype = np.dtype(np.uint16 if kind == "bf16" else np.uint8)
    shapes = make_configurations(dtype)
    _multiply(dtype.type(0), shapes[PAIRED].ctypes.data, times)
    return 2.0 * times * _AT_A_TIME * ROWS * ROWS * (ROW_BYTES // dtype.itemsize)
