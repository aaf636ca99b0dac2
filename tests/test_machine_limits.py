"""A full disk, a file system that cannot be written, and little memory, as a machine really has them.

File systems are mounted in a namespace of their own, which needs no privileges where user namespaces are allowed.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from lfm_deploy.pictures.photographs import sample_tiles

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "L": f"{sys.executable} -m lfm_deploy"}
SMALL = 'base = "demo"\ntiles = 2\nepochs = 1\nbatch = 8\ncrop = 64\n[model]\nwidths = [4, 8]\nprojection = 4\n'
COMMANDS = {
    "export": "export lfm.pth --workdir m/w",
    "build": "build --fp16 --target cpu --workdir m/w",
    "verify": "verify --suite suite --no-speed --allow-undecided --workdir m/w",
    "predict": "predict suite --workdir m/w --output m/w/o.csv",
    "evidence": "predict suite --workdir m/w --evidence m/w/drawn",
    "train": "train --recipe small.toml --output m/w/run --workers 0 --device cpu",
}


def run_there(folder, line):
    """A line of bash beside a tmpfs ``m`` of 24 MiB that only it sees; its exit code, stdout and stderr."""
    mount = "mkdir -p m && mount -t tmpfs -o size=24m tmpfs m && cp -r deploy m/w"
    done = subprocess.run(
        ["unshare", "-rm", "bash", "-c", f"{mount} || exit 99; {line}"],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def here(small_workdir, small_checkpoint, tmp_path):
    shutil.copytree(small_workdir.path, tmp_path / "deploy", ignore=shutil.ignore_patterns(".lock"))
    shutil.copy(small_checkpoint, tmp_path / "lfm.pth")
    (tmp_path / "small.toml").write_text(SMALL)
    for index, tile in enumerate(sample_tiles(256, 256, 6)):
        path = tmp_path / "suite" / ("0_real", "1_fake")[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(tile).save(path)
    return tmp_path


def left_behind(text):
    """Names of files that the shell listed, apart from those that any run may leave."""
    return [name for name in text.split() if ".lfm-" in name or name.endswith((".tmp", "-journal"))]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_is_one_line_and_leaves_what_was_there(here, command):
    fill = "head -c 100M /dev/zero > m/fill 2> full"
    end = "code=$?; cmp deploy/lfm.onnx m/w/lfm.onnx && cmp deploy/lfm.pth m/w/lfm.pth && find m -type f; exit $code"
    code, out, err = run_there(here, f"{fill}; $L {COMMANDS[command]} > said; {end}")
    assert code == 1, err
    assert "Traceback" not in err
    last = err.splitlines()[-1]
    assert last.startswith("Error: m/w")
    assert "No space left" in last or "disk" in last
    assert "m/w/lfm.onnx" in out  # cmp found nothing
    assert left_behind(out) == []


@pytest.mark.parametrize("command", ["export", "verify", "predict", "train"])
def test_a_file_system_that_cannot_be_written_is_wrong_usage(here, command):
    code, _, err = run_there(here, f"mount -o remount,ro m; $L {COMMANDS[command]} > said")
    assert code == 2, err
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("Error: m/w")
    assert "Read-only file system" in err.splitlines()[-1]


@pytest.mark.parametrize(("command", "mebibytes"), [("export", 300), ("verify", 500), ("train", 700)])
def test_no_memory_for_pytorch_is_one_line(here, command, mebibytes):
    """As much as Python itself takes; loading PyTorch's libraries ends in an ImportError or in an abort by C++."""
    line = COMMANDS[command].replace("m/w", "deploy")
    done = subprocess.run(
        ["bash", "-c", f"ulimit -v {mebibytes * 1024}; $L {line}"],
        cwd=here,
        env=ENVIRONMENT | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert done.stderr.startswith("Error: not enough memory: the limit on address space is")
    assert "Traceback" not in done.stderr
