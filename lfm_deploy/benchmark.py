"""Frames per second of one engine, measured in a process of its own.

Thread pools of PyTorch and ONNX Runtime spin for a while after their work; side by side in one process each halves
the other's figure. ``measure_speed`` therefore starts a fresh process for every engine.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lfm_deploy.errors import DeployError

_WARM_UP_RUNS = 2
_FEWEST_RUNS = 5


class BenchmarkError(DeployError):
    """The measuring process failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """How fast one engine judges pictures that are decoded already; host copies are included.

    Attributes:
        batch: pictures handed over at a time; an engine may run them in parts.
        fps: pictures per second, from the median time of a run.
        latency_ms: median time of a run.
        spread: interquartile range of the run times over their median; a noisy machine shows here.
        runs: how many were timed.
        threads: CPU threads that were allowed.
    """

    batch: int
    fps: float
    latency_ms: float
    spread: float
    runs: int
    threads: int


def count_threads() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def measure_speed(
    engine: Path | str, batches: Sequence[int], *, device: str | None = None, side: int = 256, seconds: float = 1.0
) -> list[Speed]:
    """Measure one engine at several batch sizes, in a fresh process.

    Args:
        engine: a ``.pth``, ``.onnx`` or ``.engine`` file.
        batches: batch sizes.
        device: as for ``load_engine``.
        side: of the square pictures, in pixels.
        seconds: least time to measure at each batch size.

    Raises:
        BenchmarkError: the process failed; the message has its last line.
    """
    job = {"engine": str(engine), "batches": list(batches), "device": device, "side": side, "seconds": seconds}
    finished = subprocess.run(
        [sys.executable, "-m", "lfm_deploy.benchmark", json.dumps(job)],
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        last = (finished.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise BenchmarkError(f"{engine}: measuring its speed failed: {last}")
    return [Speed(**row) for row in json.loads(finished.stdout)]


def _measure_here(engine: Path, batches: Sequence[int], device: str | None, side: int, seconds: float) -> list[Speed]:
    from engines.host import keep_freed_memory
    from engines.loading import load_engine
    from lfm_deploy.photographs import sample_tiles

    keep_freed_memory()
    threads = count_threads()
    loaded = load_engine(engine, device=device, threads=threads)
    speeds = []
    for batch in batches:
        images = sample_tiles(side, side, batch)
        for _ in range(_WARM_UP_RUNS):
            loaded.logits(images)
        times: list[float] = []
        started = time.perf_counter()
        while len(times) < _FEWEST_RUNS or time.perf_counter() - started < seconds:
            before = time.perf_counter()
            loaded.logits(images)
            times.append(time.perf_counter() - before)
        median = statistics.median(times)
        quartiles = statistics.quantiles(times, n=4)
        speeds.append(
            Speed(
                batch=batch,
                fps=batch / median,
                latency_ms=median * 1e3,
                spread=(quartiles[2] - quartiles[0]) / median,
                runs=len(times),
                threads=threads,
            )
        )
    return speeds


if __name__ == "__main__":
    request = json.loads(sys.argv[1])
    request["engine"] = Path(request["engine"])
    try:
        print(json.dumps([asdict(speed) for speed in _measure_here(**request)]))
    except DeployError as error:
        sys.exit(str(error))
