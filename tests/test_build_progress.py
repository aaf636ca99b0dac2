import threading
import types

from engines.build_progress import make_monitor

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
