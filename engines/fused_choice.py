"""Which way each stage runs fastest on this card, by measurement: our own kernel, or cuDNN's and a pooling."""

import itertools
from typing import Any

import torch
from torch import Tensor

from engines.fused_network import CUDNN, OWN_WAYS, FusedNetwork
from engines.kernels.job import make_job

_RUNS = 6
_PICTURES = 64
# Two float16 roundings of each map, in another order, moved logits by 0.1 % of their range.
_TOLERANCE = 0.01


def choose_ways(network: FusedNetwork, size: tuple[int, int]) -> tuple[int, ...]:
    """The fastest way of each stage after the first whose logits are those of the plain way.

    Args:
        network: network whose stages are timed, on a CUDA device.
        size: height and width of the pictures.
    """
    plain = tuple(CUDNN for _ in network.stages)
    if network.ways == plain:
        return plain
    chosen = tuple(_choose(network, number, size) for number in range(len(network.stages)))
    expected, found = (_judge(network, ways, size) for ways in (plain, chosen))
    apart = (found - expected).abs().max() / (1 + expected.abs().max())
    return chosen if apart <= _TOLERANCE else plain


def _choose(network: FusedNetwork, number: int, size: tuple[int, int]) -> int:
    """The fastest way of one stage."""
    if network.ways[number] == CUDNN:
        return CUDNN
    return min((CUDNN, *OWN_WAYS), key=lambda way: _time_stage(network, number, way, size))


def _time_stage(network: FusedNetwork, number: int, way: int, size: tuple[int, int]) -> float:
    """Milliseconds of one stage, on maps of random numbers; infinity where it does not fit this card."""
    from triton.runtime.errors import OutOfResources

    ways = [way if index == number else CUDNN for index in range(len(network.stages))]
    buffers = network.make_buffers(_PICTURES, *size, ways)
    if buffers.ways[number] != way:
        return float("inf")
    layout = buffers.layouts[number]
    maps = torch.rand(layout.shape, dtype=torch.float16, device=network.device)
    events: list[Any] = [torch.cuda.Event(enable_timing=True) for _ in range(_RUNS + 1)]  # type: ignore[no-untyped-call]
    try:
        for _ in range(2):
            network.run_stage(number, maps, buffers)
    except OutOfResources:
        return float("inf")
    for event in events[:-1]:
        event.record()
        network.run_stage(number, maps, buffers)
    events[-1].record()
    torch.cuda.synchronize(network.device)
    return min(float(first.elapsed_time(second)) for first, second in itertools.pairwise(events))


def _judge(network: FusedNetwork, ways: tuple[int, ...], size: tuple[int, int]) -> Tensor:
    """Logits of two random pictures, smooth and rough."""
    generator = torch.Generator(network.device).manual_seed(0)
    shape = (2, *size, 3)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, device=network.device, generator=generator)
    pixels[0] //= 16
    logits = torch.empty(2, device=network.device)
    network.forward(make_job(pixels, logits), network.make_buffers(2, *size, ways))
    return logits
