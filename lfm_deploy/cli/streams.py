"""Standard streams that are closed, full or no longer read: one line and the right exit code, never a traceback."""

import errno
import os
import sys
import warnings
from contextlib import suppress
from typing import Any

import click

from lfm_deploy.errors import DeployWarning

READ_ENOUGH = 0  # a reader that has what it wanted, such as `| head`, is no failure
_BAD_INPUT = 2
# What the user named: a path that is missing, of another kind, or not theirs to use. The rest is the machine's.
_USERS = frozenset(
    {errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EROFS}
)


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
            click.echo(f"Warning: {message}", err=True)
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
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def describe_system_error(error: OSError) -> tuple[str, int]:
    """One line on an error of the system that no command expected, and its exit code.

    Returns:
        The line names the file, where there is one. The code is 2 for what the user named, 1 for a full disk and the
        like.
    """
    where = f"{error.filename}: " if error.filename else ""
    reason = error.strerror or str(error) or type(error).__name__
    return f"{where}{reason}; nothing half-written was left", _BAD_INPUT if error.errno in _USERS else 1
