"""Medians of times on a GPU, by its own clock, and of whole calls, by the wall clock."""

import statistics
import time
from collections.abc import Callable

import torch


def time_ms(run: Callable[[], object], rounds: int = 5, seconds: float = 0.08) -> float:
    """Milliseconds of one run on the card: the median of rounds, each long enough for the clock."""
    for _ in range(3):
        run()
    first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    begun = time.perf_counter()
    run()
    torch.cuda.synchronize()
    runs = max(1, min(200, int(seconds / rounds / (time.perf_counter() - begun))))
    found: list[float] = []
    for _ in range(rounds):
        first.record()
        for _ in range(runs):
            run()
        last.record()
        torch.cuda.synchronize()
        found.append(first.elapsed_time(last) / runs)
    return statistics.median(found)


def wall_ms(run: Callable[[], object], rounds: int = 7) -> float:
    """Milliseconds of one whole call: the median after some that warm up, of fewer where they take long."""
    begun = time.perf_counter()
    run()
    slow = time.perf_counter() - begun > 0.2
    for _ in range(0 if slow else 2):
        run()
    found = []
    for _ in range(2 if slow else rounds):
        begun = time.perf_counter()
        run()
        found.append((time.perf_counter() - begun) * 1e3)
    return statistics.median(found)
