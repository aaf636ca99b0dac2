"""A process of a job under Ray: it opens the engine once and judges one part after the other.

Nothing that goes wrong here is left to Ray, which would try again for ever, or end the job with a page of its own: an
error comes back as the answer of a part, with the exit code that it has in ``predict``.
"""

import json
import os
import socket
import time
import traceback
import zlib
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engines.host import keep_freed_memory
from lfm_deploy.errors import DeployError, InputError, exit_code_of, first_line, is_out_of_memory
from lfm_deploy.machine import limit_cores
from lfm_deploy.pictures.left_out import LeftOut
from lfm_deploy.pictures.pixel_limit import limit_pixels
from lfm_deploy.pictures.self_test import describe_differences
from lfm_deploy.prediction.judges import Judge, open_judge
from lfm_deploy.prediction.part_run import judge_parts
from lfm_deploy.prediction.parts import Part
from lfm_deploy.prediction.rows import RowFormat
from lfm_deploy.storage.places import Place
from lfm_deploy.version import __version__
from lfm_deploy.workdir import Workdir

# A machine may be taken away under a part now and then; three times the same part is no accident.
MOST_TRIES = 3
# How the file is called by which an actor knows the folder of the results.
MARKER = ".ray-"
_ADVANCE_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorTask:
    """What the processes of one job are to do, the same for all.

    Attributes:
        folder: path or URL of the folder of the results.
        form: format of the rows.
        strict: whether a picture that cannot be judged is an error.
        overwrite: whether parts that have a file are judged again, too.
        workdir: path of the workdir.
        options: further arguments for ``open_judge``.
        max_pixels: number of pixels up to which pictures are decoded.
        cores: number of cores that a process takes.
        place: folder that names are relative to.
        host: name of the machine that the job was begun on.
        seen: paths that are there on that machine, and must be on each.
        version: version of lfm-deploy there.
    """

    folder: Place
    form: RowFormat
    strict: bool
    overwrite: bool
    workdir: Path
    options: Mapping[str, Any]
    max_pixels: int
    cores: int
    place: Path
    host: str
    seen: tuple[Path, ...]
    version: str = __version__


def pack_part(number: int, part: Part) -> dict[str, Any]:
    """A part as a row for the actors.

    Args:
        number: position of it in the list.
        part: a part.
    """
    from ray import cloudpickle

    # Names of 10,000 pictures are much alike.
    return {"number": number, "part": zlib.compress(cloudpickle.dumps(part), 1)}


class PartActor:
    """An engine that judges parts; Ray makes one in each process and gives it one row at a time."""

    def __init__(self, task: ActorTask, call: Callable[..., Any]) -> None:
        """Open the engine; what is wrong is kept, and said in the place of results.

        Args:
            task: settings of the job.
            call: function that calls a method of the job's ``Tally`` by its name: ``call("end", "part 3")``.
        """
        self._task, self._call = task, call
        number, handle = _find_actor()
        self._where = (socket.gethostname(), os.getpid(), handle)
        self._kept = ExitStack()
        self._messages: list[str] = []
        self._judge: Judge | None = None
        self._error: dict[str, Any] | None = None
        key = f"engine of {number}"
        try:
            self._check_sight()
            if self._call("begin", key, "the engine", *self._where) > MOST_TRIES:
                raise DeployError(f"{MOST_TRIES} processes died while they opened the engine")
            self._open()
            self._call("end", key)
        except Exception as error:  # whatever it is, it is for the terminal that waits
            self._error = self._describe(error, "opening the engine")

    def __call__(self, rows: Mapping[str, Any]) -> dict[str, list[str]]:
        """Judge the part of one row.

        Args:
            rows: columns with one row, from ``pack_part``.

        Returns:
            A column ``answer`` with one JSON text.
        """
        from ray import cloudpickle

        number = int(rows["number"][0])
        part = cloudpickle.loads(zlib.decompress(rows["part"][0]))
        answer = self._error if self._error is not None else self._judge_part(number, part)
        messages, self._messages = self._messages, []
        return {"answer": [json.dumps({"number": number, "messages": messages, **answer})]}

    def _check_sight(self) -> None:
        """That this machine has what the one has that the job was begun on."""
        here, task = self._where[0], self._task
        if task.version != __version__:
            raise InputError(f"lfm-deploy is {task.version} on {task.host} and {__version__} on {here}; install one")
        missing = next((path for path in task.seen if not path.exists()), None)
        if missing is not None:
            shown = missing.parent if missing.name.startswith(MARKER) else missing
            raise InputError(
                f"{shown}: what {task.host} has there, the process on {here} does not see; workdir, pictures and "
                "--output-dir must lie where every machine sees them"
            )
        os.chdir(task.place)

    def _open(self) -> None:
        task = self._task
        keep_freed_memory()
        self._kept.enter_context(limit_cores(task.cores))
        self._messages.extend(f"Warning: {line}" for line in describe_differences())
        self._kept.enter_context(limit_pixels(task.max_pixels))
        self._judge = open_judge(Workdir(task.workdir), **task.options, on_message=self._messages.append)

    def _judge_part(self, number: int, part: Part) -> dict[str, Any]:
        key, task = f"part {number}", self._task
        assert self._judge is not None  # noqa: S101  # else there was an error
        try:
            tries = self._call("begin", key, part.name, *self._where)
            if tries > MOST_TRIES:
                self._call("end", key)
                return {"lost": f"{MOST_TRIES} processes died while they judged it"}
            if tries > 1:
                self._messages.append(f"judging {part.name} again: the process that had it died")
            left_out = LeftOut()
            run = judge_parts(
                self._judge,
                [part],
                task.folder,
                task.form,
                strict=task.strict,
                overwrite=task.overwrite,
                left_out=left_out,
                on_message=self._messages.append,
                on_pictures=_Advance(lambda count: self._call("advance", key, count)).add,
            )
            self._call("end", key, run.counts.pictures)
        except Exception as error:  # as above
            return self._describe(error, part.name)
        return {"run": asdict(run), "left_out": left_out, "proved": self._judge.proved is not None}

    def _describe(self, error: Exception, what: str) -> dict[str, Any]:
        """An error as an answer: its line, and the exit code that ``predict`` ends with."""
        if isinstance(error, DeployError):
            line, code = str(error), error.exit_code
        elif is_out_of_memory(error):
            line, code = f"{what}: not enough memory; use smaller batches (--batch) or fewer --actors", 1
        else:
            traceback.print_exc()  # into the log of this process
            line = f"{what}: {type(error).__name__}: {first_line(error)}"
            code = exit_code_of(error) if isinstance(error, OSError) else 1
        here = self._where[0]
        return {"error": line if here == self._task.host else f"on {here}: {line}", "exit_code": code}


class _Advance:
    """Counts pictures and passes them on now and then: a job of a thousand processes has one that listens."""

    def __init__(self, tell: Callable[[int], Any]) -> None:
        self._tell, self._waiting, self._told = tell, 0, 0.0

    def add(self, count: int) -> None:
        self._waiting += count
        if time.monotonic() - self._told >= _ADVANCE_SECONDS:
            self._tell(self._waiting)
            self._waiting, self._told = 0, time.monotonic()


def _find_actor() -> tuple[str, Any]:
    """A name that stays when Ray starts the actor again, and the handle by which Ray ends its process."""
    from ray import get_runtime_context

    context = get_runtime_context()
    return str(context.get_actor_id()), context.current_actor
