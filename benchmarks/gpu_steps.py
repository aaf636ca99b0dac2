"""Steps of ``gpu.py`` that share a limit of time: what matters most comes first, and what found no time is named."""

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lfm_deploy.errors import DeployError


@dataclass(frozen=True)
class Step:
    """One part of the run.

    Attributes:
        name: of the part, for what is left out.
        seconds: that it takes at least; it isn't begun with less.
        run: does it, and is given the seconds that are left.
    """

    name: str
    seconds: float
    run: Callable[[float], None]


def run_steps(
    steps: Sequence[Step],
    limit_s: float,
    left_out: dict[str, str],
    after_each: Callable[[], object],
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Run steps in order as long as there is time; one's failure is a result, not the end of the run.

    Where it failed goes to stderr, unless the machine lacks something: it may not be there for a second look.

    Args:
        steps: parts of the run, the most important ones first.
        limit_s: seconds that all of them may take.
        left_out: is told what was not run, and why.
        after_each: writes down what was found so far, so that a run that is cut off leaves it.
        clock: seconds since some time.

    Returns:
        Seconds that each step took.
    """
    begun, took = clock(), {}
    for step in steps:
        at = clock()
        left = limit_s - (at - begun)
        if left < step.seconds:
            left_out[step.name] = (
                f"not run: it takes {step.seconds:.0f} s, and {max(left, 0):.0f} of {limit_s:.0f} are left"
            )
            continue
        try:
            step.run(left)
        except Exception as error:
            if not isinstance(error, DeployError):
                traceback.print_exc()
            left_out[step.name] = describe(error)
        took[step.name] = round(clock() - at, 1)
        after_each()
    return took


def describe(error: Exception) -> str:
    """Why something was not run, in one line."""
    lines = str(error).strip().splitlines() or [""]
    return f"not run: {type(error).__name__}: {lines[0][:200]}"
