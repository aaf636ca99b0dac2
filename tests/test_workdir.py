import os
import signal
import subprocess
import sys

import pytest

from lfm_deploy.artifacts import Precision
from lfm_deploy.errors import ArtifactError, WriteError
from lfm_deploy.storage.atomic import sha256_of_file
from lfm_deploy.workdir import Workdir, check_origin

HOLD = """
import sys
from pathlib import Path
from lfm_deploy.workdir import Workdir
with Workdir(Path(sys.argv[1])).lock(print):
    print("locked", flush=True)
    sys.stdin.read()
"""


def hold(program, folder):
    """A process that has the lock, and keeps it until it reads from this one."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", program, folder], **pipes, text=True)


def test_a_lock_ends_with_its_owner_however_that_ends(tmp_path):
    owner = hold(HOLD, tmp_path)
    assert owner.stdout.readline() == "locked\n"
    messages = []

    def waiting(message):
        messages.append(message)
        os.kill(owner.pid, signal.SIGKILL)

    with Workdir(tmp_path).lock(waiting):
        assert f"process {owner.pid}" in messages[0]
    owner.wait()
    owner.stdin.close()
    owner.stdout.close()


HOLD_AND_FINISH = """
import sys
from pathlib import Path
from lfm_deploy.workdir import Workdir
with Workdir(Path(sys.argv[1])).lock(print):
    print("locked", flush=True)
    sys.stdin.readline()
    Path(sys.argv[1], "finished").touch()
"""


def test_the_second_writer_really_waits(tmp_path):
    owner = hold(HOLD_AND_FINISH, tmp_path)
    assert owner.stdout.readline() == "locked\n"
    messages = []

    def waiting(message):
        messages.append(message)
        owner.stdin.write("\n")  # it may go on, while this process waits
        owner.stdin.flush()

    with Workdir(tmp_path).lock(waiting):
        assert (tmp_path / "finished").exists()
    assert len(messages) == 1
    owner.wait()
    owner.stdin.close()
    owner.stdout.close()


def test_what_a_dead_writer_left_is_removed(tmp_path):
    (tmp_path / ".lfm-tmp-x.engine-abc").write_bytes(b"half")
    with Workdir(tmp_path).lock(print):
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_leftovers_in_the_folders_of_a_report_are_removed_as_well(tmp_path):
    workdir = Workdir(tmp_path)
    for folder in (workdir.drawings, workdir.thumbnails):
        folder.mkdir()
        (folder / "kept.svg").touch()
        (folder / ".lfm-tmp-plot.svg-abc").touch()
    with workdir.lock(print):
        assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [".lock", "kept.svg", "kept.svg"]


def test_names(tmp_path):
    workdir = Workdir(tmp_path)
    assert workdir.graph(Precision.FP32).name == "lfm.onnx"
    assert workdir.graph(Precision.FP16).name == "lfm.fp16.onnx"
    for gpu in ("sm120", "sm86"):
        workdir.engine(Precision.FP16, gpu).touch()
    assert [path.name for path in workdir.engines()] == ["lfm.fp16.sm86.engine", "lfm.fp16.sm120.engine"]


def test_a_workdir_that_is_a_file(tmp_path):
    (tmp_path / "deploy").touch()
    with pytest.raises(WriteError, match="cannot be written"), Workdir(tmp_path / "deploy").lock(print):
        pass


def test_an_empty_workdir_names_the_first_command(tmp_path):
    with pytest.raises(ArtifactError, match=r"lfm-deploy export CHECKPOINT\.pth"):
        Workdir(tmp_path).require_checkpoint()


def test_check_origin_names_the_remedy(deployment):
    check_origin(deployment.graph(Precision.FP32), sha256_of_file(deployment.checkpoint), deployment, "x")
    with pytest.raises(ArtifactError, match=r"stale.*run 'lfm-deploy build --fp16'"):
        check_origin(deployment.graph(Precision.FP16), "0" * 64, deployment, "lfm-deploy build --fp16")
