"""The contract's resize of pictures of any sizes to one size, on the card, with the pixels of ``resize_picture``.

Algebra. That of ``lfm_deploy.pictures.exact_resize``: whole-number weights of 22 bits, the width first, rounded to a
byte, then the height. All sums are of int32 and below 2^31, so that their order is free, and no bit may differ.

One launch a pass serves a whole batch: where the pixels of each picture lie, its size and its weights stand in a table
that the kernels read, a row of int64 a picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import triton
import triton.language as tl

from lfm_deploy.pictures.exact_resize import BITS, make_weights

_SIZES_KEPT = 1024
_FIELDS = 12
_ON_CARD, _INTERPRETED = 256, 1 << 16


@triton.jit
def resize_width(table, side, FIELDS: tl.constexpr, BITS: tl.constexpr, P: tl.constexpr):
    row = table + tl.program_id(1) * FIELDS
    pixels = tl.load(row).to(tl.pointer_type(tl.uint8))
    pitch = tl.load(row + 1)
    height = tl.load(row + 2).to(tl.int32)
    width = tl.load(row + 3).to(tl.int32)
    first = tl.load(row + 4).to(tl.pointer_type(tl.int32))
    weights = tl.load(row + 5).to(tl.pointer_type(tl.int32))
    taps = tl.load(row + 6).to(tl.int32)
    between = tl.load(row + 10).to(tl.pointer_type(tl.uint8))
    place = tl.program_id(0).to(tl.int64) * P + tl.arange(0, P)
    inside = place < height.to(tl.int64) * side * 3
    column = (place // 3 % side).to(tl.int32)
    start = pixels + place // (side * 3) * pitch + place % 3
    begin = tl.load(first + column, mask=inside, other=0)
    total = tl.full((P,), 1 << (BITS - 1), tl.int32)
    for tap in range(taps):
        at = tl.minimum(begin + tap, width - 1)
        value = tl.load(start + at.to(tl.int64) * 3, mask=inside, other=0).to(tl.int32)
        total += value * tl.load(weights + tap * side + column, mask=inside, other=0)
    byte = tl.minimum(tl.maximum(total >> BITS, 0), 255)
    tl.store(between + place, byte.to(tl.uint8), mask=inside)


@triton.jit
def resize_height(table, side, FIELDS: tl.constexpr, BITS: tl.constexpr, P: tl.constexpr):
    row = table + tl.program_id(1) * FIELDS
    height = tl.load(row + 2).to(tl.int32)
    first = tl.load(row + 7).to(tl.pointer_type(tl.int32))
    weights = tl.load(row + 8).to(tl.pointer_type(tl.int32))
    taps = tl.load(row + 9).to(tl.int32)
    between = tl.load(row + 10).to(tl.pointer_type(tl.uint8))
    out = tl.load(row + 11).to(tl.pointer_type(tl.uint8))
    place = tl.program_id(0) * P + tl.arange(0, P)
    inside = place < side * side * 3
    line = place // (side * 3)
    rest = place % (side * 3)
    begin = tl.load(first + line, mask=inside, other=0)
    total = tl.full((P,), 1 << (BITS - 1), tl.int32)
    for tap in range(taps):
        at = tl.minimum(begin + tap, height - 1)
        value = tl.load(between + at.to(tl.int64) * (side * 3) + rest, mask=inside, other=0).to(tl.int32)
        total += value * tl.load(weights + tap * side + line, mask=inside, other=0)
    byte = tl.minimum(tl.maximum(total >> BITS, 0), 255)
    tl.store(out + place, byte.to(tl.uint8), mask=inside)


@dataclass(frozen=True, slots=True)
class DevicePixels:
    """One picture where the kernels run, uint8 ``(H, W, 3)`` with channels and columns close together.

    Attributes:
        address: address of the first pixel.
        height: height in pixels.
        width: width in pixels.
        pitch: distance from one row to the next in bytes.
    """

    address: int
    height: int
    width: int
    pitch: int


@lru_cache(_SIZES_KEPT)
def _weights_on(device: str, before: int, after: int) -> tuple[torch.Tensor, torch.Tensor]:
    """First pixels int32 ``(after,)`` and weights int32 ``(taps, after)``, where the kernels run."""
    made = make_weights(before, after)
    values = torch.from_numpy(made.values.T.copy())
    return torch.from_numpy(made.first).to(device), values.to(device)


def run_resize(
    pictures: Sequence[DevicePixels], rows: Sequence[int], out: torch.Tensor, *, positions: int | None = None
) -> None:
    """Resize pictures into rows of a batch, on the current stream.

    Args:
        pictures: pictures on the device of ``out``.
        rows: row of ``out`` for each of them.
        out: batch uint8 ``(N, S, S, 3)``, contiguous.
        positions: number of values that a program computes, a power of two; None is right for a card, and where
            kernels are interpreted, which takes as long for many values as for few.
    """
    positions = positions or (_ON_CARD if out.is_cuda else _INTERPRETED)
    side, device = out.shape[1], str(out.device)
    starts = [0]
    for picture in pictures:
        starts.append(starts[-1] + picture.height * side * 3)
    between = torch.empty(starts[-1], dtype=torch.uint8, device=out.device)
    fields, kept = list[tuple[int, ...]](), list[torch.Tensor]()
    for picture, row, start in zip(pictures, rows, starts, strict=False):
        across, down = _weights_on(device, picture.width, side), _weights_on(device, picture.height, side)
        kept += (*across, *down)  # a cache may drop them before the kernels have run
        fields.append((
            picture.address, picture.pitch, picture.height, picture.width,
            across[0].data_ptr(), across[1].data_ptr(), len(across[1]),
            down[0].data_ptr(), down[1].data_ptr(), len(down[1]),
            between.data_ptr() + start, out.data_ptr() + row * side * side * 3,
        ))  # fmt: skip
    table = torch.tensor(fields, dtype=torch.int64).to(out.device)
    options: Any = {"FIELDS": _FIELDS, "BITS": BITS, "P": positions}
    tallest = max(picture.height for picture in pictures)
    resize_width[(triton.cdiv(tallest * side * 3, positions), len(pictures))](table, side, **options)
    resize_height[(triton.cdiv(side * side * 3, positions), len(pictures))](table, side, **options)
