"""Sixteen values at a time: sums back to the type of the maps, and lists of the largest values, for compiled code.

Sums are float32 of bfloat16 products, or int32 of integer ones. ReLU and pooling take the largest; then

    bfloat16   rounds to nearest, halves to even: what PyTorch and OpenVINO do
    uint8      is clip(rint(sum * multiplier), 0, 255), with a multiplier of input scale * weight scale / output scale:
               ONNX Runtime's QLinearConv, whose float32 product is this one

Memory is passed as addresses, as in ``engines.amx.tiles``. The vectors are LLVM's, which any processor runs.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from engines.amx.instructions import make_instruction

LANES = 16
_UPPER, _HALF = 16, 0x7FFF
_MOST = 255.0
# The distance of neighbouring float32 is 1 there: adding it rounds to nearest, halves to even, and leaves the whole
# number in the lowest bits.
_SHIFT = float(3 << 22)

_WORDS, _FLOATS = ir.VectorType(ir.IntType(32), LANES), ir.VectorType(ir.FloatType(), LANES)
_NARROW = {
    np.dtype(np.uint16): ir.VectorType(ir.IntType(16), LANES),
    np.dtype(np.uint8): ir.VectorType(ir.IntType(8), LANES),
}
_ADDRESS = ir.IntType(64)


class _Emitter:
    """Writes vector instructions into a function that is being compiled."""

    def __init__(self, builder: Any, dtype: np.dtype[Any] | None) -> None:
        self.builder = builder
        self._narrow = None if dtype is None else _NARROW[dtype]
        self.is_float = dtype == np.uint16
        self.sums = _FLOATS if self.is_float else _WORDS

    def load(self, address: Any, kind: Any) -> Any:
        loaded = self.builder.load(self.builder.inttoptr(address, kind.as_pointer()))
        loaded.align = 1
        return loaded

    def store(self, value: Any, address: Any) -> None:
        self.builder.store(value, self.builder.inttoptr(address, value.type.as_pointer()), align=1)

    def largest(self, values: Sequence[Any]) -> Any:
        first, *others = values
        for other in others:
            compare = self.builder.fcmp_ordered if first.type == _FLOATS else self.builder.icmp_signed
            first = self.builder.select(compare(">", first, other), first, other)
        return first

    def smaller(self, one: Any, other: Any) -> Any:
        return self.builder.select(self.builder.fcmp_ordered("<", one, other), one, other)

    def add(self, one: Any, other: Any) -> Any:
        return self.builder.fadd(one, other) if self.is_float else self.builder.add(one, other)

    def narrow_sums(self, sums: Any, multipliers: Any) -> Any:
        """Sums as values of the maps; negative ones as 0."""
        builder = self.builder
        positive = self.largest([sums, sums.type([0] * LANES)])
        if self.is_float:
            return self._round(builder.bitcast(positive, _WORDS))
        scaled = builder.fmul(builder.sitofp(positive, _FLOATS), self.load(multipliers, _FLOATS))
        capped = self.smaller(scaled, _FLOATS([_MOST] * LANES))
        return builder.trunc(builder.bitcast(builder.fadd(capped, _FLOATS([_SHIFT] * LANES)), _WORDS), self._narrow)

    def quantise(self, sums: Any, multipliers: Any, zero: Any) -> Any:
        """Sums as the whole numbers from 0 to 255 that an output with a zero point has, float32."""
        builder = self.builder
        scaled = builder.fmul(builder.sitofp(sums, _FLOATS), self.load(multipliers, _FLOATS))
        within = self.smaller(self.largest([scaled, _FLOATS([-2 * _MOST] * LANES)]), _FLOATS([2 * _MOST] * LANES))
        shift = _FLOATS([_SHIFT] * LANES)
        whole = builder.fsub(builder.fadd(within, shift), shift)
        first = builder.insert_element(_FLOATS(ir.Undefined), builder.sitofp(zero, ir.FloatType()), ir.IntType(32)(0))
        zeros = builder.shuffle_vector(first, _FLOATS(ir.Undefined), _WORDS([0] * LANES))
        moved = builder.fadd(whole, zeros)
        return self.smaller(self.largest([moved, _FLOATS([0.0] * LANES)]), _FLOATS([_MOST] * LANES))

    def narrow_differences(self, differences: Any) -> Any:
        """Differences of grey levels without their signs, as values of the maps; exact in both."""
        builder = self.builder
        sizes = self.largest([differences, builder.neg(differences)])
        if self.is_float:
            return self._round(builder.bitcast(builder.sitofp(sizes, _FLOATS), _WORDS))
        return builder.trunc(sizes, self._narrow)

    def _round(self, bits: Any) -> Any:
        builder = self.builder
        odd = builder.and_(builder.lshr(bits, _WORDS([_UPPER] * LANES)), _WORDS([1] * LANES))
        rounded = builder.add(builder.add(bits, _WORDS([_HALF] * LANES)), odd)
        return builder.trunc(builder.lshr(rounded, _WORDS([_UPPER] * LANES)), self._narrow)


@intrinsic
def pool_windows(_context: Any, like: Any, sums: Any, apart: Any, bias: Any, multipliers: Any, out: Any) -> Any:
    """The largest of the sums of four windows with a bias, or 0, as 16 values of the maps.

    Args:
        like: any number of the maps' type.
        sums: address of the first window's sums, 16 of float32 or int32.
        apart: bytes from one window's sums to the next.
        bias: address of the biases.
        multipliers: address of the multipliers.
        out: address of the values.
    """

    def write(emit: _Emitter, sums: Any, apart: Any, bias: Any, multipliers: Any, out: Any) -> None:
        windows = []
        for _ in range(4):
            windows.append(emit.load(sums, emit.sums))
            sums = emit.builder.add(sums, apart)
        total = emit.add(emit.largest(windows), emit.load(bias, emit.sums))
        emit.store(emit.narrow_sums(total, multipliers), out)

    return make_instruction(_Emitter, write, like, sums, apart, bias, multipliers, out)


@intrinsic
def pool_sums(_context: Any, like: Any, upper: Any, lower: Any, apart: Any, multipliers: Any, out: Any) -> Any:
    """The largest of the sums of 2x2 positions, or 0, as 16 values of the maps.

    Args:
        like: any number of the maps' type.
        upper: address of the sums at the left position of the upper row, 16 of float32 or int32.
        lower: address of those in the lower row.
        apart: bytes from a position to the next.
        multipliers: address of the multipliers.
        out: address of the values.
    """

    def write(emit: _Emitter, upper: Any, lower: Any, apart: Any, multipliers: Any, out: Any) -> None:
        places = [place for row in (upper, lower) for place in (row, emit.builder.add(row, apart))]
        largest = emit.largest([emit.load(place, emit.sums) for place in places])
        emit.store(emit.narrow_sums(largest, multipliers), out)

    return make_instruction(_Emitter, write, like, upper, lower, apart, multipliers, out)


@intrinsic
def narrow_sums(_context: Any, like: Any, sums: Any, multipliers: Any, out: Any) -> Any:
    """Sums, or 0 where they are negative, as 16 values of the maps.

    Args:
        like: any number of the maps' type.
        sums: address of the sums, 16 of float32 or int32.
        multipliers: address of the multipliers.
        out: address of the values.
    """

    def write(emit: _Emitter, sums: Any, multipliers: Any, out: Any) -> None:
        emit.store(emit.narrow_sums(emit.load(sums, emit.sums), multipliers), out)

    return make_instruction(_Emitter, write, like, sums, multipliers, out)


@intrinsic
def narrow_differences(_context: Any, like: Any, differences: Any, out: Any) -> Any:
    """Differences of grey levels without their signs, as 16 values of the maps.

    Args:
        like: any number of the maps' type.
        differences: address of the differences, 16 of int32.
        out: address of the values.
    """

    def write(emit: _Emitter, differences: Any, out: Any) -> None:
        emit.store(emit.narrow_differences(emit.load(differences, _WORDS)), out)

    return make_instruction(_Emitter, write, like, differences, out)


@intrinsic
def keep_sums(_context: Any, like: Any, sums: Any, multipliers: Any, zero: Any, out: Any) -> Any:
    """Sums of the projection as 16 float32: as they are for bfloat16, or the whole numbers of its INT8 output.

    Args:
        like: any number of the maps' type.
        sums: address of the sums, 16 of float32 or int32.
        multipliers: address of the multipliers.
        zero: zero point of the output.
        out: address of the numbers.
    """

    def write(emit: _Emitter, sums: Any, multipliers: Any, zero: Any, out: Any) -> None:
        found = emit.load(sums, emit.sums)
        emit.store(found if emit.is_float else emit.quantise(found, multipliers, zero), out)

    return make_instruction(_Emitter, write, like, sums, multipliers, zero, out)


@intrinsic
def sort_in(_context: Any, values: Any, lists: Any, k: Any, apart: Any) -> Any:
    """Put 16 values into 16 sorted lists, from each of which the smallest goes.

    A list ``l`` becomes ``max(l[i], min(l[i - 1], value))``, from the end on; where no value is above the last of its
    list nothing is done.

    Args:
        values: address of the values, float32.
        lists: address of the largest value of each list, float32; the next largest follow.
        k: length of the lists.
        apart: bytes from one value of a list to the next.
    """

    def write(emit: _Emitter, values: Any, lists: Any, k: Any, apart: Any) -> None:
        builder = emit.builder
        new = emit.load(values, _FLOATS)
        last = builder.add(lists, builder.mul(builder.sub(k, _ADDRESS(1)), apart))
        above = builder.fcmp_ordered(">", new, emit.load(last, _FLOATS))
        some = builder.icmp_unsigned("!=", builder.bitcast(above, ir.IntType(LANES)), ir.IntType(LANES)(0))
        with builder.if_then(some, likely=False), cgutils.for_range(builder, builder.sub(k, _ADDRESS(1))) as loop:
            place = builder.sub(last, builder.mul(loop.index, apart))
            before = emit.load(builder.sub(place, apart), _FLOATS)
            emit.store(emit.largest([emit.load(place, _FLOATS), emit.smaller(before, new)]), place)
        with builder.if_then(some, likely=False):
            emit.store(emit.largest([emit.load(lists, _FLOATS), new]), lists)

    return make_instruction(_Emitter, write, values, lists, k, apart)
