import os
import subprocess
import sys

import pytest

from lfm_deploy.errors import WriteError
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
