"""Compiled code that Numba keeps on disk, where that can be done and what is there is whole."""

import threading
from collections.abc import Callable
from typing import Any

from numba import njit


def compile_and_keep(function: Callable[..., None]) -> Callable[..., None]:
    """A function that is compiled when it first runs, without the lock of Python, and kept on disk.

    Files that are damaged are written anew. Where nothing can be written, on a full disk for instance, each process
    compiles for itself.

    Args:
        function: function in the part of Python that Numba compiles; it may run twice on the same arguments.
    """
    # What another thread runs may not be compiled anew in place: each way has its own code.
    ways = [_keep, _keep_anew, njit(nogil=True)]
    lock, current = threading.Lock(), [(0, _make(ways, 0, function))]

    def run(*arguments: Any) -> None:
        while True:
            tried, compiled = current[0]
            try:
                compiled(*arguments)
            except Exception:  # whatever the reading of a damaged file raises, and the file system
                if tried == len(ways) - 1:
                    raise
                with lock:
                    if current[0][0] == tried:
                        current[0] = tried + 1, _make(ways, tried + 1, function)
            else:
                return

    return run


def _make(ways: list[Any], number: int, function: Callable[..., None]) -> Any:
    try:
        return ways[number](function)
    except (RuntimeError, OSError):  # no folder that may be written, or nothing more to be written there
        return ways[-1](function)


def _keep(function: Callable[..., None]) -> Any:
    return njit(nogil=True, cache=True)(function)


def _keep_anew(function: Callable[..., None]) -> Any:
    """The function, after all that was kept of it is forgotten."""
    _keep(function).recompile()
    return _keep(function)
