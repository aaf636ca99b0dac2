"""What a TensorRT build is doing, from the library's own progress monitor, which can also stop it."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildProgress:
    """One step of a build.

    Attributes:
        phase: the library's name for what it does.
        nested: number of phases that this one is inside of; 0 for the whole build.
        done, steps: steps of this phase that are done, and all of its steps.
    """

    phase: str
    nested: int
    done: int
    steps: int


def make_monitor(api: Any, cancelled: threading.Event, on_progress: Callable[[BuildProgress], None] | None) -> Any:
    """An ``IProgressMonitor`` of the library ``api`` that reports, and stops the build once ``cancelled``.

    The library calls it from threads of its own, so it holds a lock while it counts.
    """
    lock = threading.Lock()
    phases: dict[str, tuple[int, int]] = {}  # name -> (nested, steps)

    def report(phase: str, done: int) -> None:
        nested, steps = phases.get(phase, (0, done))
        if on_progress is not None:
            on_progress(BuildProgress(phase=phase, nested=nested, done=done, steps=steps))

    class Monitor(api.IProgressMonitor):  # type: ignore[misc]  # its base is only known at run time
        """Called by the library; its method names are TensorRT's."""

        def __init__(self) -> None:
            api.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            """A phase begins."""
            with lock:
                nested = phases[parent_phase][0] + 1 if parent_phase in phases else 0
                phases[phase_name] = (nested, num_steps)
                report(phase_name, 0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            """A step is done; False stops the build."""
            with lock:
                report(phase_name, step + 1)
            return not cancelled.is_set()

        def phase_finish(self, phase_name: str) -> None:
            """A phase is over."""
            with lock:
                report(phase_name, phases.get(phase_name, (0, 0))[1])
                phases.pop(phase_name, None)

    return Monitor()
