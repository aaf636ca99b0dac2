"""2x2 max pooling of maps whose channels lie together, without a remainder.

Algebra. out[y, x] is the largest of the four values at (2y, 2x) and to its right, below and below right; an odd last
row or column is left out, as pooling with floor does.
"""

from typing import Any

import torch
import triton
import triton.language as tl

from engines.kernels.layout import Layout, power_of_two_in


@triton.jit
def pool(
    x,
    out,
    in_height,
    in_width,
    height,
    width,
    across,
    pitch,
    row,
    total,
    C: tl.constexpr,
    CB: tl.constexpr,
    P: tl.constexpr,
):
    p = tl.program_id(0) * P + tl.arange(0, P)
    inside = (p < total)[:, None]
    n = p // (height * width)
    y = p // width % height
    column = p % width
    c = (tl.program_id(1) * CB + tl.arange(0, CB))[None, :]
    start = x + (((n * in_height + 2 * y).to(tl.int64) * in_width + 2 * column) * C)[:, None] + c
    below = start + in_width * C
    upper = tl.maximum(tl.load(start, mask=inside), tl.load(start + C, mask=inside))
    lower = tl.maximum(tl.load(below, mask=inside), tl.load(below + C, mask=inside))
    place = ((n // across * height + y).to(tl.int64) * row + (n % across) * pitch + column) * C
    tl.store(out + place[:, None] + c, tl.maximum(upper, lower), mask=inside)


def run_pool(maps: torch.Tensor, out: torch.Tensor, layout: Layout, *, positions: int = 16, warps: int = 4) -> None:
    """Write pooled maps.

    Args:
        maps: maps to pool, float16 ``(N, H, W, C)``, contiguous.
        out: memory for the pooled maps, float16 of shape ``layout.shape``.
        layout: layout of the output; its maps are ``(H // 2, W // 2)``.
        positions: number of positions of the output that a program computes, a power of two.
        warps: number of warps in a program.
    """
    _, height, width, channels = maps.shape
    block = power_of_two_in(channels, 256)
    total = layout.pictures * layout.height * layout.width
    grid: Any = (triton.cdiv(total, positions), channels // block)
    pool[grid](
        maps,
        out,
        height,
        width,
        layout.height,
        layout.width,
        layout.across,
        layout.pitch,
        layout.row,
        total,
        C=channels,
        CB=block,
        P=positions,
        num_warps=warps,
    )
