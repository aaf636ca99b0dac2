"""Ways to run a graph take turns, and must give the logits of the plain one.

They take turns (A B C, A B C, ...), so that a machine that slows down slows all of them. A way must also be exact
enough: it may not decide otherwise, and its logits may hardly differ. One that fails, whenever it does, is left out
with its reason; but a damaged graph is nobody's way.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

import numpy as np
from numpy.typing import NDArray

from engines.engine import Engine
from engines.way_choice import Choice, Rejected, W, choose_way
from lfm_deploy.errors import DeployError, GateError, InputError, UnavailableError, first_line
from lfm_deploy.metrics.decisions import decision_flips
from lfm_deploy.progress import Progress, ignore_progress


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
            GateError: no way gives the logits of the reference, or lasts.
        """
        engines: dict[W, Engine] = {}
        rejected: Rejected[W] = {}
        try:
            errors = self._open(ways, engines, rejected)
            rates = self._take_turns(engines, rejected, rounds, seconds, on_progress)
        finally:
            for engine in engines.values():
                engine.close()
        if not rates:
            reasons = "; ".join(f"{way}: {reason}" for way, (reason, _) in rejected.items())
            raise GateError(f"{self.graph}: no way to run it is exact enough: {reasons}")
        return choose_way(self.graph, {way: (rows, errors[way]) for way, rows in rates.items()}, rejected)

    def _open(self, ways: Sequence[W], engines: dict[W, Engine], rejected: Rejected[W]) -> dict[W, float]:
        """Open the ways that are exact enough, and tell why others are not; largest errors of the former."""
        errors: dict[W, float] = {}
        reference = self.reference
        unavailable: UnavailableError | None = None
        for way in ways:
            try:
                engines[way] = self.open_way(way)
                found = self._judge(engines[way], reference)
            except Exception as error:
                if way in engines:
                    engines.pop(way).close()
                if reference is None or isinstance(error, InputError):
                    raise
                if isinstance(error, UnavailableError):
                    unavailable = unavailable or error
                rejected[way] = (describe_failure(error), None)
                continue
            reference = found.logits if reference is None else reference
            if found.fault is None:
                errors[way] = found.largest
            else:
                rejected[way] = (found.fault, found.largest)
                engines.pop(way).close()
        if not engines and unavailable is not None:
            raise unavailable
        return errors

    def _judge(self, engine: Engine, reference: NDArray[np.float32] | None) -> "_Judged":
        """How exact a way is, several times over; without a reference, its first logits are that."""
        images = self.images if reference is None else self.images[: len(reference)]
        logits, fault, largest = np.empty(0, np.float32), None, 0.0
        for _ in range(self.repeats):
            logits = engine.logits(images)
            reference = logits if reference is None else reference
            fault = fault or self._find_fault(logits, reference)
            largest = float(np.maximum(largest, np.abs(logits - reference).max()))  # NaN stays
        return _Judged(logits, fault, largest)

    def _find_fault(self, logits: NDArray[np.float32], reference: NDArray[np.float32]) -> str | None:
        return find_fault(logits, reference, self.tolerance, self.threshold, margin=self.margin)

    def _take_turns(
        self,
        engines: dict[W, Engine],
        rejected: Rejected[W],
        rounds: int,
        seconds: float,
        on_progress: Progress,
    ) -> dict[W, list[float]]:
        """Pictures a second of each way in each round; what fails meanwhile is rejected."""
        rates: dict[W, list[float]] = {way: [] for way in engines}
        for index in range(rounds):
            on_progress("measuring ways to run it", index, rounds)
            for way in list(rates):
                try:
                    fault = self._find_late_fault(engines[way])
                    if fault is None:
                        rates[way].append(self._time(engines[way], seconds))
                        continue
                except Exception as error:
                    fault = describe_failure(error)
                rejected[way] = (fault, None)
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


@dataclass(frozen=True, slots=True)
class _Judged:
    logits: NDArray[np.float32]
    fault: str | None
    largest: float


def describe_failure(error: Exception) -> str:
    """Why a way does not run, in one line: runtimes and compilers raise what they like."""
    if isinstance(error, MemoryError):
        return f"not run: too little memory beside the other ways ({first_line(error)})"
    return str(error) if isinstance(error, DeployError) else f"not run: {type(error).__name__}: {first_line(error)}"


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
