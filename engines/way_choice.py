"""The fastest way to run a graph, by measurement: ways take turns, and must give the logits of the plain one.

Ways take turns (A B C, A B C, ...), so that a machine that slows down slows all of them, and every round gives a ratio
to the plain way, the first. That stays the choice unless another one is faster by 3 % in the median and faster at all
in three of four rounds. A way must also be exact enough: it may not decide otherwise, and its logits may hardly differ.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from engines.engine import Engine
from engines.guarded_run import RunFailedError
from engines.memory import CudaError
from lfm_deploy.errors import GateError, UnavailableError
from lfm_deploy.metrics.decisions import decision_flips
from lfm_deploy.progress import Progress, ignore_progress

# Below this, the noise of a shared machine would choose.
_LEAST_GAIN = 1.03


class Way(Protocol):
    """How to run a graph: hashable values, with words for tables."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        ...


W = TypeVar("W", bound=Way)
Rejected: TypeAlias = dict[W, tuple[str, float | None]]
"""Reasons why ways were not chosen, with their largest errors where they are known."""
# A way that fails by any of these is left out; a damaged graph is nobody's way.
_FAILURES = (UnavailableError, RunFailedError, CudaError, MemoryError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial(Generic[W]):
    """One way to run a graph, and how it did.

    Attributes:
        settings: the way.
        fps: pictures a second, the median of the rounds; None where the way was not timed.
        ratio: median of the ratios to the plain way of the same round.
        ratio_quartile: lower quartile of these ratios.
        max_error: largest |Δlogit| to the reference, or to the plain way where there is none.
        rejected: reason why the way was not timed, or not chosen; None for the choice.
    """

    settings: W
    fps: float | None
    ratio: float | None
    ratio_quartile: float | None
    max_error: float | None
    rejected: str | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        figures = {name: getattr(self, name) for name in ("fps", "ratio", "ratio_quartile", "max_error", "rejected")}
        if self.max_error is not None and not math.isfinite(self.max_error):
            figures["max_error"] = None  # JSON has no NaN; the reason says it
        return {"settings": self.settings.as_dict()} | figures


@dataclass(frozen=True, kw_only=True)
class Choice(Generic[W]):
    """The way that was chosen for a graph, and everything that was tried.

    Attributes:
        graph: path of the graph.
        chosen: the way.
        why: words for why it was chosen.
        tried: every way with its figures.
    """

    graph: Path
    chosen: W
    why: str
    tried: tuple[Trial[W], ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "chosen": self.chosen.as_dict(),
            "why": self.why,
            "tried": [trial.as_dict() for trial in self.tried],
        }


@dataclass(frozen=True, kw_only=True)
class Contest(Generic[W]):
    """What ways are judged by.

    Attributes:
        graph: path of the graph.
        images: pictures that every way judges, uint8 ``(N, H, W, 3)``.
        open_way: function that opens the engine that runs the graph in a way.
        reference: logits that every way must give for the first pictures, float32 ``(n,)``; None takes those of the
            plain way for all of them.
        tolerance: largest |Δlogit| to the reference, or to the plain way where there is none.
        margin: distance of that logit to the threshold up to which a decision may differ.
        threshold: threshold of the contract; a logit above it is fake.
        repeats: number of times that each way judges them before it is believed: more than 1 where a later run is
            another one, such as the replay of what was captured.
    """

    graph: Path
    images: NDArray[np.uint8]
    open_way: Callable[[W], Engine]
    tolerance: float
    margin: float
    threshold: float
    reference: NDArray[np.float32] | None = None
    repeats: int = 1

    def run(self, ways: Sequence[W], rounds: int, seconds: float, on_progress: Progress = ignore_progress) -> Choice[W]:
        """Open the ways, let those that are exact enough take turns, and choose.

        Args:
            ways: candidates; the first that runs is the plain way.
            rounds: number of turns that each way has.
            seconds: least time of a turn, in seconds.
            on_progress: function that is given the name of a step, how much of it is done, and of how much.

        Raises:
            UnavailableError: no way can run here, or without ``reference`` the first cannot.
            GateError: no way gives the logits of the reference.
        """
        engines, rejected = self._open(ways)
        try:
            rates = self._take_turns(engines, rejected, rounds, seconds, on_progress)
        finally:
            for engine, _ in engines.values():
                engine.close()
        if not rates:
            raise GateError(f"{self.graph}: no way to run it is exact enough: {_list_reasons(rejected)}")
        return choose_way(self.graph, rates, rejected)

    def _open(self, ways: Sequence[W]) -> tuple[dict[W, tuple[Engine, float]], Rejected[W]]:
        """Engines that are exact enough with their largest error, and the other ways with the reason."""
        engines: dict[W, tuple[Engine, float]] = {}
        rejected: Rejected[W] = {}
        reference = self.reference
        first_error: UnavailableError | None = None
        for way in ways:
            try:
                engine = self.open_way(way)
            except _FAILURES as error:
                if reference is None:
                    raise
                if isinstance(error, UnavailableError):
                    first_error = first_error or error
                rejected[way] = (describe_failure(error), None)
                continue
            try:
                judged = self.images if reference is None else self.images[: len(reference)]
                fault, largest = None, 0.0
                for _ in range(self.repeats):
                    logits = engine.logits(judged)
                    reference = logits if reference is None else reference
                    fault = fault or self._find_fault(logits, reference)
                    # Written so that NaN stays.
                    largest = float(np.maximum(largest, np.abs(logits - reference).max()))
            except _FAILURES as error:
                engine.close()
                if reference is None:
                    raise
                rejected[way] = (describe_failure(error), None)
                continue
            if fault is None:
                engines[way] = (engine, largest)
            else:
                rejected[way] = (fault, largest)
                engine.close()
        if not engines:
            reasons = _list_reasons(rejected)
            raise first_error or GateError(f"{self.graph}: no way to run it is exact enough: {reasons}")
        return engines, rejected

    def _find_fault(self, logits: NDArray[np.float32], reference: NDArray[np.float32]) -> str | None:
        return find_fault(logits, reference, self.tolerance, self.threshold, margin=self.margin)

    def _take_turns(
        self,
        engines: dict[W, tuple[Engine, float]],
        rejected: Rejected[W],
        rounds: int,
        seconds: float,
        on_progress: Progress,
    ) -> dict[W, tuple[list[float], float]]:
        """Pictures a second of each way in each round, with its largest error; what fails meanwhile is rejected."""
        rates: dict[W, tuple[list[float], float]] = {way: ([], error) for way, (_, error) in engines.items()}
        for index in range(rounds):
            on_progress("measuring ways to run it", index, rounds)
            for way in list(rates):
                engine, largest = engines[way]
                try:
                    fault = self._find_late_fault(engine)
                    if fault is None:
                        rates[way][0].append(self._time(engine, seconds))
                        continue
                except _FAILURES as error:
                    fault = describe_failure(error)
                rejected[way] = (fault, largest)
                del rates[way]
        on_progress("measuring ways to run it", rounds, rounds)
        return rates

    def _find_late_fault(self, engine: Engine) -> str | None:
        """What is wrong with logits of the whole batch, whose parts are others than when the way was judged."""
        logits = engine.logits(self.images)  # wakes its threads, or captures what runs again
        return None if self.reference is None else self._find_fault(logits[: len(self.reference)], self.reference)

    def _time(self, engine: Engine, seconds: float) -> float:
        """Pictures a second."""
        done, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            engine.logits(self.images)
            done += len(self.images)
        return done / (time.perf_counter() - started)


def describe_failure(error: Exception) -> str:
    """Why a way does not run, in one line."""
    return (
        f"not run: too little memory beside the other ways ({error})" if isinstance(error, MemoryError) else str(error)
    )


def _list_reasons(rejected: Rejected[W]) -> str:
    return "; ".join(f"{way}: {reason}" for way, (reason, _) in rejected.items())


def find_fault(
    logits: NDArray[np.floating],
    reference: NDArray[np.floating],
    tolerance: float,
    threshold: float,
    *,
    margin: float = 0.0,
) -> str | None:
    """Why logits ``(N,)`` are not exact enough to stand for the plain way's; None where they are.

    Args:
        logits: logits to judge, float32 or float64 ``(N,)``.
        reference: logits of the plain way, float32 or float64 ``(N,)``.
        tolerance: largest |Δlogit|.
        threshold: threshold of the contract; a logit above it is fake.
        margin: distance of the reference to the threshold up to which a decision may differ.
    """
    largest = float(np.abs(logits - reference).max())
    flips = [at for at in decision_flips(logits, reference, threshold) if abs(reference[at] - threshold) > margin]
    # Written so that NaN is too far.
    if flips or not largest <= tolerance:
        return f"not exact enough: logits differ by up to {largest:.2g}, {len(flips)} decisions of {len(logits)} flip"
    return None


def choose_way(graph: Path, rates: dict[W, tuple[list[float], float]], rejected: Rejected[W]) -> Choice[W]:
    """The fastest way in most rounds; the plain one, which is the first, where that is not clear.

    Args:
        graph: path of the graph.
        rates: pictures a second in each round, and largest |Δlogit|, by way.
        rejected: reason, and largest |Δlogit| where it is known, by way that was not timed.
    """
    plain = next(iter(rates))
    ratios = {
        way: [mine / theirs for mine, theirs in zip(rows, rates[plain][0], strict=True)]
        for way, (rows, _) in rates.items()
    }
    median = {way: statistics.median(values) for way, values in ratios.items()}
    quartile = {way: float(np.quantile(values, 0.25)) for way, values in ratios.items()}
    clear = [way for way in rates if quartile[way] > 1 and median[way] > _LEAST_GAIN]
    chosen = max(clear, key=median.__getitem__) if clear else plain
    why = "no other way is clearly faster" if chosen == plain else f"{median[chosen]:.2f} x the speed of {plain}"
    tried = [
        Trial(
            settings=way,
            fps=statistics.median(rows),
            ratio=median[way],
            ratio_quartile=quartile[way],
            max_error=error,
            rejected=None if way == chosen else f"{median[way] / median[chosen]:.2f} x the speed of the choice",
        )
        for way, (rows, error) in rates.items()
    ]
    tried += [
        Trial(settings=way, fps=None, ratio=None, ratio_quartile=None, max_error=error, rejected=reason)
        for way, (reason, error) in rejected.items()
    ]
    return Choice(graph=graph, chosen=chosen, why=why, tried=tuple(tried))
