"""The k largest values of each channel, in order, by sorting networks: the first half of Top-K pooling.

Algebra. A list of k values, k a power of two, is a tuple of k registers, and each thread has lists of its own: sorting
is a fixed sequence of minima and maxima between registers (Batcher's bitonic network), and nothing moves between
threads. Of two descending lists a and b, the k largest are max(a[t], b[k - 1 - t]) for t = 0 .. k - 1, a bitonic list
that log2 k further steps put in order. A channel's positions are dealt to several lists, which ``judgement`` merges.
Values alone are compared, so ties cannot matter.
"""

from typing import Any

import torch
import triton
import triton.language as tl

from engines.kernels.layout import power_of_two_in

LARGEST_IN_REGISTERS = 16
"""Lists longer than this take minutes to compile and run out of registers; Triton's own ``topk`` takes those."""


@triton.jit
def exchange(values, K: tl.constexpr, SPAN: tl.constexpr, STRIDE: tl.constexpr):
    """One step of the network: t and t ^ STRIDE put in order, descending where t & SPAN is 0."""
    done = ()
    for t in tl.static_range(K):
        if ((t & SPAN) == 0) == ((t & STRIDE) == 0):
            done = done + (tl.maximum(values[t], values[t ^ STRIDE]),)
        else:
            done = done + (tl.minimum(values[t], values[t ^ STRIDE]),)
    return done


@triton.jit
def sort_list(values, once, K: tl.constexpr, LOG: tl.constexpr):
    """Put k values in descending order.

    ``once`` is 1, in a register: the loop that it bounds keeps the compiler from following a value through every
    path of the network at once, of which there are 2 to the power of its depth.
    """
    for size in tl.static_range(1, LOG + 1):
        for _ in tl.range(once):
            for step in tl.static_range(size):
                values = exchange(values, K, 1 << size, 1 << (size - 1 - step))
    return values


@triton.jit
def merge_lists(a, b, once, K: tl.constexpr, LOG: tl.constexpr):
    """The k largest of two descending lists, in descending order; ``once`` as above."""
    values = ()
    for t in tl.static_range(K):
        values = values + (tl.maximum(a[t], b[K - 1 - t]),)
    for _ in tl.range(once):
        for step in tl.static_range(LOG):
            values = exchange(values, K, K, 1 << (LOG - 1 - step))
    return values


@triton.jit
def select(
    maps,
    lists,
    positions,
    share,
    once,
    C: tl.constexpr,
    CB: tl.constexpr,
    L: tl.constexpr,
    K: tl.constexpr,
    LOG: tl.constexpr,
):
    n = tl.program_id(0)
    part = tl.program_id(1)
    e = tl.arange(0, L * CB)
    lane = e // CB
    c = tl.program_id(2) * CB + e % CB
    stop = tl.minimum((part + 1) * share, positions)
    start = maps + n.to(tl.int64) * positions * C + lane * C + c
    best = ()
    for t in tl.static_range(K):
        p = part * share + t * L
        best = best + (tl.load(start + p * C, mask=p + lane < stop, other=float("-inf")),)
    best = sort_list(best, once, K, LOG)
    for first in tl.range(part * share + K * L, stop, K * L):
        more = ()
        for t in tl.static_range(K):
            p = first + t * L
            more = more + (tl.load(start + p * C, mask=p + lane < stop, other=float("-inf")),)
        best = merge_lists(best, sort_list(more, once, K, LOG), once, K, LOG)
    place = lists + ((n * tl.num_programs(1) + part) * L + lane).to(tl.int64) * K * C + c
    for t in tl.static_range(K):
        tl.store(place + t * C, best[t])


@triton.jit
def select_long(maps, lists, positions, C: tl.constexpr, CB: tl.constexpr, P: tl.constexpr, K: tl.constexpr):
    n = tl.program_id(0)
    c = tl.program_id(1) * CB + tl.arange(0, CB)
    p = tl.arange(0, P)
    start = maps + n.to(tl.int64) * positions * C
    values = tl.load(start + p[None, :] * C + c[:, None], mask=(p < positions)[None, :], other=float("-inf"))
    # float32 holds every float16, and sorts faster.
    largest = tl.topk(values.to(tl.float32), K).to(tl.float16)
    t = tl.arange(0, K)
    tl.store(lists + n.to(tl.int64) * K * C + t[None, :] * C + c[:, None], largest)


def count_lists(k: int, channels: int, parts: int) -> int:
    """How many lists of each channel ``run_select`` writes."""
    return parts * _lanes(channels) if k <= LARGEST_IN_REGISTERS else 1


def _lanes(channels: int) -> int:
    """Lists of a channel in one program, so that there are 256 lists in it."""
    return 256 // power_of_two_in(channels, 64)


def run_select(maps: torch.Tensor, lists: torch.Tensor) -> None:
    """Write sorted lists of each channel's largest values.

    Args:
        maps: maps of the last stage, float16 ``(N, positions, C)``, contiguous, finite.
        lists: memory for the lists, float16 ``(N, count_lists(k, C, parts), k, C)``, k a power of two; minus infinity
            where a list has fewer than k values. As many programs as ``parts`` share a picture's positions.
    """
    n, positions, channels = maps.shape
    k = lists.shape[2]
    if k > LARGEST_IN_REGISTERS:
        block = power_of_two_in(channels, 4)
        grid: Any = (n, channels // block)
        size = max(triton.next_power_of_2(positions), k)
        select_long[grid](maps, lists, positions, C=channels, CB=block, P=size, K=k, num_warps=4)
        return
    block, lanes = power_of_two_in(channels, 64), _lanes(channels)
    parts = lists.shape[1] // lanes
    share = triton.cdiv(positions, parts)
    grid = (n, parts, channels // block)
    log = k.bit_length() - 1
    select[grid](maps, lists, positions, share, 1, C=channels, CB=block, L=lanes, K=k, LOG=log, num_warps=4)
