import subprocess
import sys
import textwrap

import pytest

from lfm_deploy.interrupts import hold_interrupts


def run_alone(program, *arguments):
    """In a process of its own: a signal to the one that runs the tests is a signal to all of them."""
    command = [sys.executable, "-c", textwrap.dedent(program), *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.splitlines()


def test_an_interrupt_becomes_a_request_first_and_an_exception_at_the_end():
    printed = run_alone("""
        import os, signal
        from lfm_deploy.interrupts import hold_interrupts
        before = signal.getsignal(signal.SIGINT)
        try:
            with hold_interrupts() as asked:
                os.kill(os.getpid(), signal.SIGINT)
                print("asked:", asked.wait(30))
        except KeyboardInterrupt:
            print("raised, restored:", signal.getsignal(signal.SIGINT) is before)
    """)
    assert printed == ["asked: True", "raised, restored: True"]


HELD = """
    import signal, sys
    from lfm_deploy.interrupts import hold_interrupts
    if sys.argv[1] == "ignored":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with hold_interrupts() as asked:
            signal.raise_signal(signal.SIGINT)
            raise ValueError("it failed as well")
    except BaseException as error:
        print(type(error).__name__, asked.is_set())
"""


@pytest.mark.parametrize(("state", "expected"), [("usual", "KeyboardInterrupt True"), ("ignored", "ValueError False")])
def test_an_interrupt_counts_though_the_block_fails_and_not_where_it_is_ignored(state, expected):
    assert run_alone(HELD, state) == [expected]


def test_without_an_interrupt_nothing_is_raised():
    with hold_interrupts() as asked:
        pass
    assert not asked.is_set()


IMPORTING = """
    import builtins, signal, sys, threading
    from lfm_deploy.interrupts import let_imports_finish

    def wait_for_timers():
        for thread in threading.enumerate():
            if thread is not threading.main_thread():
                thread.join()

    builtins.wait_for_timers = wait_for_timers
    if sys.argv[2] == "ignored":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    let_imports_finish()
    sys.path.insert(0, sys.argv[1])
    try:
        import interrupted
        print("imported:", interrupted.whole)
        wait_for_timers()
        print("nothing came")
    except KeyboardInterrupt:
        print("raised, whole:", hasattr(sys.modules.get("interrupted"), "whole"))
"""


@pytest.mark.parametrize(
    ("state", "expected"),
    [("usual", ["raised, whole: True"]), ("ignored", ["imported: True", "nothing came"])],
)
def test_an_interrupt_waits_until_modules_are_imported(tmp_path, state, expected):
    """The module sends the signal in the midst of its own import, and goes on until it has come once more."""
    (tmp_path / "interrupted.py").write_text(
        "import signal\nsignal.raise_signal(signal.SIGINT)\nwait_for_timers()\nwhole = True\n"
    )
    printed = run_alone(IMPORTING, str(tmp_path), state)
    assert printed[-len(expected) :] == expected
    assert "raised, whole: False" not in printed
