"""Standard streams that are closed, full or no longer read: one line and the right exit code, never a traceback."""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

import click

from lfm_deploy.errors import DeployWarning, exit_code_of

READ_ENOUGH = 0  # a reader that has what it wanted, such as `| head`, is no failure


def open_missing_streams() -> bool:
    """Give closed streams a place to go, so that no print fails; False where results have none."""
    has_stdout = sys.stdout is not None
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123  # for the whole process
    return has_stdout


def show_warnings_in_one_line() -> None:
    """Print our own warnings as messages for people; ``warnings.catch_warnings`` around it undoes this."""
    show_others = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **options: Any) -> None:
        if issubclass(category, DeployWarning):
            say(f"Warning: {message}")
        else:
            show_others(message, category, *place, **options)

    warnings.filterwarnings("always", category=DeployWarning)
    warnings.showwarning = show


def flush_results() -> None:
    """Write what is left, where an error can still be told; Python would do it when nobody listens any more.

    Raises:
        OSError: standard output is full, or nobody reads it.
    """
    sys.stdout.flush()


def discard_results() -> None:
    """Let what could not be written go, so that Python does not fail on it once more when it ends."""
    _discard(sys.stdout)


def say(message: str) -> None:
    """A message for people, on stderr. Where nobody can read it, the work goes on: it is not the result."""
    with letting_messages_go():
        click.echo(message, err=True)


@contextmanager
def letting_messages_go() -> Iterator[None]:
    """Go on where stderr is full, or no longer read; what is said later is lost as well."""
    try:
        yield
    except OSError:
        _discard(sys.stderr)


def _discard(stream: TextIO) -> None:
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def describe_system_error(error: OSError) -> tuple[str, int]:
    """One line on an error of the system that no command expected, and its exit code.

    Returns:
        The line names the file, or standard output, where that is known. The code is 2 for what the user named, 1 for
        a full disk and the like.
    """
    where = error.filename or ("standard output" if _is_stuck() else "")
    reason = error.strerror or str(error) or type(error).__name__
    return f"{f'{where}: ' if where else ''}{reason}; nothing half-written was left", exit_code_of(error)


def _is_stuck() -> bool:
    """Whether standard output holds what it could not write."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        return True
    return False
