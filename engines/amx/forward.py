"""The forward pass of SNet with Top-K pooling on one core, picture after picture.

Each stage is computed two rows of a convolution at a time, for 16 positions and 32 outputs: their sums stay in the
first cache, where they are pooled and rounded, so that only pooled maps are ever written. The second stage takes the
first one's rows as they come, out of a ring of four, and the last one's go into the projection.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from engines.amx.compilation import compile_and_keep
from engines.amx.first_stage import run_first_row
from engines.amx.selection import judge_maps
from engines.amx.shapes import FIRST_STAGE, PAIRED, ROW_BYTES, ROWS, TILE
from engines.amx.tiles import EMULATED, configure, multiply_three_rows, multiply_two_rows, release
from engines.amx.vectors import LANES, keep_sums, narrow_sums, pool_sums
from engines.kernel_sources import hash_kernels

PAIR = 2 * ROWS
"""Outputs that are computed together."""
RING = 4
"""Rows of the first maps that are kept."""
POOLED, PLAIN, LAST = 0, 1, 2
"""What follows a convolution: 2x2 pooling, nothing, or the projection."""


class Ends(NamedTuple):
    """What stands before and behind the convolutions, as compiled code takes it.

    Arrays are passed as addresses: code that counts references to them waits for memory at each.

    Attributes:
        size: bytes of a value of the maps.
        configurations: address of the shapes of the registers, see ``shapes.make_configurations``.
        differences: address of the weights of the differences of pixels.
        windows: address of the weights of the first stage.
        bias: address of its biases, int32 ``(C,)`` or float32.
        multipliers: address of its multipliers, float32 ``(C,)``.
        channels: channels of its maps.
        projection: address of the weights of the projection.
        projection_steps: pieces of 64 bytes in a position of its input.
        projection_bias: address of its biases, int32 ``(P,)`` or float32.
        projection_multipliers: address of its multipliers, float32 ``(P,)``.
        projection_zero: zero point of its outputs.
        projected: number of outputs of the projection.
        linear_bias: bias of the linear layer, float32.
    """

    size: int
    configurations: int
    differences: int
    windows: int
    bias: int
    multipliers: int
    channels: int
    projection: int
    projection_steps: int
    projection_bias: int
    projection_multipliers: int
    projection_zero: int
    projected: int
    linear_bias: np.float32


class Room(NamedTuple):
    """Memory of one thread for pictures of one size, as addresses.

    Attributes:
        maps: address of the maps of all stages.
        values: address of room for the differences of a row.
        signed: address of room for differences with their signs, int32 ``(16, 16)``.
        windows: address of room for the sums of the first stage, int32 ``(4, 16, 16)``.
        sums: address of room for the sums of a convolution, int32 ``(2, 16, 32)``.
        last: address of room for two rows of 16 positions of the last convolution's maps.
        projected: address of the projected maps, float32 ``(positions, P)``.
        positions: number of positions.
    """

    maps: int
    values: int
    signed: int
    windows: int
    sums: int
    last: int
    projected: int
    positions: int


@njit(nogil=True)
def run_stage(like: Any, pixels: int, below: int, ends: Any, stages: Any, places: Any, index: int, room: Any) -> None:
    """All rows of one convolution and what follows it; before the first of them, the rows of maps that it reads."""
    rows = places[index, 3]
    pairs = (rows - 1) // 2 if stages[index, 0] == POOLED else rows // 2
    made = 0
    for pair in range(pairs):
        if index == 0:
            configure(ends.configurations + ROW_BYTES * FIRST_STAGE)
            while made < min(2 * pair + 3, rows):
                to = find_place(places, 0, made, 0, ends, room)
                run_first_row(like, pixels + 2 * made * below, below, places[0, 4], ends, room, to)
                made += 1
        configure(ends.configurations + ROW_BYTES * PAIRED)
        _run_pair(like, ends, stages, places, index, pair, room)


@njit(nogil=True)
def _run_pair(like: Any, ends: Any, stages: Any, places: Any, index: int, pair: int, room: Any) -> None:
    """Two rows of a convolution, and what follows them; below an odd number of rows the last one is read again."""
    kind, weights, steps = stages[index, 0], stages[index, 1], stages[index, 2]
    bias, multipliers, outputs = stages[index, 3], stages[index, 4], stages[index, 5]
    rows, columns, size, sums = places[index, 3], places[index, 4], ends.size, room.sums
    stride = places[index, 5] * size
    used = (columns - 1) // 2 * 2 if kind == POOLED else columns - 1
    for group in range((used + ROWS - 1) // ROWS):
        first = find_place(places, index, 2 * pair, ROWS * group, ends, room)
        second = find_place(places, index, 2 * pair + 1, ROWS * group, ends, room)
        third = find_place(places, index, min(2 * pair + 2, rows - 1), ROWS * group, ends, room)
        for output in range(0, outputs, PAIR):
            tiles, scales = weights + 4 * TILE * steps * (output // PAIR), multipliers + 4 * output
            multiply_three_rows(like, first, second, third, stride, steps, tiles, bias + 4 * output, sums)
            if kind == POOLED:
                count = min(ROWS // 2, used // 2 - ROWS // 2 * group)
                to = find_place(places, index + 1, pair, ROWS // 2 * group, ends, room) + output * size
                _pool(like, sums, scales, size, to, outputs * size, count)
                continue
            for row in range(2):
                of_row = sums + 4 * row * ROWS * PAIR
                if kind == LAST:
                    to = room.last + (row * ROWS * outputs + output) * size
                    _copy(like, of_row, scales, size, to, outputs * size, ROWS)
                elif 2 * pair + row < rows - 1:
                    to = find_place(places, index + 1, 2 * pair + row, ROWS * group, ends, room) + output * size
                    _copy(like, of_row, scales, size, to, outputs * size, min(ROWS, used - ROWS * group))
        if kind == LAST:
            to = room.projected + 4 * ends.projected * (2 * pair * used + ROWS * group)
            _project(like, ends, room, outputs, min(2, rows - 1 - 2 * pair), min(ROWS, used - ROWS * group), used, to)


@njit(nogil=True)
def find_place(places: Any, index: int, row: int, column: int, ends: Any, room: Any) -> int:
    """Address of a position's values in the maps that convolution ``index`` reads."""
    value = places[index, 0] + (row & places[index, 2]) * places[index, 1] + column * places[index, 5]
    address: int = room.maps + value * ends.size
    return address


@njit(nogil=True)
def _pool(like: Any, sums: int, multipliers: int, size: int, out: int, apart: int, count: int) -> None:
    """The largest of 2x2 sums ``(2, 16, 32)``, or 0, as values of the maps at ``out``, positions ``apart`` bytes."""
    for position in range(count):
        for half in range(0, PAIR, LANES):
            upper = sums + 4 * (2 * PAIR * position + half)
            to = out + apart * position + half * size
            pool_sums(like, upper, upper + 4 * ROWS * PAIR, 4 * PAIR, multipliers + 4 * half, to)


@njit(nogil=True)
def _copy(like: Any, sums: int, multipliers: int, size: int, out: int, apart: int, count: int) -> None:
    """Sums ``(16, 32)``, or 0 where they are negative, as values of the maps at ``out``, positions ``apart`` bytes."""
    for position in range(count):
        for half in range(0, PAIR, LANES):
            to = out + apart * position + half * size
            narrow_sums(like, sums + 4 * (PAIR * position + half), multipliers + 4 * half, to)


@njit(nogil=True)
def _project(
    like: Any, ends: Any, room: Any, inputs: int, rows: int, columns: int, row_positions: int, out: int
) -> None:
    """The projection of two rows of 16 positions, as far as there are so many, to ``out``."""
    stride = inputs * ends.size
    for output in range(0, ends.projected, PAIR):
        weights = ends.projection + 2 * TILE * ends.projection_steps * (output // PAIR)
        bias, multipliers = ends.projection_bias + 4 * output, ends.projection_multipliers + 4 * output
        below = room.last + ROWS * stride
        multiply_two_rows(like, room.last, below, stride, ends.projection_steps, weights, bias, room.sums)
        for row in range(rows):
            for column in range(columns):
                sums = room.sums + 4 * PAIR * (ROWS * row + column)
                to = out + 4 * (ends.projected * (row_positions * row + column) + output)
                for half in range(0, PAIR, LANES):
                    scales = multipliers + 4 * half
                    keep_sums(like, sums + 4 * half, scales, ends.projection_zero, to + 4 * half)


@functools.cache
def compile_judge() -> Callable[..., None]:
    """A function that judges pictures on one core; it is compiled when it first runs, and kept on disk.

    It takes, in this order:

    - 0 of the maps' type: uint16 for bfloat16, or uint8;
    - address of the pixels, uint8 ``(N, H, W, 3)``, and H and W: arrays that may not be written are of a type of their
      own to Numba;
    - what stands before and behind the convolutions, an ``Ends``;
    - the convolutions after the first one, int64 ``(depth - 1, 6)``: what follows each (``POOLED``, ``PLAIN`` or
      ``LAST``), address of its weights as ``packing.pack_convolution`` lays them out, pieces of 64 bytes in two
      positions of its input, addresses of its biases and multipliers, and number of its outputs;
    - where the maps lie that each of them reads, int64 ``(depth - 1, 6)``: index of the first value, values of a row,
      mask for the number of a row, rows, columns and channels;
    - memory, a ``Room`` for pictures of this size;
    - weights of the linear layer, float32 ``(k, P)``, those of the largest values first, and room for as many values;
    - the logits that it writes, float32 ``(N,)``.
    """
    # Numba itself looks at the file of the outermost function alone.
    sources = hash_kernels("amx") + str(EMULATED)

    def judge_pictures(
        like: Any, pixels: int, height: int, width: int,
        ends: Any, stages: Any, places: Any, room: Any, linear: Any, largest: Any, logits: Any,
    ) -> None:  # fmt: skip
        if sources == "":  # never: what the function closes over is part of the key that Numba keeps it under
            return
        row = 3 * width
        for number in range(len(logits)):
            for index in range(len(stages)):
                run_stage(like, pixels + number * height * row, row, ends, stages, places, index, room)
            logits[number] = judge_maps(room.projected, room.positions, linear, ends.linear_bias, largest)
        release()

    return compile_and_keep(judge_pictures)
