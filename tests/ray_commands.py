"""Processes of tests under a real Ray on this machine: the command, and the files that it writes."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
LONGEST_S = 300
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: the extra 'ray'")


def start(arguments, log, place, **options):
    """Start Python on arguments, with Ctrl-C as on a terminal, in a group of processes of its own."""
    environment = dict(os.environ) | {
        "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}",
        "HOME": str(place / "home"),
    }
    environment |= options.pop("variables", {})
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env=environment,
            cwd=place,
            stderr=file,
            start_new_session=True,
            **options,
        )


def predict(place, *arguments, **options):
    """The command in a process of its own; it, and the file of what it says."""
    log = place / "stderr.txt"
    return start(["-m", "lfm_deploy", "predict", "--format", "csv", *arguments], log, place, **options), log


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.part")}
