"""Products of blocks in the tile registers of AMX, as functions that compiled code calls.

A tile is 16 rows of 64 bytes. The products that the processor knows take a tile of rows, 32 bfloat16 or 64 uint8 each,
a tile of weights, and add to a tile of 16x16 float32 or int32: ``TDPBF16PS`` and ``TDPBUSD`` in Intel's Software
Developer's Manual, volume 2. Weights lie as these want them: two bfloat16, or four int8, of neighbouring inputs beside
each other for each of 16 outputs (``engines.amx.packing``).

Memory is passed as addresses: maps of all stages lie in one piece, and rows of a tile overlap, as windows of a
convolution do. ``engines.amx.emulation`` has the same functions in plain loops, for machines without the units.
"""

import ctypes
import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit
from numba.extending import intrinsic

from engines.amx.instructions import make_instruction
from engines.amx.shapes import ROW_BYTES, TILE

_DATA_STATE = 18  # XFEATURE_XTILEDATA
_REQUEST, _SYSTEM_CALL = 0x1023, 158  # ARCH_REQ_XCOMP_PERM of arch_prctl on x86-64

_BYTE, _WORD = ir.IntType(8), ir.IntType(64)
_ADDRESS = _BYTE.as_pointer()
_PRODUCTS = {np.dtype(np.uint16): "tdpbf16ps", np.dtype(np.uint8): "tdpbusd"}


@functools.cache
def request_tiles() -> bool:
    """Ask the system for the tile registers, once a process; False where it has none to give."""
    answer: int = ctypes.CDLL(None, use_errno=True).syscall(_SYSTEM_CALL, _REQUEST, _DATA_STATE)
    return answer == 0


class Emitter:
    """Writes instructions on tiles into a function that is being compiled."""

    def __init__(self, builder: Any, dtype: np.dtype[Any] | None) -> None:
        self._builder = builder
        self._product = "" if dtype is None else _PRODUCTS[dtype]

    def configure(self, address: Any) -> None:
        """Give the registers the shapes that stand at an address."""
        self._call("ldtilecfg", [_ADDRESS], [self._builder.inttoptr(address, _ADDRESS)])

    def release(self) -> None:
        """Give the registers back."""
        self._call("tilerelease", [], [])

    def clear(self, register: int) -> None:
        """Set a register to 0."""
        self._call("tilezero", [_BYTE], [_BYTE(register)])

    def load(self, register: int, address: Any, stride: Any = ROW_BYTES, *, offset: int = 0) -> None:
        """Read a register whose rows are so many bytes apart."""
        self._move("tileloadd64", register, address, stride, offset)

    def store(self, register: int, address: Any, stride: Any = ROW_BYTES, *, offset: int = 0) -> None:
        """Write a register, with rows so many bytes apart."""
        self._move("tilestored64", register, address, stride, offset)

    def multiply(self, into: int, rows: int, weights: int) -> None:
        """Add a product of two registers to a third one."""
        self._call(self._product, [_BYTE] * 3, [_BYTE(into), _BYTE(rows), _BYTE(weights)])

    def _move(self, name: str, register: int, address: Any, stride: Any, offset: int) -> None:
        place = self._builder.inttoptr(self._builder.add(address, _WORD(offset)), _ADDRESS)
        step = _WORD(stride) if isinstance(stride, int) else stride
        self._call(name, [_BYTE, _ADDRESS, _WORD], [_BYTE(register), place, step])

    def _call(self, name: str, kinds: list[Any], values: list[Any]) -> None:
        module, name = self._builder.module, f"llvm.x86.{name}"
        function = module.globals.get(name) or ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), name)
        self._builder.call(function, values)


@intrinsic
def configure(_context: Any, address: Any) -> Any:
    """Give the registers of this thread the shapes that stand at an address, 64 bytes, and clear them."""
    return make_instruction(Emitter, lambda emit, place: emit.configure(place), address)


@intrinsic
def release(_context: Any) -> Any:
    """Give the registers of this thread back, as other libraries expect them."""
    return make_instruction(Emitter, lambda emit: emit.release())


@intrinsic
def _start(_context: Any, bias: Any) -> Any:
    def write(emit: Emitter, bias: Any) -> None:
        for register in range(4):
            emit.load(register, bias, 0, offset=ROW_BYTES * (register % 2))

    return make_instruction(Emitter, write, bias)


@intrinsic
def _finish(_context: Any, out: Any) -> Any:
    def write(emit: Emitter, out: Any) -> None:
        for register in range(4):
            emit.store(register, out, 2 * ROW_BYTES, offset=ROW_BYTES * (register % 2) + 2 * TILE * (register // 2))

    return make_instruction(Emitter, write, out)


@intrinsic
def _add_three_rows(_context: Any, like: Any, first: Any, second: Any, third: Any, stride: Any, weights: Any) -> Any:
    def write(emit: Emitter, first: Any, second: Any, third: Any, stride: Any, weights: Any) -> None:
        # The row in the middle is the upper one of one window and the lower one of another. Products into one register
        # stand apart, since each takes as long as three others.
        emit.load(4, second, stride)
        emit.load(6, weights)
        emit.multiply(2, 4, 6)
        emit.load(5, first, stride)
        emit.multiply(0, 5, 6)
        emit.load(7, weights, offset=TILE)
        emit.multiply(3, 4, 7)
        emit.multiply(1, 5, 7)
        emit.load(6, weights, offset=2 * TILE)
        emit.multiply(0, 4, 6)
        emit.load(5, third, stride)
        emit.multiply(2, 5, 6)
        emit.load(7, weights, offset=3 * TILE)
        emit.multiply(1, 4, 7)
        emit.multiply(3, 5, 7)

    return make_instruction(Emitter, write, like, first, second, third, stride, weights)


@intrinsic
def _add_two_rows(_context: Any, like: Any, first: Any, second: Any, stride: Any, weights: Any) -> Any:
    def write(emit: Emitter, first: Any, second: Any, stride: Any, weights: Any) -> None:
        emit.load(4, first, stride)
        emit.load(6, weights)
        emit.multiply(0, 4, 6)
        emit.load(7, weights, offset=TILE)
        emit.multiply(1, 4, 7)
        emit.load(5, second, stride)
        emit.multiply(2, 5, 6)
        emit.multiply(3, 5, 7)

    return make_instruction(Emitter, write, like, first, second, stride, weights)


@intrinsic
def subtract_pixels(_context: Any, byte: Any, first: Any, second: Any, third: Any, weights: Any, out: Any) -> Any:
    """Differences of pixels of 16 blocks: int32 ``(16, 16)`` at ``out``, position by value.

    Args:
        byte: any uint8.
        first: address of the first pixel of the uppermost row; blocks are six bytes apart.
        second: address of the pixel below.
        third: address of the pixel below that.
        weights: address of int8 ``(3, 3, 16, 4)``, see ``engines.amx.packing``.
        out: address of the differences.
    """

    def write(emit: Emitter, first: Any, second: Any, third: Any, weights: Any, out: Any) -> None:
        emit.clear(0)
        for place, row in enumerate((first, second, third)):
            emit.load(6, row, 6)
            emit.load(7, weights, offset=3 * ROW_BYTES * place)
            emit.multiply(0, 6, 7)
        emit.store(0, out)

    return make_instruction(Emitter, write, byte, first, second, third, weights, out)


@intrinsic
def multiply_windows(_context: Any, like: Any, values: Any, weights: Any, out: Any) -> Any:
    """The four windows of 16 blocks for 16 outputs: int32 or float32 ``(4, 16, 16)``, window by position by output.

    Args:
        like: any number of the maps' type, which picks the product.
        values: address of the differences, ``(16, 16)`` of the maps' dtype.
        weights: address of the weights of four windows for these outputs, see ``engines.amx.packing``.
        out: address of the sums.
    """
    values_bytes = 16 * 16 * np.dtype(str(like)).itemsize

    def write(emit: Emitter, values: Any, weights: Any, out: Any) -> None:
        emit.load(4, values, values_bytes // 16)
        for window in range(4):
            emit.clear(window)
            emit.load(5, weights, offset=values_bytes * window)
            emit.multiply(window, 4, 5)
        for window in range(4):
            emit.store(window, out, offset=TILE * window)

    return make_instruction(Emitter, write, like, values, weights, out)


@njit(nogil=True, inline="always")
def multiply_three_rows(
    like: Any, first: int, second: int, third: int, stride: int, steps: int, weights: int, bias: int, out: int
) -> None:
    """Two rows of a 2x2 convolution, 16 positions and 32 outputs: float32 or int32 ``(2, 16, 32)``.

    Args:
        like: any number of the maps' type, which picks the product.
        first: address of the first position in the uppermost row of the maps.
        second: address of the position below.
        third: address of the position below that.
        stride: bytes from one position to the next.
        steps: pieces of 64 bytes in two positions.
        weights: address of the weights of these outputs, see ``engines.amx.packing``.
        bias: address of the biases of these outputs, 32 of float32 or int32.
        out: address of the sums.
    """
    _start(bias)
    for step in range(steps):
        place = ROW_BYTES * step
        _add_three_rows(like, first + place, second + place, third + place, stride, weights + 4 * TILE * step)
    _finish(out)


@njit(nogil=True, inline="always")
def multiply_two_rows(
    like: Any, first: int, second: int, stride: int, steps: int, weights: int, bias: int, out: int
) -> None:
    """A 1x1 convolution of two rows, 16 positions and 32 outputs: float32 or int32 ``(2, 16, 32)``.

    Args:
        like: any number of the maps' type, which picks the product.
        first: address of the first position in one row of the maps.
        second: address of the first position in the other.
        stride: bytes from one position to the next.
        steps: pieces of 64 bytes in a position.
        weights: address of the weights of these outputs, see ``engines.amx.packing``.
        bias: address of the biases of these outputs, 32 of float32 or int32.
        out: address of the sums.
    """
    _start(bias)
    for step in range(steps):
        _add_two_rows(like, first + ROW_BYTES * step, second + ROW_BYTES * step, stride, weights + 2 * TILE * step)
    _finish(out)
