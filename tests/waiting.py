"""Waiting for what another process or thread does."""

import time
from collections.abc import Callable
from typing import TypeVar

import pytest

_Value = TypeVar("_Value")
_LONGEST_SECONDS = 60  # so that a failure is one; what is waited for takes seconds at most


def wait_for(condition: Callable[[], _Value]) -> _Value:
    """Ask until the answer is true, and give it."""
    deadline = time.monotonic() + _LONGEST_SECONDS
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.01)
    pytest.fail("it did not happen")
