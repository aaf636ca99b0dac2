import os
import signal
import threading
import types

import pytest

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


def interrupt_inside(reached):
    with cancel_on_interrupt() as cancelled:
        os.kill(os.getpid(), signal.SIGINT)
        reached.append(cancelled.wait(5))  # the handler ran and nothing was raised here


def test_an_interrupt_becomes_a_request_first_and_an_exception_at_the_end():
    before, reached = signal.getsignal(signal.SIGINT), []
    with pytest.raises(KeyboardInterrupt):
        interrupt_inside(reached)
    assert reached == [True]
    assert signal.getsignal(signal.SIGINT) is before


def test_without_an_interrupt_nothing_is_raised():
    with cancel_on_interrupt() as cancelled:
        pass
    assert not cancelled.is_set()
