"""2x2 convolution, ReLU and 2x2 max pooling in one kernel, for GPUs with tensor descriptors (Hopper and newer).

Algebra. Maps lie in strips: rows of 128 positions (``layout``). Convolution row y at column x is the sum over taps
(i, j) of W[i, j] times the input at (y + i, x + j), which is the position 128 i + j further in memory. So a tile of
256 positions, which is two rows, is one matrix product for each tap, with a tile of the input that starts 128 i + j
positions later: contiguous memory, fetched by a tensor descriptor. Row m of a product is column m % 128 of row m / 128.
Of an accumulator the 2x2 neighbours are rows m, m + 1, m + 128 and m + 129: the first pair that is compared, m and
m + 128, lies in one thread's registers, the other in neighbouring lanes, so maps before the pooling never leave the
registers. Bias and ReLU follow the largest, which they commute with.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from engines.kernels.layout import Layout, power_of_two_in


@triton.jit
def pooled_convolution(
    x,
    weight,
    bias,
    out,
    pictures,
    height,
    tile_rows,
    tiles,
    across,
    half_pitch,
    out_width,
    out_across,
    out_pitch,
    out_row,
    out_height,
    ROW: tl.constexpr,
    K: tl.constexpr,
    N: tl.constexpr,
    NB: tl.constexpr,
    KB: tl.constexpr,
    STAGES: tl.constexpr,
):
    blocks: tl.constexpr = N // NB
    chunks: tl.constexpr = K // KB
    for index in tl.range(tl.program_id(0), tiles * blocks, tl.num_programs(0), flatten=True):
        tile = index // blocks
        first = (index % blocks) * NB
        strip = tile // tile_rows
        y = tile % tile_rows
        start = (strip * height + 2 * y) * ROW
        sums = tl.zeros((2 * ROW, NB), tl.float32)
        for step in tl.range(4 * chunks, num_stages=STAGES):
            tap = step // chunks
            channel = (step % chunks) * KB
            tile_of_x = x.load([start + (tap // 2) * ROW + tap % 2, channel])
            sums = tl.dot(tile_of_x, weight.load([tap * K + channel, first]), sums)
        best = tl.max(tl.reshape(sums, (2, ROW, NB)), axis=0)
        best = tl.max(tl.reshape(best, (ROW // 2, 2, NB)), axis=1)
        c = first + tl.arange(0, NB)
        best = tl.maximum(best + tl.load(bias + c)[None, :], 0.0).to(tl.float16)
        p = tl.arange(0, ROW // 2)
        n = strip * across + p // half_pitch
        column = p % half_pitch
        place = ((n // out_across * out_height + y).to(tl.int64) * out_row + (n % out_across) * out_pitch + column) * N
        tl.store(out + place[:, None] + c[None, :], best, mask=((column < out_width) & (n < pictures))[:, None])


def run_pooled_convolution(
    maps: torch.Tensor,
    before: Layout,
    weight: torch.Tensor,
    bias: torch.Tensor,
    out: torch.Tensor,
    after: Layout,
    *,
    programs: int,
    stages: int = 4,
    warps: int = 8,
) -> None:
    """Write the pooled maps of one stage.

    Args:
        maps: maps of the stage before, float16 of shape ``before.shape``, in strips; the channels are a multiple of 16.
        before: layout of the input.
        weight: weights, float16 ``(4 * K, C)``: taps (0, 0), (0, 1), (1, 0), (1, 1), K input channels each.
        bias: bias, float32 ``(C,)``.
        out: memory for the pooled maps, float16 of shape ``after.shape``.
        after: layout of the output, plain or in strips; its maps are ``((H - 1) // 2, (W - 1) // 2)``.
        programs: number of programs to start; each does its share of the tiles.
        stages: number of tiles of the input that are under way at once.
        warps: number of warps in a program.
    """
    inputs, outputs = before.channels, after.channels
    inner, block = power_of_two_in(inputs, 64), power_of_two_in(outputs, 128)
    rows = before.strips * before.height * before.row
    tiles = before.strips * after.height
    grid: Any = (min(programs, tiles * (outputs // block)),)
    pooled_convolution[grid](
        TensorDescriptor(maps, [rows, inputs], [inputs, 1], [2 * before.row, inner]),
        TensorDescriptor(weight, [4 * inputs, outputs], [outputs, 1], [inner, block]),
        bias,
        out,
        after.pictures,
        before.height,
        after.height,
        tiles,
        before.across,
        before.pitch // 2,
        after.width,
        after.across,
        after.pitch,
        after.row,
        after.height,
        ROW=before.row,
        K=inputs,
        N=outputs,
        NB=block,
        KB=inner,
        STAGES=stages,
        num_warps=warps,
    )
