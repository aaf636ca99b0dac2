"""Every engine at every batch size, in interleaved rounds, beside the ceilings of the machine."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from lfm_deploy.benchmark import bench_worker
from lfm_deploy.benchmark.ceilings import Ceiling, choose_ceilings, list_libraries, thread_variables
from lfm_deploy.benchmark.rounds import Effort, Statistics, Turn, schedule_turns, summarise_times
from lfm_deploy.benchmark.workers import Values, Worker, WorkerDiedError, WorkerError
from lfm_deploy.contract import SizePolicy, usual_side
from lfm_deploy.errors import UnavailableError
from lfm_deploy.progress import Progress, ignore_progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """An engine that is to be measured.

    Attributes:
        name: name in reports, unique in a sweep.
        path: path of the ``.pth``, ``.onnx`` or ``.engine`` file.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``; None leaves it to the kind of file.
        size: side in pixels that pictures are resized to, or ``"native"``.
        batches: batch sizes, ascending.
        command: command line that starts the worker.
        form: further arguments of ``load_engine`` for a checkpoint, such as ``{"precision": "fp16"}``.
    """

    name: str
    path: Path
    device: str | None
    size: SizePolicy
    batches: tuple[int, ...]
    command: tuple[str, ...] = bench_worker.COMMAND
    form: Mapping[str, Any] = field(default_factory=dict)

    @property
    def side(self) -> int:
        """Side of the square pictures in memory that it is measured with, in pixels."""
        return usual_side(self.size)

    def describe(self) -> Values:
        """What a worker needs to open it."""
        return {"path": str(self.path), "device": self.device, "side": self.side, "form": dict(self.form)}


@dataclass(slots=True)
class Point:
    """One engine at one batch size.

    Attributes:
        times: seconds of each run, round by round.
        phases: milliseconds of copying in, computing, copying out and enqueueing, for each run that could tell.
        peak_memory_mib: most memory in MiB that the process held up to this batch size.
        gpu_memory_mib: memory in MiB that the process held on its GPU at this batch size; None on a CPU.
        gpu_clocks: clock of each GPU right after the runs, in words; None on a CPU.
        failure: reason why there are no figures; None where there are.
    """

    times: list[list[float]] = field(default_factory=list)
    phases: list[list[float]] = field(default_factory=list)
    peak_memory_mib: float | None = None
    gpu_memory_mib: float | None = None
    gpu_clocks: list[str] | None = None
    failure: str | None = None

    def summarise(self, batch: int) -> Statistics:
        """What its times amount to.

        Args:
            batch: number of pictures in a run.
        """
        return summarise_times(self.times, batch)


@dataclass(slots=True)
class Sweep:
    """What was found.

    Attributes:
        about: plain values that each engine which opened says of itself, by name.
        not_run: reasons why the other engines did not open, by name.
        failed: names in ``not_run`` whose worker failed or died, which is no lack of this machine.
        points: run times by name of an engine and batch size.
        ceilings: ceilings of the machine by device, then by kind.
        notes: lines on what could not be measured beside the engines.
    """

    about: dict[str, Values] = field(default_factory=dict)
    not_run: dict[str, str] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    points: dict[tuple[str, int], Point] = field(default_factory=dict)
    ceilings: dict[str, dict[str, Ceiling]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Seat:
    """A place in the rounds: a worker, and a new one where it died."""

    def __init__(self, command: Sequence[str], opening: Values, environment: Mapping[str, str] | None = None) -> None:
        self._start = partial(Worker, command, opening, environment)
        self._worker: Worker | None = self._start()

    def open(self) -> Values:
        """What the worker says of itself, once it has opened what it measures.

        Raises:
            UnavailableError: the engine cannot run on this machine.
            WorkerError: the worker failed.
            WorkerDiedError: the worker's process ended.
        """
        if self._worker is None:
            self._worker = self._start()
        return self._worker.open()

    def ask(self, request: Values) -> Values:
        """Send one request and wait for the answer; the next request starts a new worker where this one died.

        Args:
            request: plain values that the worker's job takes.

        Raises:
            UnavailableError: the engine cannot run on this machine.
            WorkerError: the worker failed.
            WorkerDiedError: the worker's process ended.
        """
        self.open()
        assert self._worker is not None  # noqa: S101  # open has seen to it
        try:
            return self._worker.ask(request)
        except WorkerDiedError:
            self._worker.close()
            self._worker = None
            raise

    def close(self, *, at_once: bool = False) -> None:
        """End the worker.

        Args:
            at_once: whether not to let it finish what it is doing.
        """
        if self._worker is not None:
            self._worker.close(at_once=at_once)


def take_seat(stack: contextlib.ExitStack, seat: Seat) -> Seat:
    """A seat that is given up with the stack, at once where that ends by an error.

    Args:
        stack: stack that closes the seat.
        seat: seat to close.
    """
    stack.push(lambda kind, _error, _trace: seat.close(at_once=kind is not None))
    return seat


def run_sweep(
    contenders: Sequence[Contender],
    effort: Effort,
    *,
    threads: int,
    with_ceilings: bool = True,
    on_progress: Progress = ignore_progress,
) -> Sweep:
    """Measure engines, each in a process of its own.

    Args:
        contenders: engines to measure.
        effort: time and rounds for each point.
        threads: number of CPU threads for each engine.
        with_ceilings: whether to measure the machine's limits in the same rounds.
        on_progress: callback that gets what is done, how much, and of how much.
    """
    found = Sweep()
    with contextlib.ExitStack() as stack:
        seats = {one.name: take_seat(stack, Seat(one.command, _opening(one, threads))) for one in contenders}
        for done, (name, seat) in enumerate(seats.items()):
            on_progress("opening engines", done, len(seats))
            try:
                found.about[name] = seat.open()
            except WorkerError as error:
                found.not_run[name] = str(error)
                found.failed.add(name)
            except UnavailableError as error:
                found.not_run[name] = str(error)
        devices = dict.fromkeys(about["device"] for about in found.about.values()) if with_ceilings else {}
        judges = _open_judges(stack, devices, {"threads": threads, "quick": effort.quick}, found, on_progress)
        running = {one.name: one.batches for one in contenders if one.name in found.about}
        turns = schedule_turns(running, effort.rounds, first=list(judges))
        rates: dict[str, list[list[tuple[str, str, float]]]] = {name: [] for name in judges}
        for done, turn in enumerate(turns):
            on_progress("measuring", done, len(turns))
            if turn.batch is None:
                _measure_ceiling(judges, turn.name, effort, rates, found)
            else:
                _measure_point(seats[turn.name], turn, effort, found)
        on_progress("measuring", len(turns), len(turns))
    for device in devices:
        of_device = {judges[name][1]: rounds for name, rounds in rates.items() if judges[name][0] == device and rounds}
        found.ceilings[device] = choose_ceilings(of_device)
    return found


_Judges = dict[str, tuple[str, str, Seat]]


def _open_judges(
    stack: contextlib.ExitStack, devices: Mapping[str, object], settings: Values, found: Sweep, on_progress: Progress
) -> _Judges:
    """Workers that measure ceilings: device, library and seat by a name for each."""
    judges: _Judges = {}
    wanted = [(device, library) for device in devices for library in list_libraries(device)]
    for done, (device, library) in enumerate(wanted):
        on_progress("opening ceilings", done, len(wanted))
        opening = {"job": "ceilings", "library": library, "device": device} | settings
        seat = take_seat(stack, Seat(bench_worker.COMMAND, opening, thread_variables(settings["threads"])))
        try:
            judges[f"{library} on {device}"] = (device, seat.open()["library"], seat)
        except (WorkerError, UnavailableError) as error:
            found.notes.append(f"no ceiling of {device} by {library}: {error}")
    return judges


def _measure_ceiling(
    judges: _Judges, name: str, effort: Effort, rates: dict[str, list[list[tuple[str, str, float]]]], found: Sweep
) -> None:
    if name not in rates:
        return
    try:
        answer = judges[name][2].ask({"seconds": effort.turn_seconds})
        rates[name].append([(kind, what, rate) for kind, what, rate in answer["rates"]])
    except (WorkerError, UnavailableError) as error:
        # Its rounds would no longer stand beside those of the engines.
        rates[name].clear()
        del rates[name]
        found.notes.append(f"no ceiling by {name}: {error}")


def _measure_point(seat: Seat, turn: Turn, effort: Effort, found: Sweep) -> None:
    assert turn.batch is not None  # noqa: S101  # the caller has looked
    point = found.points.setdefault((turn.name, turn.batch), Point())
    if point.failure is not None:
        return
    request = {"batch": turn.batch, "seconds": effort.turn_seconds, "runs": effort.turn_runs}
    try:
        answer = seat.ask(request)
    except (WorkerError, UnavailableError) as error:
        point.failure = str(error)
        return
    point.times.append(answer["times"])
    point.phases += answer["phases"]
    if turn.round == 0:  # batch sizes ascend, so this is what all up to this one needed
        point.peak_memory_mib = answer["peak_memory_mib"]
        point.gpu_memory_mib = answer["gpu_memory_mib"]
    point.gpu_clocks = answer["gpu_clocks"]


def _opening(one: Contender, threads: int) -> Values:
    return {"job": "engine", "threads": threads} | one.describe()
