"""The function through which a long step says how much of it is done."""

from collections.abc import Callable

# What is being done, how many of its steps are done, and of how many.
Progress = Callable[[str, int, int], None]


def ignore_progress(what: str, done: int, total: int) -> None:
    """Tell nobody."""
