"""Standard streams that are closed, full or no longer read: one line and the right exit code, never a traceback."""

import codecs
import io
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

import click

from lfm_deploy.errors import DeployWarning, exit_code_of

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # but tabs and ends of lines
READ_ENOUGH = 0  # a reader that has what it wanted, such as `| head`, is no failure


def open_missing_streams() -> bool:
    """Give closed streams a place to go, so that no print fails; False where results have none."""
    has_stdout = sys.stdout is not None
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123  # for the whole process
    return has_stdout


def prepare_streams() -> None:
    """Let every text be printed, whatever the terminal can show and whatever bytes a file's name has.

    In UTF-8 names keep their bytes; elsewhere a sign that there is none for is spelled by its number, as Python does on
    stderr by itself.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape" if _is_utf8(stream) else "backslashreplace")
    if isinstance(sys.stdout, io.TextIOWrapper):
        stream = sys.stdout
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(_StandardOutput(stream.fileno(), "wb", closefd=False)),
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )


class _StandardOutput(io.FileIO):
    """Standard output, whose errors say that they are its own."""

    def write(self, content: Any) -> int:
        """Write, as ``FileIO.write`` does."""
        try:
            return super().write(content)
        except OSError as error:
            raise OSError(error.errno, error.strerror, "standard output") from None


def _is_utf8(stream: Any) -> bool:
    """Whether a stream takes every text."""
    try:
        return codecs.lookup(stream.encoding).name == "utf-8"
    except (AttributeError, LookupError, TypeError):
        return False


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
    """A message for people, on stderr. Where nobody can read it, the work goes on: it is not the result.

    Control characters, which names of files may hold and terminals obey, are spelled.
    """
    with letting_messages_go():
        click.echo(_CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", message), err=True)


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
    reason = error.strerror or str(error) or type(error).__name__
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{reason}; nothing half-written was left", exit_code_of(error)
