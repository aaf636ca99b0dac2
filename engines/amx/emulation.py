"""The functions of ``engines.amx.units`` in plain loops, for tests on machines without the units.

Sums are float32 or int32 as there; only the order in which float32 products are added is another one.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic, overload

from engines.amx.shapes import ROW_BYTES, ROWS, TILE

_GROUP = 4  # bytes of inputs that lie beside each other for each output


@intrinsic
def _to_pointer(_context: Any, address: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), generate


def _add_group(like: Any, rows: Any, weights: Any, total: Any) -> Any:
    """A sum with the products of four bytes of inputs."""
    raise NotImplementedError("for compiled code")


def _as_sums(like: Any, sums: Any) -> Any:
    """Sums as the type that products of the maps' dtype have."""
    raise NotImplementedError("for compiled code")


def _count_bytes(like: Any) -> int:
    """Bytes of a value of the maps."""
    raise NotImplementedError("for compiled code")


@overload(_count_bytes)
def _count_bytes_of(like: Any) -> Any:
    size = like.bitwidth // 8

    def count(like: Any) -> Any:
        return size

    return count


@overload(_add_group)
def _add_group_of(like: Any, rows: Any, weights: Any, total: Any) -> Any:
    if like == types.uint16:

        def of_bfloat16(like: Any, rows: Any, weights: Any, total: Any) -> Any:
            left, right = carray(_to_pointer(rows), 2, np.uint16), carray(_to_pointer(weights), 2, np.uint16)
            for place in range(2):
                one = np.int32(np.uint32(left[place]) << 16).view(np.float32)
                other = np.int32(np.uint32(right[place]) << 16).view(np.float32)
                total += one * other
            return total

        return of_bfloat16

    def of_integers(like: Any, rows: Any, weights: Any, total: Any) -> Any:
        left, right = carray(_to_pointer(rows), 4, np.uint8), carray(_to_pointer(weights), 4, np.int8)
        for place in range(4):
            total += np.int32(left[place]) * np.int32(right[place])
        return np.int32(total)

    return of_integers


@overload(_as_sums)
def _as_sums_of(like: Any, sums: Any) -> Any:
    if like == types.uint16:

        def as_floats(like: Any, sums: Any) -> Any:
            return sums.view(np.float32)

        return as_floats

    def as_they_are(like: Any, sums: Any) -> Any:
        return sums

    return as_they_are


@njit(nogil=True)
def _multiply(like: Any, rows: int, stride: int, weights: int, size: int, sums: Any) -> None:
    """Add a product of tiles to sums, a view of ``(16, 16)``; ``size`` is the bytes of inputs."""
    for row in range(ROWS):
        for output in range(ROWS):
            total = sums[row, output]
            for group in range(0, size, _GROUP):
                place = weights + group * ROWS + _GROUP * output
                total = _add_group(like, rows + stride * row + group, place, total)
            sums[row, output] = total


@njit(nogil=True)
def configure(address: int) -> None:
    """Do nothing: there are no registers."""


@njit(nogil=True)
def release() -> None:
    """Do nothing: there are no registers."""


@njit(nogil=True)
def subtract_pixels(byte: Any, first: int, second: int, third: int, weights: int, out: int) -> None:
    """See ``engines.amx.units``."""
    sums = carray(_to_pointer(out), (ROWS, ROWS), np.int32)
    sums[:] = 0
    for place, row in enumerate((first, second, third)):
        _multiply(byte, row, 6, weights + 3 * ROW_BYTES * place, 12, sums)


@njit(nogil=True)
def multiply_windows(like: Any, values: int, weights: int, out: int) -> None:
    """See ``engines.amx.units``."""
    sums = _as_sums(like, carray(_to_pointer(out), (4, ROWS, ROWS), np.int32))
    sums[:] = 0
    size = ROWS * _count_bytes(like)
    for window in range(4):
        _multiply(like, values, size, weights + ROWS * size * window, size, sums[window])


@njit(nogil=True)
def multiply_three_rows(
    like: Any, first: int, second: int, third: int, stride: int, steps: int, weights: int, bias: int, out: int
) -> None:
    """See ``engines.amx.units``."""
    sums = _start(like, bias, out)
    for step in range(steps):
        place, tile = ROW_BYTES * step, weights + 4 * TILE * step
        for half in range(2):
            columns = slice(ROWS * half, ROWS * (half + 1))
            of_upper, of_lower = tile + TILE * half, tile + TILE * (2 + half)
            _multiply(like, first + place, stride, of_upper, ROW_BYTES, sums[0, :, columns])
            _multiply(like, second + place, stride, of_lower, ROW_BYTES, sums[0, :, columns])
            _multiply(like, second + place, stride, of_upper, ROW_BYTES, sums[1, :, columns])
            _multiply(like, third + place, stride, of_lower, ROW_BYTES, sums[1, :, columns])


@njit(nogil=True)
def multiply_two_rows(
    like: Any, first: int, second: int, stride: int, steps: int, weights: int, bias: int, out: int
) -> None:
    """See ``engines.amx.units``."""
    sums = _start(like, bias, out)
    for step in range(steps):
        place, tile = ROW_BYTES * step, weights + 2 * TILE * step
        for half in range(2):
            columns = slice(ROWS * half, ROWS * (half + 1))
            _multiply(like, first + place, stride, tile + TILE * half, ROW_BYTES, sums[0, :, columns])
            _multiply(like, second + place, stride, tile + TILE * half, ROW_BYTES, sums[1, :, columns])


@njit(nogil=True)
def _start(like: Any, bias: int, out: int) -> Any:
    """Sums ``(2, 16, 32)`` that begin with the biases."""
    sums = _as_sums(like, carray(_to_pointer(out), (2, ROWS, 2 * ROWS), np.int32))
    start = _as_sums(like, carray(_to_pointer(bias), 2 * ROWS, np.int32))
    for row in range(2):
        for position in range(ROWS):
            sums[row, position] = start
    return sums
