import os
import signal
import subprocess
import sys
import textwrap

import pytest
from waiting import wait_for

from lfm_deploy.benchmark.workers import Worker, WorkerDiedError, WorkerError
from lfm_deploy.errors import UnavailableError

JOB = """
    import os, signal, sys
    from lfm_deploy.errors import OtherGpuError, UnavailableError
    from lfm_deploy.benchmark.workers import serve

    def open_job(opening):
        print("libraries print what they like")
        if opening["as"] == "absent":
            raise UnavailableError("no such device")
        if opening["as"] == "other":
            raise OtherGpuError("for another GPU")
        if opening["as"] == "broken":
            raise ValueError("a tensor is odd\\nand more")

        def work(request):
            if "exit" in request:
                sys.stderr.write("first line\\nthe last line\\n")
                sys.stderr.flush()
                os._exit(request["exit"])
            if "signal" in request:
                os.kill(os.getpid(), request["signal"])
            if "raise" in request:
                raise MemoryError(request["raise"])
            return {"echo": request, "variable": os.environ.get("WORKER_TEST")}

        return {"pid": os.getpid()}, work

    serve(open_job)
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "job.py"
    path.write_text(textwrap.dedent(JOB))
    return path


@pytest.fixture
def start(script):
    workers = []

    def start(kind="sound", **options):
        workers.append(Worker([sys.executable, str(script)], {"as": kind}, **options))
        return workers[-1]

    yield start
    for worker in workers:
        worker.close(at_once=True)


def ended(pid):
    """Whether a process is gone; a zombie is not, since somebody has yet to wait for it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_it_opens_and_answers_whatever_libraries_print(start):
    worker = start(environment={"WORKER_TEST": "7"})
    assert worker.open() == {"pid": worker.pid}
    assert worker.open() == {"pid": worker.pid}
    for number in (1, 2):
        assert worker.ask({"n": number, "text": "ä\n"}) == {"echo": {"n": number, "text": "ä\n"}, "variable": "7"}


def test_what_cannot_run_here_is_told_apart_from_what_failed(start):
    for kind, reason in (("absent", "no such device"), ("other", "for another GPU")):
        with pytest.raises(UnavailableError, match=reason):
            start(kind).open()
    with pytest.raises(WorkerError, match=r"ValueError: a tensor is odd$"):
        start("broken").open()


def test_a_failed_request_leaves_the_worker_alive(start):
    worker = start()
    worker.open()
    with pytest.raises(WorkerError, match="MemoryError: batch 64") as caught:
        worker.ask({"raise": "batch 64"})
    assert not isinstance(caught.value, WorkerDiedError)
    assert worker.ask({})["echo"] == {}


def test_a_worker_that_exits_says_how_and_its_last_words(start):
    worker = start()
    worker.open()
    with pytest.raises(WorkerDiedError, match=r"exit code 3: the last line$"):
        worker.ask({"exit": 3})
    with pytest.raises(WorkerDiedError, match="exit code 3"):
        worker.ask({})  # its pipe is broken now


@pytest.mark.parametrize(
    ("number", "text"), [(signal.SIGKILL, "SIGKILL .*memory runs out"), (signal.SIGSEGV, "SIGSEGV")]
)
def test_a_worker_that_is_killed_says_by_what(start, number, text):
    worker = start()
    worker.open()
    with pytest.raises(WorkerDiedError, match=text):
        worker.ask({"signal": number})


@pytest.mark.parametrize(("at_once", "code"), [(False, 0), (True, -signal.SIGKILL)])
def test_closing_ends_it(start, at_once, code):
    worker = start()
    worker.open()
    worker.close(at_once=at_once)
    assert ended(worker.pid)
    assert worker._process.returncode == code


def test_an_error_inside_the_block_ends_it(start):
    def interrupt():
        raise KeyboardInterrupt

    worker = start()
    worker.open()
    with pytest.raises(KeyboardInterrupt), worker:
        interrupt()
    assert ended(worker.pid)


def test_a_worker_does_not_outlive_a_parent_that_is_killed(script, tmp_path):
    parent = tmp_path / "parent.py"
    parent.write_text(
        "import signal, sys\nfrom lfm_deploy.benchmark.workers import Worker\n"
        f"worker = Worker([sys.executable, {str(script)!r}], {{'as': 'sound'}})\n"
        "print(worker.open()['pid'], flush=True)\nsignal.pause()\n"
    )
    process = subprocess.Popen([sys.executable, str(parent)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()
    wait_for(lambda: gone(worker))


def gone(pid):
    """Whether a process that is not a child of this one does not run any more."""
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
