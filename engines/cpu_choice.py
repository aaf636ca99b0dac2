"""``build --target cpu``: which runtime, threads and streams run a graph fastest on this machine, by measurement.

Candidates take turns (A B C, A B C, ...), so that a machine that slows down slows all of them, and every round gives
a ratio to ONNX Runtime's own way, one stream with a thread for each core. That stays the choice unless another one
is faster by 3 % in the median and faster at all in three of four rounds. A candidate must also be exact enough: it
may not decide otherwise, and its logits may hardly differ from ONNX Runtime's.
"""

import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.cpu_settings import (
    FILE_NAME,
    FORMAT,
    CpuSettings,
    default_settings,
    describe_place,
    read_choices,
    settings_as_dict,
)
from engines.engine import Engine
from engines.openvino import OpenVinoEngine, has_bfloat16
from engines.ort import OrtEngine
from lfm_deploy.artifacts import GraphInfo, Precision, read_graph_info
from lfm_deploy.atomic import sha256_of_file, write_atomically
from lfm_deploy.contract import usual_side
from lfm_deploy.errors import UnavailableError
from lfm_deploy.machine import count_cores
from lfm_deploy.metrics.decisions import decision_flips
from lfm_deploy.pictures.photographs import sample_tiles
from lfm_deploy.progress import Progress, ignore_progress
from lfm_deploy.workdir import Workdir

_PICTURES = 16
# Below this, the noise of a shared machine would choose.
_LEAST_GAIN = 1.03
# Largest |Δlogit| to ONNX Runtime. Float32: sums in another order, with the margin of the export's proof. Weights of
# float16 are multiplied in float32 by both. INT8: runtimes round and saturate differently between layers; seen 0.09
# where the same graph is up to 5 away from float32.
_TOLERANCES = {Precision.FP32: 1e-3, Precision.FP16: 1e-3, Precision.INT8: 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One way to run a graph, and how it did.

    Attributes:
        settings: threads and streams that were tried.
        fps: speed in pictures a second, the median of the rounds; None where it was not timed.
        ratio, ratio_quartile: speed over that of the default settings in the same round, as median and lower quartile.
        max_error: largest |Δlogit| to the default settings.
        rejected: reason why these settings were not timed, or not chosen; None for the choice.
    """

    settings: CpuSettings
    fps: float | None
    ratio: float | None
    ratio_quartile: float | None
    max_error: float | None
    rejected: str | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        figures = {name: getattr(self, name) for name in ("fps", "ratio", "ratio_quartile", "max_error", "rejected")}
        return {"settings": settings_as_dict(self.settings)} | figures


@dataclass(frozen=True, kw_only=True)
class CpuChoice:
    """What was chosen for a graph, and everything that was tried.

    Attributes:
        graph: path of the ONNX file.
        chosen: settings that were chosen.
        why: reason for the choice, in words.
        tried: results of all settings that were tried.
    """

    graph: Path
    chosen: CpuSettings
    why: str
    tried: tuple[Trial, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        tried = [candidate.as_dict() for candidate in self.tried]
        return {"chosen": settings_as_dict(self.chosen), "why": self.why, "tried": tried}


def choose_cpu_settings(
    workdir: Workdir, graph: Path, *, rounds: int = 5, seconds: float = 0.3, on_progress: Progress = ignore_progress
) -> CpuChoice:
    """Measure the candidates for a graph and write the choice into ``cpu.json`` of the workdir.

    Args:
        workdir: workdir that holds the graph; nobody else may write there meanwhile (``Workdir.lock``).
        graph: an ONNX file of this project.
        rounds: number of turns that each candidate has.
        seconds: least time of a turn, in seconds.
        on_progress: function that is given the name of a step, how much of it is done, and of how much.

    Raises:
        ArtifactError: the graph, or a ``cpu.json`` that is there, is damaged.
        UnavailableError: ONNX Runtime is not installed.
    """
    info = read_graph_info(graph)
    side = usual_side(info.contract.size)
    images = sample_tiles(side, side, _PICTURES)
    engines, rejected = _open_candidates(graph, info, images)
    rates = _take_turns(engines, images, rounds, seconds, on_progress)
    choice = _choose(graph, rates, rejected)
    for engine, _ in engines.values():
        engine.close()
    _write(workdir, choice)
    return choice


def list_candidates(cores: int, *, evidence: bool = False) -> list[CpuSettings]:
    """Ways to run a graph on so many cores; the first is the default.

    With evidence outputs only ONNX Runtime's, since OpenVINO's engine gives logits alone.
    """
    shapes = [(1, cores, 8), (1, cores, 1)]
    shapes += [(cores, 1, 1), (cores, 1, 4)] if cores > 1 else []
    shapes += [(cores // 4, 4, 4)] if cores >= 8 else []
    runtimes = ("onnxruntime",) if evidence else ("onnxruntime", "openvino")
    found = [
        CpuSettings(runtime=runtime, streams=streams, threads=threads, piece=piece)
        for runtime in runtimes
        for streams, threads, piece in shapes
    ]
    return [default_settings(cores), *(settings for settings in found if settings != default_settings(cores))]


def _open_candidates(
    graph: Path, info: GraphInfo, images: NDArray[np.uint8]
) -> tuple[dict[CpuSettings, tuple[Engine, float]], dict[CpuSettings, tuple[str, float | None]]]:
    """Engines that are exact enough with their largest error, and the others with the reason."""
    candidates = list_candidates(count_cores(), evidence=info.evidence)
    engines: dict[CpuSettings, tuple[Engine, float]] = {}
    rejected: dict[CpuSettings, tuple[str, float | None]] = {}
    if info.precision is Precision.FP16 and not info.evidence and _can_use_bfloat16():
        candidates.append(CpuSettings(runtime="openvino", streams=1, threads=count_cores(), piece=8, arithmetic="bf16"))
    reference = None
    for settings in candidates:
        try:
            # Threads that spin while others have their turn would slow those down.
            engine: Engine = (
                OrtEngine(graph, settings=settings, spin=False)
                if settings.runtime == "onnxruntime"
                else OpenVinoEngine(graph, settings)
            )
        except UnavailableError as error:
            if reference is None:
                raise
            rejected[settings] = (str(error), None)
            continue
        logits = engine.logits(images)
        reference = logits if reference is None else reference
        error_size = float(np.abs(logits - reference).max())
        fault = find_fault(logits, reference, info.precision, info.contract.threshold)
        if fault is None:
            engines[settings] = (engine, error_size)
        else:
            rejected[settings] = (fault, error_size)
            engine.close()
    return engines, rejected


def find_fault(
    logits: NDArray[np.floating], reference: NDArray[np.floating], precision: Precision, threshold: float
) -> str | None:
    """Why logits ``(N,)`` are not exact enough to stand for the reference's; None where they are.

    Args:
        logits: logits to judge, float32 or float64 ``(N,)``.
        reference: logits of the default settings, float32 or float64 ``(N,)``.
        precision: precision of the graph, which sets the tolerance.
        threshold: threshold of the contract; a logit above it is fake.
    """
    largest = float(np.abs(logits - reference).max())
    flips = len(decision_flips(logits, reference, threshold))
    # Written so that NaN is too far.
    if flips or not largest <= _TOLERANCES[precision]:
        return f"not exact enough: logits differ by up to {largest:.2g}, {flips} decisions of {len(logits)} flip"
    return None


def _can_use_bfloat16() -> bool:
    try:
        return has_bfloat16()
    except UnavailableError:
        return False


def _take_turns(
    engines: dict[CpuSettings, tuple[Engine, float]],
    images: NDArray[np.uint8],
    rounds: int,
    seconds: float,
    on_progress: Progress,
) -> dict[CpuSettings, tuple[list[float], float]]:
    """Pictures a second of each candidate in each round, with its largest error."""
    rates: dict[CpuSettings, tuple[list[float], float]] = {
        settings: ([], error) for settings, (_, error) in engines.items()
    }
    for index in range(rounds):
        on_progress("measuring ways to run it", index, rounds)
        for settings, (engine, _) in engines.items():
            engine.logits(images[: settings.piece])  # wakes its threads
            done, started = 0, time.perf_counter()
            while time.perf_counter() - started < seconds:
                engine.logits(images)
                done += len(images)
            rates[settings][0].append(done / (time.perf_counter() - started))
    on_progress("measuring ways to run it", rounds, rounds)
    return rates


def _choose(
    graph: Path,
    rates: dict[CpuSettings, tuple[list[float], float]],
    rejected: dict[CpuSettings, tuple[str, float | None]],
) -> CpuChoice:
    """The fastest in most rounds; the default where that is not clear."""
    default = next(iter(rates))
    ratios = {
        settings: [mine / theirs for mine, theirs in zip(rows, rates[default][0], strict=True)]
        for settings, (rows, _) in rates.items()
    }
    median = {settings: statistics.median(values) for settings, values in ratios.items()}
    quartile = {settings: float(np.quantile(values, 0.25)) for settings, values in ratios.items()}
    clear = [settings for settings in rates if quartile[settings] > 1 and median[settings] > _LEAST_GAIN]
    chosen = max(clear, key=median.__getitem__) if clear else default
    why = "no other way is clearly faster" if chosen == default else f"{median[chosen]:.2f} x the speed of {default}"
    tried = [
        Trial(
            settings=settings,
            fps=statistics.median(rows),
            ratio=median[settings],
            ratio_quartile=quartile[settings],
            max_error=error,
            rejected=None
            if settings == chosen
            else f"{median[settings] / median[chosen]:.2f} x the speed of the choice",
        )
        for settings, (rows, error) in rates.items()
    ]
    tried += [
        Trial(settings=settings, fps=None, ratio=None, ratio_quartile=None, max_error=error, rejected=reason)
        for settings, (reason, error) in rejected.items()
    ]
    return CpuChoice(graph=graph, chosen=chosen, why=why, tried=tuple(tried))


def _write(workdir: Workdir, choice: CpuChoice) -> None:
    """Add the choice to ``cpu.json``; those of another machine go."""
    machine = describe_place()
    before = read_choices(workdir.path)
    graphs = before["graphs"] if before is not None and before["machine"] == machine else {}
    graphs[choice.graph.name] = {"sha256": sha256_of_file(choice.graph)} | choice.as_dict()
    text = json.dumps({"format": FORMAT, "machine": machine, "graphs": graphs}, indent=1, allow_nan=False) + "\n"
    with write_atomically(workdir.path / FILE_NAME) as temporary:
        temporary.write_text(text, encoding="utf-8")
