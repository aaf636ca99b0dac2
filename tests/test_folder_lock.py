import errno
import fcntl
import os
import subprocess
import sys

import pytest

from lfm_deploy.errors import InputError, WriteError
from lfm_deploy.storage.folder_lock import lock_folder

HOLD = """
import sys
from pathlib import Path
from lfm_deploy.storage.folder_lock import lock_folder
with lock_folder(Path(sys.argv[1]), print):
    print("locked", flush=True)
    sys.stdin.read()
"""


class RefusedError(Exception):
    pass


def refuse(owner):
    raise RefusedError(owner)


def test_a_second_writer_that_does_not_wait_is_told_who_holds_the_folder(tmp_path):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], **pipes, text=True) as owner:
        assert owner.stdout.readline() == "locked\n"
        with pytest.raises(RefusedError, match=str(owner.pid)), lock_folder(tmp_path, refuse):
            pass
        owner.stdin.close()
    with lock_folder(tmp_path, refuse):
        assert (tmp_path / ".lock").read_text() == str(os.getpid())


@pytest.mark.parametrize("place", ["file", "file/deeper"])
def test_what_is_no_folder(tmp_path, place):
    (tmp_path / "file").touch()
    with (
        pytest.raises(WriteError, match=r"cannot be written: .*; choose another folder"),
        lock_folder(tmp_path / place, refuse),
    ):
        pass


@pytest.mark.parametrize("error", [RefusedError, KeyboardInterrupt])
def test_an_error_leaves_nothing_that_was_made_for_the_lock(tmp_path, error):
    with pytest.raises(error), lock_folder(tmp_path / "new" / "deploy", refuse):
        raise error
    assert list(tmp_path.iterdir()) == []


def test_an_error_leaves_what_was_there_and_what_was_written(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(RefusedError), lock_folder(tmp_path / "empty" / "deploy", refuse):
        raise RefusedError
    assert list((tmp_path / "empty").iterdir()) == []
    graph = tmp_path / "new" / "deploy" / "graph"
    with pytest.raises(FileExistsError), lock_folder(graph.parent, refuse):
        graph.touch(), graph.touch(exist_ok=False)
    assert list(graph.parent.iterdir()) == [graph]


def test_what_is_held_by_another_process_stays_locked(tmp_path):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "new"], **pipes, text=True) as owner:
        assert owner.stdout.readline() == "locked\n"
        for _ in range(2):
            with pytest.raises(RefusedError), lock_folder(tmp_path / "new", refuse):
                pass
        owner.stdin.close()


def test_the_file_of_somebody_else_in_its_place_is_left(tmp_path):
    with lock_folder(tmp_path, refuse):
        (tmp_path / ".lock").unlink()
        (tmp_path / ".lock").write_text("1")
    assert (tmp_path / ".lock").read_text() == "1"


FAIL_OFTEN = """
import os, sys
from contextlib import suppress
from pathlib import Path
from lfm_deploy.storage.folder_lock import lock_folder
folder = Path(sys.argv[1])
for _ in range(300):
    with suppress(ZeroDivisionError), lock_folder(folder, lambda owner: None):
        mine = os.open(folder / "alone", os.O_CREAT | os.O_EXCL)
        os.close(mine)
        (folder / "alone").unlink()
        1 / 0
"""


def test_of_many_that_come_and_fail_one_at_a_time_is_in_the_folder(tmp_path):
    program = [sys.executable, "-c", FAIL_OFTEN, tmp_path / "new" / "deploy"]
    running = [subprocess.Popen(program, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [(process.communicate()[1], process.returncode) for process in running] == [("", 0)] * 4
    # Empty folders may stay: who made them went while another one was there.
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_folder_that_goes_while_it_is_locked_is_made_again(tmp_path, monkeypatch):
    create, gone = os.open, []

    def remove_before(path, flags, mode):
        if not gone:
            path.parent.rmdir()
            gone.append(path)
        return create(path, flags, mode)

    monkeypatch.setattr(os, "open", remove_before)
    with lock_folder(tmp_path / "deploy", refuse):
        assert gone == [tmp_path / "deploy" / ".lock"]
        assert gone[0].is_file()


def test_a_file_system_without_locks_is_left_as_it_was(tmp_path, monkeypatch):
    def fail(_handle, _operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(InputError, match="No locks available"), lock_folder(tmp_path / "new", refuse):
        pass
    assert list(tmp_path.iterdir()) == []
