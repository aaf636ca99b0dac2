"""Frames per second: of every engine of a workdir for ``lfm-deploy bench``, of a single one for ``verify``."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from lfm_deploy.benchmark.bench_worker import COMMAND
from lfm_deploy.benchmark.file_rates import FileFigures, find_pictures, measure_files
from lfm_deploy.benchmark.roofline_shares import EngineWork, find_work
from lfm_deploy.benchmark.rounds import Effort
from lfm_deploy.benchmark.sweep import Contender, Sweep, run_sweep
from lfm_deploy.benchmark.workers import Values, Worker
from lfm_deploy.errors import ConfigError, DeployError, InputError
from lfm_deploy.machine import count_cores, describe_load
from lfm_deploy.progress import Progress, ignore_progress

if TYPE_CHECKING:
    from lfm_deploy.deployment.lineup import Candidate

LARGEST_BATCH = {"cpu": 32, "cuda": 256}
_FEWEST_RUNS = 5


class BenchmarkError(DeployError):
    """The measuring process failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """How fast one engine judges pictures that are decoded already; host copies are included.

    Attributes:
        batch: pictures handed over at a time; an engine may run them in parts.
        fps: pictures per second, by the median time of a run.
        latency_ms: median time of a run in milliseconds.
        spread: interquartile range of the run times over their median, a fraction; a noisy machine shows here.
        runs: number of runs that were timed.
        threads: number of CPU threads that were allowed.
        measured_at: time of measuring in UTC, ISO 8601; None where nothing says.
        memory_mib: most host memory in MiB that the measuring process held until then; None where not known.
        device_memory_mib: memory in MiB that the measuring process held on its GPU, by ``nvidia-smi``; None on a CPU.
        times_pytorch: ``fps`` over that of PyTorch in FP32 on the same device at the same batch; None without it.
    """

    batch: int
    fps: float
    latency_ms: float
    spread: float
    runs: int
    threads: int
    measured_at: str | None = None
    memory_mib: float | None = None
    device_memory_mib: float | None = None
    times_pytorch: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSettings:
    """What ``run_benchmark`` is to do.

    Attributes:
        effort: time and rounds for each point.
        threads: number of CPU threads for each engine; None is one for each core.
        batches: batch sizes; None is powers of two.
        max_batch: largest power of two; None is 32 on a CPU and 256 on a GPU.
        with_files: whether to measure from files to verdicts too.
        pictures: folder of the files that are read; None makes some of photographs.
    """

    effort: Effort = field(default_factory=Effort)
    threads: int | None = None
    batches: tuple[int, ...] | None = None
    max_batch: int | None = None
    with_files: bool = True
    pictures: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """What ``run_benchmark`` found.

    Attributes:
        candidates: engines that were to be measured, in order.
        settings: settings that were asked for.
        threads: number of CPU threads of each engine.
        sweep: run times of the engines alone, and ceilings of the machine.
        work: work of each point and its share of the ceilings, by name of an engine.
        files: figures from files to verdicts, by name of an engine.
        pictures: description of the files that were read; None where none were.
        load: warning that others were busy on the machine; None where they were not.
    """

    candidates: tuple["Candidate", ...]
    settings: BenchSettings
    threads: int
    sweep: Sweep
    work: dict[str, EngineWork]
    files: dict[str, FileFigures]
    pictures: str | None
    load: str | None


def measure_speed(
    engine: Path | str,
    batches: Sequence[int],
    *,
    device: str | None = None,
    side: int = 256,
    seconds: float = 1.0,
    form: Mapping[str, Any] = MappingProxyType({}),
) -> list[Speed]:
    """Measure one engine at several batch sizes, in a fresh process.

    Args:
        engine: path of a ``.pth``, ``.onnx`` or ``.engine`` file.
        batches: batch sizes.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``; None leaves it to the kind of file.
        side: side of the square pictures, in pixels.
        seconds: least time in seconds at each batch size.
        form: further arguments of ``load_engine`` for a checkpoint, such as ``{"precision": "fp16"}``.

    Raises:
        BenchmarkError: the measuring process failed; the message has its last line.
    """
    threads = count_cores()
    opening: Values = {"job": "engine", "path": str(engine), "device": device, "side": side, "threads": threads}
    opening["form"] = dict(form)
    speeds = []
    try:
        with Worker(COMMAND, opening) as worker:
            worker.open()
            for batch in batches:
                answer = worker.ask({"batch": batch, "seconds": seconds, "runs": _FEWEST_RUNS})
                speeds.append(_speed(batch, answer, threads))
    except DeployError as error:
        raise BenchmarkError(f"{engine}: measuring its speed failed: {error}") from None
    return speeds


def run_benchmark(
    candidates: Sequence["Candidate"], settings: BenchSettings, *, on_progress: Progress = ignore_progress
) -> Benchmark:
    """Measure engines side by side, each in a process of its own, in interleaved rounds.

    Args:
        candidates: engines from ``find_candidates``.
        settings: settings of the measurement.
        on_progress: callback that gets what is done, how much, and of how much.

    Raises:
        ConfigError: no engine takes one of the batch sizes.
        InputError: the folder of ``settings.pictures`` has no picture.
    """
    threads = settings.threads or count_cores()
    contenders = [_contend(candidate, settings) for candidate in candidates]
    if not any(one.batches for one in contenders):
        raise ConfigError(f"--batch {settings.batches}: no engine takes such a batch; give sizes within its profile")
    load = describe_load()
    sweep = run_sweep(contenders, settings.effort, threads=threads, on_progress=on_progress)
    best = {one.name: batch for one in contenders if (batch := _fastest_batch(one, sweep)) is not None}
    files: dict[str, FileFigures] = {}
    what = None
    if settings.with_files and best:
        side = max(one.side for one in contenders)
        with find_pictures(settings.pictures, side) as pictures:
            what = pictures.what
            able = [one for one in contenders if one.name in best]
            files = measure_files(able, best, pictures, settings.effort, threads=threads, on_progress=on_progress)
    return Benchmark(
        candidates=tuple(candidates),
        settings=settings,
        threads=threads,
        sweep=sweep,
        work=find_work(candidates, sweep),
        files=files,
        pictures=what,
        load=load,
    )


def choose_engines(candidates: Sequence["Candidate"], wanted: Sequence[str]) -> list["Candidate"]:
    """The engines with these names or files, in their own order; all of them where nothing is wanted.

    Args:
        candidates: engines from ``find_candidates``.
        wanted: names, file names or paths of engines.

    Raises:
        InputError: an engine is wanted that is not among the candidates; the message lists those.
    """
    if not wanted:
        return list(candidates)
    chosen = set()
    for text in wanted:
        same = {one.name for one in candidates if text in (one.name, one.path.name, str(one.path))}
        if not same:
            known = ", ".join(f"{one.name!r} ({one.path.name})" for one in candidates)
            raise InputError(f"--engine {text!r}: not in this workdir, which has {known}")
        chosen |= same
    return [one for one in candidates if one.name in chosen]


def choose_batches(
    allowed: tuple[int, int], place: str, asked: Sequence[int] | None, max_batch: int | None
) -> tuple[int, ...]:
    """Batch sizes for one engine, ascending: what was asked for, or powers of two; none beyond its profile.

    Args:
        allowed: smallest and largest batch of the engine's profile.
        place: ``"cpu"`` or ``"cuda"``.
        asked: batch sizes that were asked for; None is powers of two.
        max_batch: largest power of two; None is 32 on a CPU and 256 on a GPU.
    """
    largest = min(allowed[1], max_batch or LARGEST_BATCH[place])
    sizes = asked if asked is not None else [1 << power for power in range(largest.bit_length())]
    return tuple(sorted({size for size in sizes if allowed[0] <= size <= allowed[1]}))


def _contend(candidate: "Candidate", settings: BenchSettings) -> Contender:
    place = "cpu" if candidate.device == "cpu" else "cuda"
    return Contender(
        name=candidate.name,
        path=candidate.path,
        device=candidate.device,
        # The published protocol for the checkpoint, which takes any size: 256 pixels.
        size=256 if candidate.contract is None else candidate.contract.size,
        batches=choose_batches(candidate.batches, place, settings.batches, settings.max_batch),
        form=candidate.form,
    )


def _fastest_batch(one: Contender, sweep: Sweep) -> int | None:
    """The batch size with the most pictures per second; None where no point has figures."""
    points = {batch: sweep.points.get((one.name, batch)) for batch in one.batches}
    fps = {batch: p.summarise(batch).fps for batch, p in points.items() if p is not None and p.failure is None}
    return max(fps, key=lambda batch: fps[batch], default=None)


def _speed(batch: int, answer: Values, threads: int) -> Speed:
    times: list[float] = answer["times"]
    median = statistics.median(times)
    quartiles = statistics.quantiles(times, n=4)
    return Speed(
        batch=batch,
        fps=batch / median,
        latency_ms=median * 1e3,
        spread=(quartiles[2] - quartiles[0]) / median,
        runs=len(times),
        threads=threads,
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        memory_mib=answer["peak_memory_mib"],
        device_memory_mib=answer["gpu_memory_mib"],
    )
