"""Merging the sorted lists of each channel, and the linear layer: the second half of Top-K pooling, to the logit.

Algebra. The logit is bias + sum over channels c and ranks t of weight[t, c] times the (t + 1)th largest value of
channel c. The lists of a channel that ``selection`` wrote are merged one after the other (see there), in registers;
products and sums are float32.
"""

from typing import Any

import torch
import triton
import triton.language as tl

from engines.kernels.layout import power_of_two_in
from engines.kernels.selection import LARGEST_IN_REGISTERS, merge_lists


@triton.jit
def judge(
    lists,
    weight,
    bias,
    job,
    count,
    once,
    C: tl.constexpr,
    CB: tl.constexpr,
    K: tl.constexpr,
    LOG: tl.constexpr,
):
    n = tl.program_id(0)
    total = tl.zeros((CB,), tl.float32)
    for block in tl.range(0, C, CB):
        c = block + tl.arange(0, CB)
        start = lists + n.to(tl.int64) * count * K * C + c
        best = ()
        for t in tl.static_range(K):
            best = best + (tl.load(start + t * C),)
        for index in tl.range(1, count):
            more = ()
            for t in tl.static_range(K):
                more = more + (tl.load(start + (index * K + t) * C),)
            best = merge_lists(best, more, once, K, LOG)
        for t in tl.static_range(K):
            total += best[t].to(tl.float32) * tl.load(weight + t * C + c)
    logits = tl.load(job + 2).to(tl.pointer_type(tl.float32))
    tl.store(logits + n, tl.sum(total, 0) + tl.load(bias), mask=n < tl.load(job + 1))


@triton.jit
def judge_long(lists, weight, bias, job, C: tl.constexpr, CB: tl.constexpr, K: tl.constexpr):
    n = tl.program_id(0)
    total = tl.zeros((CB,), tl.float32)
    at = tl.arange(0, CB)
    for block in tl.range(0, K * C, CB):
        total += tl.load(lists + n.to(tl.int64) * K * C + block + at).to(tl.float32) * tl.load(weight + block + at)
    logits = tl.load(job + 2).to(tl.pointer_type(tl.float32))
    tl.store(logits + n, tl.sum(total, 0) + tl.load(bias), mask=n < tl.load(job + 1))


def run_judge(lists: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, job: torch.Tensor) -> None:
    """Write logits.

    Args:
        lists: largest values of each channel, float16 ``(N, count, k, C)``, each list descending, from ``run_select``.
        weight: weights of the linear layer, float32 ``(k, C)``; those of the largest values come first.
        bias: bias of the linear layer, float32 ``(1,)``.
        job: job of this run, int64 ``(3,)``, from ``make_job``: how many pictures there are, and where their logits go.
    """
    n, count, k, channels = lists.shape
    grid: Any = (n,)
    if k > LARGEST_IN_REGISTERS:
        block = power_of_two_in(k * channels, 1024)
        judge_long[grid](lists, weight, bias, job, C=channels, CB=block, K=k, num_warps=4)
        return
    block = power_of_two_in(channels, 64)
    log = k.bit_length() - 1
    judge[grid](lists, weight, bias, job, count, 1, C=channels, CB=block, K=k, LOG=log, num_warps=2)
