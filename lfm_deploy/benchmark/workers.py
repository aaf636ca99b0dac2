"""Processes that measure: each works when it is its turn, and waits on a pipe otherwise.

Thread pools of PyTorch and ONNX Runtime spin for a while after their work; side by side in one process each halves the
other's figure. A worker that waits is idle, so whoever has the turn has the machine.

Parent and worker exchange JSON, one object a line: an opening, which is answered with what the worker is, then
requests, each with one answer. A worker ends when its input does, so none outlives its parent, however that ends.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from lfm_deploy.errors import DeployError, OtherGpuError, UnavailableError

Values = dict[str, Any]
_PATIENCE_SECONDS = 5.0


class WorkerError(DeployError):
    """A worker could not do what it was asked; it lives and can be asked again."""


class WorkerDiedError(WorkerError):
    """A worker's process ended."""


class Worker:
    """The parent's side of one process."""

    def __init__(self, command: Sequence[str], opening: Values, environment: Mapping[str, str] | None = None) -> None:
        """Start a process; it opens what it measures while others are started.

        Args:
            command: command line of a program that calls ``serve``.
            opening: plain values that say what it is to measure, as its ``open_job`` takes them.
            environment: environment variables for this process alone.
        """
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the worker
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages,
            env={**os.environ, **(environment or {})},
            text=True,
            process_group=0,  # the terminal's Ctrl-C reaches the parent alone, which ends its workers
        )
        self.about: Values = {}
        self._unsent: Values | None = opening

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(at_once=error is not None)

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._process.pid

    def open(self) -> Values:
        """Wait until the worker has opened what it measures; what it says of itself.

        Raises:
            UnavailableError: the engine or library to measure cannot run on this machine.
            WorkerError: the worker failed.
            WorkerDiedError: the worker's process ended.
        """
        if self._unsent is not None:
            opening, self._unsent = self._unsent, None
            self.about = self.ask(opening)
        return self.about

    def ask(self, request: Values) -> Values:
        """Send one request and wait for its answer.

        Args:
            request: plain values that the worker's job takes.

        Raises:
            UnavailableError: the engine or library to measure cannot run on this machine.
            WorkerError: the worker failed.
            WorkerDiedError: the worker's process ended.
        """
        assert self._process.stdin is not None  # noqa: S101  # both are pipes, see __init__
        assert self._process.stdout is not None  # noqa: S101
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line.endswith("\n"):
            raise WorkerDiedError(self._last_words())
        answer: Values = json.loads(line)
        if "error" in answer:
            raise (UnavailableError if answer["unavailable"] else WorkerError)(answer["error"])
        result: Values = answer["result"]
        return result

    def close(self, *, at_once: bool = False) -> None:
        """End the process, and wait until it has ended.

        Args:
            at_once: whether not to let it finish what it is doing.
        """
        if at_once:
            self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except BrokenPipeError:
                continue  # it has died with a request unread
        try:
            self._process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._messages.close()

    def _last_words(self) -> str:
        """Why the process ended, as far as it can be told."""
        try:
            code = self._process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            return "its process closed its output and does not end"
        self._messages.seek(0)
        said = self._messages.read().decode(errors="replace").strip().splitlines()
        ending = f"ended with exit code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
        if code == -signal.SIGKILL:
            ending += " (the system does that when memory runs out)"
        return f"its process {ending}" + (f": {said[-1].strip()}" if said else "")


def serve(open_job: Callable[[Values], tuple[Values, Callable[[Values], Values]]]) -> None:
    """The worker's side: answer requests from standard input until it ends.

    What libraries print goes to standard error.

    Args:
        open_job: function that takes the opening, and gives what the worker is and the function that answers requests.
    """
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(make: Callable[[], Values]) -> None:
        try:
            reply: Values = {"result": make()}
        except DeployError as error:
            reply = {"error": str(error), "unavailable": isinstance(error, (UnavailableError, OtherGpuError))}
        except Exception as error:  # whatever a runtime raises is the reason for a missing figure
            said = str(error).strip().splitlines() or ["it gave no reason"]
            reply = {"error": f"{type(error).__name__}: {said[0]}", "unavailable": False}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()

    work: Callable[[Values], Values] | None = None

    def start(opening: Values) -> Values:
        nonlocal work
        about, work = open_job(opening)
        return about

    for line in sys.stdin:
        request: Values = json.loads(line)
        answer(lambda: (work or start)(request))  # noqa: B023  # called before the next line is read
