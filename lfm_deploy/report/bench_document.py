"""The result of ``lfm-deploy bench`` as plain values; the terminal and the plot are views of it."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from lfm_deploy.benchmark.benchmark import Benchmark
from lfm_deploy.benchmark.ceilings import Ceiling
from lfm_deploy.benchmark.file_rates import FileFigures
from lfm_deploy.benchmark.roofline_shares import PointWork, Share
from lfm_deploy.benchmark.sweep import Point
from lfm_deploy.deployment.graph_work import Work
from lfm_deploy.deployment.lineup import Candidate
from lfm_deploy.environment import describe_environment
from lfm_deploy.machine import describe_machine
from lfm_deploy.report.bench_advice import recommend

FORMAT = "lfm-deploy bench 2"
INCLUDED = {
    "engine": "uint8 pixels in host memory to logits there: copies to and from a GPU are in it, decoding is not",
    "files": "files in the system's page cache to logits: reading, decoding, resizing and batching by all threads "
    "while the engine works on the same cores, its idle threads not spinning",
    "file limit": "1 / (1/engine + 1/decoding) of the same rounds on a CPU, where both share the cores; on a GPU the "
    "slower of the two",
    "roofline": "operations are twice the multiply-adds of convolutions and matrix products, at the best rate that any "
    "library reached in the same round; bytes are those that must move: pixels in, weights once, logits out",
    "layer by layer": "what memory allows if each convolution, pooling and Top-K reads inputs and weights and writes "
    "outputs once, all else fused: no limit, since caches and fused kernels keep what one layer hands to the next",
    "fps": "all pictures over all time; percentiles are of single runs, interpolated",
    "spread": "iqr: interquartile range over median of the runs; rounds: highest less lowest median of a round, over "
    "their median",
    "peak memory": "of the engine's process, Python and libraries included, up to that batch size",
}
_PHASES = ("host_to_device_ms", "compute_ms", "device_to_host_ms", "enqueue_ms")


def make_bench_report(found: Benchmark, outcomes: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A benchmark as plain values for JSON. Times are in milliseconds, shares are fractions.

    Args:
        found: benchmark that was measured.
        outcomes: outcomes of the last verification by file, from ``read_outcomes``; None where nothing is known.
    """
    effort = found.settings.effort
    engines = [_engine(found, candidate) for candidate in found.candidates]
    return {
        "format": FORMAT,
        "quick": effort.quick,
        "settings": {
            "seconds_per_point": effort.seconds,
            "rounds": effort.rounds,
            "fewest_runs_per_point": effort.turn_runs * effort.rounds,
            "threads": found.threads,
            "spinning": {"engine": True, "files": False},
            "pictures": found.pictures,
        },
        "included": INCLUDED,
        "machine": describe_machine(),
        "environment": describe_environment(),
        "ceilings": {
            device: {kind: _ceiling(ceiling) for kind, ceiling in of_device.items()}
            for device, of_device in found.sweep.ceilings.items()
        },
        "engines": engines,
        "advice": recommend(engines, outcomes or {}),
        "notes": _notes(found, engines),
    }


def bound_of(phases: Mapping[str, float] | None) -> str | None:
    """What takes most of a batch's time on a GPU: ``"enqueue"``, ``"copy"`` or ``"compute"``.

    Args:
        phases: milliseconds of each phase by name; None where they cannot be told apart, which gives None.
    """
    if phases is None:
        return None
    if phases["enqueue_ms"] > phases["compute_ms"]:
        return "enqueue"
    return "copy" if phases["host_to_device_ms"] + phases["device_to_host_ms"] > phases["compute_ms"] else "compute"


def _engine(found: Benchmark, candidate: Candidate) -> dict[str, Any]:
    work = found.work[candidate.name]
    points = [
        _point(batch, point, work.points.get(batch, PointWork()))
        for (name, batch), point in sorted(found.sweep.points.items(), key=lambda item: item[0][1])
        if name == candidate.name
    ]
    files = found.files.get(candidate.name)
    return {
        "name": candidate.name,
        "file": candidate.path.name,
        "precision": str(candidate.precision),
        "arithmetic": work.arithmetic,
        "arithmetic_reason": work.reason,
        "about": found.sweep.about.get(candidate.name),
        "not_run": found.sweep.not_run.get(candidate.name),
        "failed": candidate.name in found.sweep.failed or any(point["not_run"] for point in points),
        "points": points,
        "files": None if files is None else _files(files),
    }


def _point(batch: int, point: Point, done: PointWork) -> dict[str, Any]:
    if point.failure is not None:
        return {"batch": batch, "not_run": point.failure}
    statistics_of = asdict(point.summarise(batch))
    values: dict[str, Any] = {"batch": batch, "not_run": None} | statistics_of
    values["round_fps"] = list(statistics_of["round_fps"])
    values["phases"] = _phases(point.phases)
    values["bound_by"] = bound_of(values["phases"])
    values["peak_memory_mib"] = point.peak_memory_mib
    values["gpu_memory_mib"] = point.gpu_memory_mib
    values["gpu_clocks"] = point.gpu_clocks
    values["work"] = None if done.work is None else _work(done.work, batch)
    values["roofline"] = None if done.share is None else _roofline(done.share)
    values["no_roofline"] = done.reason
    return values


def _work(work: Work, batch: int) -> dict[str, Any]:
    return {
        "multiply_adds_per_picture": work.total_multiply_adds / batch,
        "multiply_adds": work.multiply_adds,
        "least_bytes": work.least_bytes,
        "layer_bytes": work.traffic_bytes,
    }


def _roofline(share: Share) -> dict[str, Any]:
    return {
        "fps": share.limit.fps,
        "bound": share.limit.bound,
        "share": share.share,
        "share_lowest": share.lowest,
        "share_highest": share.highest,
        "layer_by_layer_fps": share.limit.unfused_fps,
        "ceiling_too_low": share.share > 1,
    }


def _phases(runs: list[list[float]]) -> dict[str, float] | None:
    if not runs:
        return None
    return {name: statistics.median(column) for name, column in zip(_PHASES, zip(*runs, strict=True), strict=True)}


def _files(files: FileFigures) -> dict[str, Any]:
    if files.failure is not None:
        return {"batch": files.batch, "not_run": files.failure}
    return {
        "batch": files.batch,
        "not_run": None,
        "fps": statistics.median(files.fps),
        "round_fps": files.fps,
        "rounds_share": files.spread,
        "engine_fps": statistics.median(files.engine_fps),
        "decoding_fps": statistics.median(files.decoding_fps),
        "share_of_limit": files.share,
        "bound_by": files.bound_by(),
        "pictures": files.pictures,
        "skipped": files.skipped,
        "peak_memory_mib": files.peak_memory_mib,
    }


def _ceiling(ceiling: Ceiling) -> dict[str, Any]:
    return {
        "rate": ceiling.rate,
        "unit": "bytes/s" if ceiling.kind == "bandwidth" else "operations/s",
        "library": ceiling.library,
        "measured_with": ceiling.what,
        "rounds": list(ceiling.rounds),
        "others": ceiling.others,
    }


def _notes(found: Benchmark, engines: list[dict[str, Any]]) -> list[str]:
    """What a reader must know before quoting a figure."""
    effort = found.settings.effort
    notes = []
    if effort.quick:
        notes.append(
            f"quick: not for quoting ({effort.seconds:g} s in {effort.rounds} rounds at each point; quotable figures "
            "take 3 s in 2 rounds or more)"
        )
    if found.load is not None:
        notes.append(found.load)
    points = [point for engine in engines for point in engine["points"]]
    low = [
        f"{engine['name']} at batch {point['batch']} ({100 * point['roofline']['share']:.0f} %)"
        for engine in engines
        for point in engine["points"]
        if point.get("roofline") and point["roofline"]["ceiling_too_low"]
    ]
    if low:
        notes.append(
            f"its ceiling was measured too low, so its share is not known: {', '.join(low)}; nothing is faster than "
            "the machine: run again with more --rounds on a machine that does nothing else"
        )
    if any(not point["not_run"] and point["runs"] < math.ceil(1 / 0.01) for point in points):
        notes.append("p99 over fewer than 100 runs, and p95 over fewer than 20, is near the slowest run")
    return notes + found.sweep.notes
