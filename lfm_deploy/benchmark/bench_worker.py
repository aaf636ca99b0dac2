"""The process that measures one engine: engine alone, files to verdicts, or decoding alone."""

import itertools
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.engine import Engine, PhasedEngine
from lfm_deploy.benchmark.workers import Values, serve
from lfm_deploy.machine import describe_gpus, gpu_memory_mib, peak_memory_mib

COMMAND = (sys.executable, "-m", "lfm_deploy.benchmark.bench_worker")

# Other workers' threads fall asleep in the meantime.
_SETTLING_SECONDS = 0.05
_WARM_UP_SECONDS = 0.1
_PHASED_RUNS = 10

Job = tuple[Values, Callable[[Values], Values]]


def open_job(opening: Values) -> Job:
    """What a worker is for.

    Args:
        opening: plain values: ``"job"`` names the job, the rest are its arguments.

    Returns:
        What the worker is, as plain values, and the function that answers requests.
    """
    jobs: dict[str, Callable[[Values], Job]] = {
        "engine": _open_engine,
        "files": _open_files,
        "decoding": _open_decoding,
        "ceilings": _open_ceilings,
    }
    return jobs[opening["job"]](opening)


def time_runs(run: Callable[[], object], *, seconds: float, runs: int, warm_up: int = 1) -> list[float]:
    """Seconds of each run, of at least ``runs`` in at least ``seconds``, after a warm-up that is not timed.

    Args:
        run: function to time.
        seconds: least time of all runs together, in seconds.
        runs: fewest runs that are timed.
        warm_up: fewest runs before them; there are more where they are short.
    """
    time.sleep(_SETTLING_SECONDS)
    started = time.perf_counter()
    for done in itertools.count(1):
        run()
        if done >= warm_up and time.perf_counter() - started >= min(_WARM_UP_SECONDS, seconds):
            break
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < runs or time.perf_counter() - started < seconds:
        before = time.perf_counter()
        run()
        times.append(time.perf_counter() - before)
    return times


def describe_engine(engine: Engine) -> Values:
    """What an engine says of itself, as plain values for JSON.

    Args:
        engine: loaded engine; what it adds in a ``describe`` of its own, if it has one, becomes ``"details"``.
    """
    describe = getattr(engine, "describe", None)
    return {
        "name": engine.name,
        "runtime": engine.runtime,
        "precision": engine.precision,
        # Runtimes differ in what they call the first GPU; ceilings are found by this name.
        "device": "cuda:0" if engine.device == "cuda" else engine.device,
        "batch_range": list(engine.batch_range),
        "details": str(describe()) if callable(describe) else None,
    }


def _open_engine(opening: Values) -> Job:
    """Time an engine over pictures in memory: uint8 pixels in, logits out."""
    from lfm_deploy.pictures.photographs import sample_tiles

    started = time.perf_counter()
    engine = _load(opening)
    about = describe_engine(engine) | {"load_seconds": time.perf_counter() - started}
    side = opening["side"]
    known: set[int] = set()

    def measure(request: Values) -> Values:
        images = sample_tiles(side, side, request["batch"])
        # At the first batch of a size a runtime still plans its memory.
        warm_up = 1 if request["batch"] in known else 2
        known.add(request["batch"])
        times = time_runs(
            lambda: engine.logits(images), seconds=request["seconds"], runs=request["runs"], warm_up=warm_up
        )
        return {"times": times, "phases": _time_phases(engine, images)} | _memory(engine)

    return about, measure


def _open_files(opening: Values) -> Job:
    """Time an engine over files, decoding included, beside the engine alone in this very process."""
    from lfm_deploy.pictures.images import read_batches
    from lfm_deploy.pictures.photographs import sample_tiles

    engine = _load(opening)
    batch, size, side = opening["batch"], opening["size"], opening["side"]
    images = sample_tiles(side, side, batch)
    paths = [Path(path) for path in opening["paths"]]

    def measure(request: Values) -> Values:
        if request["what"] == "engine":
            return {"times": time_runs(lambda: engine.logits(images), seconds=request["seconds"], runs=request["runs"])}
        chosen = _choose(paths, request)
        judged, started = 0, time.perf_counter()
        for group in read_batches(chosen, size, batch=batch, config=engine.config, workers=opening["threads"]):
            if len(group.indices):
                judged += len(engine.logits(group.images))
        return {"pictures": judged, "seconds": time.perf_counter() - started} | _memory(engine)

    return describe_engine(engine), measure


def _open_decoding(opening: Values) -> Job:
    """Time decoding and resizing alone, on all threads."""
    from lfm_deploy.pictures.images import read_batches

    paths = [Path(path) for path in opening["paths"]]

    def measure(request: Values) -> Values:
        chosen = _choose(paths, request)
        read, started = 0, time.perf_counter()
        for group in read_batches(chosen, opening["size"], batch=opening["batch"], workers=opening["threads"]):
            read += len(group.indices)
        return {"pictures": read, "seconds": time.perf_counter() - started}

    return {}, measure


def _choose(paths: list[Path], request: Values) -> list[Path]:
    """As many files as are asked for, over and over again from the asked place on."""
    return [paths[index % len(paths)] for index in range(request["start"], request["start"] + request["pictures"])]


def _open_ceilings(opening: Values) -> Job:
    from lfm_deploy.benchmark.matrix_products import open_products

    return open_products(opening)


def _load(opening: Values) -> Engine:
    from engines.host import keep_freed_memory
    from engines.loading import load_engine

    keep_freed_memory()
    return load_engine(
        opening["path"],
        device=opening["device"],
        threads=opening["threads"],
        spin=opening.get("spin", True),
        **opening.get("form", {}),
    )


def _time_phases(engine: Engine, images: NDArray[np.uint8]) -> list[list[float]]:
    """Copy, compute, copy and enqueue in milliseconds, run by run; none where the engine cannot tell them apart."""
    if not isinstance(engine, PhasedEngine) or len(images) > engine.batch_range[1]:
        return []
    found = [engine.time_phases(images) for _ in range(_PHASED_RUNS)]
    return [[p.host_to_device_ms, p.compute_ms, p.device_to_host_ms, p.enqueue_ms] for p in found]


def _memory(engine: Engine) -> Values:
    """Peak memory of this process; on a GPU its memory there, and the clocks while it is still warm from the run."""
    values: Values = {"peak_memory_mib": peak_memory_mib(), "gpu_memory_mib": None, "gpu_clocks": None}
    if engine.device.startswith("cuda"):
        gpus = describe_gpus()
        values["gpu_memory_mib"] = gpu_memory_mib(os.getpid())
        values["gpu_clocks"] = None if isinstance(gpus, str) else [gpu["clocks.sm"] for gpu in gpus]
    return values


if __name__ == "__main__":
    serve(open_job)
