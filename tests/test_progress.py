import subprocess
import sys
import threading
import types

from engines.progress import cancel_on_interrupt, make_monitor

api = types.SimpleNamespace(IProgressMonitor=type("IProgressMonitor", (), {}))


def test_the_monitor_reports_nested_phases_and_stops_when_cancelled():
    cancelled, seen = threading.Event(), []
    monitor = make_monitor(api, cancelled, seen.append)
    monitor.phase_start("whole", None, 2)
    monitor.phase_start("part", "whole", 3)
    assert monitor.step_complete("part", 0)
    cancelled.set()
    assert not monitor.step_complete("part", 1)
    monitor.phase_finish("part")
    assert [(step.phase, step.nested, step.done, step.steps) for step in seen] == [
        ("whole", 0, 0, 2),
        ("part", 1, 0, 3),
        ("part", 1, 1, 3),
        ("part", 1, 2, 3),
        ("part", 1, 3, 3),
    ]


# In a process of its own: a signal to the one that runs the tests is a signal to all of them.
INTERRUPTED = """
import os, signal
from engines.progress import cancel_on_interrupt
before = signal.getsignal(signal.SIGINT)
try:
    with cancel_on_interrupt() as cancelled:
        os.kill(os.getpid(), signal.SIGINT)
        print("asked:", cancelled.wait(30))
except KeyboardInterrupt:
    print("raised, restored:", signal.getsignal(signal.SIGINT) is before)
"""


def test_an_interrupt_becomes_a_request_first_and_an_exception_at_the_end():
    finished = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=True)
    assert finished.stdout.splitlines() == ["asked: True", "raised, restored: True"]


def test_without_an_interrupt_nothing_is_raised():
    with cancel_on_interrupt() as cancelled:
        pass
    assert not cancelled.is_set()
