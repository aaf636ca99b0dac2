"""Medians of times on a GPU, by its own clock, and of whole calls, by the wall clock."""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch


def time_ms(run: Callable[[], object], rounds: int = 5, seconds: float = 0.08) -> float:
    """Milliseconds of one run on the card: the median of rounds, each long enough for the clock."""
    for _ in range(3):
        run()
    events: Any = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
    first, last = events
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
        found.append(float(first.elapsed_time(last)) / runs)
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


def measure_ceilings() -> dict[str, float]:
    """The best rates of float16 matrix products and of copies, on random numbers."""
    rates = []
    for rows, inner, columns in ((8192, 8192, 8192), (4096, 4096, 4096), (65536, 1024, 512), (1 << 18, 512, 256)):
        a = torch.randn(rows, inner, device="cuda", dtype=torch.half)
        b = torch.randn(inner, columns, device="cuda", dtype=torch.half)
        rates.append(2 * rows * inner * columns / time_ms(partial(torch.matmul, a, b)) / 1e9)
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    copied = 2 * source.numel() / time_ms(lambda: target.copy_(source)) / 1e9
    pinned = torch.empty(1 << 28, dtype=torch.uint8, pin_memory=True)
    sent = pinned.numel() / time_ms(lambda: target[: 1 << 28].copy_(pinned, non_blocking=True)) / 1e6
    return {
        "best_matmul_tflops": round(max(rates), 1),
        "copy_on_card_tb_s": round(copied, 2),
        "host_to_card_gb_s": round(sent, 1),
    }
