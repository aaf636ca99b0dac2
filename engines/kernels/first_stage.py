"""From pixels to the first stage's maps: |NPR|, 2x2 convolution, ReLU and max pooling in one kernel.

Algebra. |NPR| is |p - c| for a pixel p and the top left pixel c of its 2x2 block, so it is 0 at even rows and columns.
A pooled value is the largest of four convolutions, which together see 3x3 residuals whose top left one is even; of the
nine, those at (0, 0), (0, 2), (2, 0) and (2, 2) are 0. Five positions of three channels are left: each of the four
convolutions is a product with 15 values, and a sixteenth that is 1 adds the bias. max(ReLU(a), ReLU(b)) is
ReLU(max(a, b)), so ReLU comes last. Residuals are whole numbers up to 255, which float16 holds exactly.
A product of sixteen terms is one step of a tensor core, which rounds its sum once: float16 can take it as it is.

Without pooling, a convolution sees 2x2 residuals: 12 values, three zeros and the bias.
"""

from typing import Any

import torch
import triton
import triton.language as tl

from engines.kernels.layout import Layout, power_of_two_in

# Rows and columns of the residuals that are not always 0, in the order of the weights' rows.
POOLED_POSITIONS = ((0, 1), (1, 0), (1, 1), (1, 2), (2, 1))
SINGLE_POSITIONS = ((0, 0), (0, 1), (1, 0), (1, 1))
TERMS = 16
"""Values in a product: the residuals of three channels, zeros, and a 1 for the bias."""


def arrange_weights(weight: torch.Tensor, bias: torch.Tensor, *, pooled: bool) -> torch.Tensor:
    """Weights ``(C, 3, 2, 2)`` and bias ``(C,)`` as the kernel reads them: ``(phases, 16, C)``, of the same type."""
    positions = POOLED_POSITIONS if pooled else SINGLE_POSITIONS
    phases = [(y, x) for y in range(2) for x in range(2)] if pooled else [(0, 0)]
    rows = torch.zeros(len(phases), TERMS, weight.shape[0], dtype=weight.dtype)
    for phase, (y, x) in enumerate(phases):
        for slot, (row, column) in enumerate(positions):
            if 0 <= row - y < 2 and 0 <= column - x < 2:
                rows[phase, 3 * slot : 3 * slot + 3] = weight[:, :, row - y, column - x].t()
        rows[phase, TERMS - 1] = bias
    return rows


@triton.jit
def load_residuals(start, width, y, x, limit, POOLED: tl.constexpr):
    """Residuals that output row y sees at positions x, float16 ``(P, 16)``; 0 at and beyond ``limit``, then the 1."""
    k = tl.arange(0, 16)
    slot = k // 3
    if POOLED:
        dy = tl.where(slot == 0, 0, tl.where(slot == 4, 2, 1))
        dx = tl.where(slot == 1, 0, tl.where(slot == 3, 2, 1))
        rows = 2 * y + dy
        columns = (2 * x)[:, None] + dx[None, :]
        corner = (rows - dy % 2)[None, :] * width + (columns - (dx % 2)[None, :])
    else:
        rows = y + (slot // 2) % 2
        columns = x[:, None] + (slot % 2)[None, :]
        corner = (rows - rows % 2)[None, :] * width + (columns - columns % 2)
    mask = (x < limit)[:, None] & (k < (15 if POOLED else 12))[None, :]
    colour = (k % 3)[None, :]
    value = tl.load(start + (rows[None, :] * width + columns) * 3 + colour, mask=mask, other=0)
    first = tl.load(start + corner * 3 + colour, mask=mask, other=0)
    residual = tl.abs(value.to(tl.int16) - first.to(tl.int16))
    return tl.where((k == 15)[None, :], 1, residual).to(tl.float16)


@triton.jit
def first_stage(
    job,
    weight,
    out,
    height,
    width,
    out_height,
    out_width,
    across,
    pitch,
    row,
    tiles,
    C: tl.constexpr,
    CB: tl.constexpr,
    P: tl.constexpr,
    POOLED: tl.constexpr,
):
    c = tl.program_id(1) * CB + tl.arange(0, CB)
    at = weight + tl.arange(0, 16)[:, None] * C + c[None, :]
    w0 = tl.load(at)
    if POOLED:
        w1 = tl.load(at + 16 * C)
        w2 = tl.load(at + 32 * C)
        w3 = tl.load(at + 48 * C)
    columns = tl.cdiv(out_width, P)
    image = tl.load(job).to(tl.pointer_type(tl.uint8))
    count = tl.load(job + 1)
    for tile in tl.range(tl.program_id(0), tiles, tl.num_programs(0)):
        line = tile // columns
        n = line // out_height
        y = line % out_height
        x = (tile % columns) * P + tl.arange(0, P)
        start = image + n.to(tl.int64) * height * width * 3
        limit = tl.where(n < count, out_width, 0)
        residual = load_residuals(start, width, y, x, limit, POOLED)
        best = tl.dot(residual, w0, out_dtype=tl.float16)
        if POOLED:
            best = tl.maximum(best, tl.dot(residual, w1, out_dtype=tl.float16))
            best = tl.maximum(best, tl.dot(residual, w2, out_dtype=tl.float16))
            best = tl.maximum(best, tl.dot(residual, w3, out_dtype=tl.float16))
        best = tl.maximum(best, 0.0).to(tl.float16)
        place = ((n // across * out_height + y).to(tl.int64) * row + (n % across) * pitch + x) * C
        tl.store(out + place[:, None] + c[None, :], best, mask=(x < out_width)[:, None])


def run_first_stage(
    job: torch.Tensor,
    size: tuple[int, int],
    weight: torch.Tensor,
    out: torch.Tensor,
    layout: Layout,
    *,
    programs: int,
    positions: int = 64,
    warps: int = 4,
) -> None:
    """Write the first stage's maps.

    Args:
        job: job of this run, int64 ``(3,)``, from ``make_job``: where the pixels are and how many pictures there are.
            The kernel reads it when it runs, so that a captured graph can be given others. Pictures beyond them count
            as black.
        size: H and W of the pixels, uint8 ``(N, H, W, 3)``, both even.
        weight: weights with the bias among them, float16 ``(4 or 1, 16, C)``, from ``arrange_weights``; four where maps
            are pooled.
        out: memory for the maps, float16 of shape ``layout.shape``.
        layout: layout of the maps; they are ``((H - 1) // 2, (W - 1) // 2)`` pooled, ``(H - 1, W - 1)`` otherwise.
        programs: number of programs to start; each does its share of the rows.
        positions: number of positions in a row that are computed at once, a power of two.
        warps: number of warps in a program.
    """
    height, width = size
    block = power_of_two_in(layout.channels, 128)
    tiles = layout.pictures * layout.height * triton.cdiv(layout.width, positions)
    grid: Any = (min(programs, tiles), layout.channels // block)
    first_stage[grid](
        job,
        weight,
        out,
        height,
        width,
        layout.height,
        layout.width,
        layout.across,
        layout.pitch,
        layout.row,
        tiles,
        C=layout.channels,
        CB=block,
        P=positions,
        POOLED=weight.shape[0] == 4,
        num_warps=warps,
    )
