"""Trials in forked processes that have everything imported: many in each, every one of them watched."""

import json
import os
import resource
import select
import shutil
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from fuzzing.kinds import KINDS
from fuzzing.running import MOST_BYTES, name_signal, try_one
from fuzzing.seeds import Seeds
from fuzzing.trial import GOOD, Result

_EACH = 40  # inputs in a process: what one leaves behind in it meets no more than these
_SECONDS, _HEAVY_SECONDS = 30.0, 120.0
_COMMAND_EVERY = 250  # of so many inputs, one runs as a user runs it

Item = tuple[str, int]


@dataclass(frozen=True, kw_only=True)
class Found:
    """What came of one input.

    Attributes:
        kind: name of its kind.
        index: number of the input.
        result: what came of it.
        why: words for what was wrong, or what the product said.
        what: words for what was done to the input.
        seconds: time from making it to judging it.
    """

    kind: str
    index: int
    result: Result
    why: str = ""
    what: str = ""
    seconds: float = 0.0

    @property
    def is_fault(self) -> bool:
        """Whether something was wrong."""
        return self.result not in GOOD


@dataclass
class _Worker:
    pid: int
    pipe: int
    items: list[Item]
    place: int
    started: float = 0.0
    rest: bytes = b""
    done: list[Found] = field(default_factory=list)


def run_item(seeds: Seeds, seed: int, item: Item, folder: Path) -> Found:
    """Make one input, run the product on it, and judge what comes of it.

    Args:
        seeds: whole files.
        seed: seed of the whole run.
        item: name of the kind, and number of the input.
        folder: path to work in; it is made anew.
    """
    kind, index = item
    start = time.monotonic()
    rng = Random(f"{seed}:{kind}:{index}")  # noqa: S311  # chance, no secret
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    os.chdir(folder)
    make = next(one.make for one in KINDS if one.name == kind)
    what = ""
    try:
        trial = make(rng, seeds, folder)
        what, limit = trial.what, _HEAVY_SECONDS if trial.heavy else _SECONDS
        as_command = Random(f"command:{seed}:{kind}:{index}").randrange(_COMMAND_EVERY) == 0  # noqa: S311
        result, why, _ = try_one(trial, folder, as_command=as_command, seconds=limit)
    except Exception:  # a mistake of the fuzzer itself, or an answer that no judge foresaw
        result, why = Result.FUZZER, " ".join(traceback.format_exc().split()[-40:])
    return Found(kind=kind, index=index, result=result, why=why, what=what, seconds=time.monotonic() - start)


def run_all(
    seeds: Seeds, seed: int, items: Sequence[Item], jobs: int, on_found: Callable[[Found], None], *, each: int = _EACH
) -> None:
    """Run inputs in several processes. A fault counts once it has been seen in a process of its own.

    Args:
        seeds: whole files.
        seed: seed of the whole run.
        items: names of kinds with numbers of inputs.
        jobs: number of processes at a time.
        on_found: function that is given each result.
        each: number of inputs in a process.
    """
    waiting = [list(items[start : start + each]) for start in range(0, len(items), each)][::-1]
    workers: dict[int, _Worker] = {}
    while waiting or workers:
        while waiting and len(workers) < jobs:
            place = min(set(range(jobs)) - {worker.place for worker in workers.values()})
            worker = _start(seeds, seed, waiting.pop(), place)
            workers[worker.pipe] = worker
        ready, _, _ = select.select(list(workers), [], [], 1.0)
        for pipe in list(workers):
            worker = workers[pipe]
            if not (_is_at_end(worker) if pipe in ready else _is_late(worker)):
                continue
            del workers[pipe]
            os.close(pipe)
            again = _close(worker)
            for found in worker.done:
                # What an earlier input left in the process may be to blame.
                if found.is_fault and len(worker.items) > 1:
                    waiting.append([(found.kind, found.index)])
                else:
                    on_found(found)
            if again:
                waiting.append(again)


def _start(seeds: Seeds, seed: int, items: list[Item], place: int) -> _Worker:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return _Worker(pid, reading, items, place, time.monotonic())
    os.close(reading)
    screen = os.dup(2)
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what libraries say while right answers are computed
        _limit_memory()
        for item in items:
            found = run_item(seeds, seed, item, seeds.folder / f"t{place}")
            os.write(writing, json.dumps(vars(found)).encode() + b"\n")
    except BaseException:  # a mistake of the fuzzer itself
        os.write(screen, traceback.format_exc().encode())
        os._exit(99)
    os._exit(0)


def _limit_memory() -> None:
    """3 GiB beyond what the libraries have mapped already."""
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MOST_BYTES, mapped + MOST_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _is_at_end(worker: _Worker) -> bool:
    """Take what a process wrote; whether it has ended."""
    content = os.read(worker.pipe, 1 << 16)
    *lines, worker.rest = (worker.rest + content).split(b"\n")
    for line in lines:
        values = json.loads(line)
        worker.done.append(Found(**values | {"result": Result(values["result"])}))
        worker.started = time.monotonic()
    return not content


def _is_late(worker: _Worker) -> bool:
    kind = worker.items[len(worker.done)][0] if len(worker.done) < len(worker.items) else ""
    heavy = next((not one.quick for one in KINDS if one.name == kind), False)
    return time.monotonic() - worker.started > (_HEAVY_SECONDS if heavy else _SECONDS)


def _close(worker: _Worker) -> list[Item]:
    """End a process; what it had not begun yet."""
    late = _is_late(worker)
    if late:
        os.killpg(worker.pid, signal.SIGKILL)
    status = os.waitpid(worker.pid, 0)[1]
    if len(worker.done) == len(worker.items):
        return []
    kind, index = worker.items[len(worker.done)]
    rest = worker.items[len(worker.done) + 1 :]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 99:
        raise SystemExit(f"the fuzzer itself failed at {kind}:{index}")
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    how = name_signal(number) if number else f"ended with {os.waitstatus_to_exitcode(status)}"
    result, why = (Result.HANG, "runs for too long") if late else (Result.CRASH, how)
    worker.done.append(Found(kind=kind, index=index, result=result, why=why))
    return rest
