"""Packages that tests use and that cannot be installed beside the project, each in a folder that pytest keeps."""

import fcntl
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]


def install_apart(cache: pytest.Cache, requirement: str) -> Path:
    """A folder for PYTHONPATH that holds a package with all that it needs; skips where it can't be had."""
    return _kept(cache, requirement, lambda folder: [*PIP, "install", "--target", str(folder), requirement])


def unpack_apart(cache: pytest.Cache, requirement: str) -> Path:
    """A folder with what a package's wheel holds, and nothing that it needs; skips where it can't be had."""
    return _kept(cache, requirement, lambda folder: [*PIP, "download", "--no-deps", "--dest", str(folder), requirement])


def _kept(cache: pytest.Cache, requirement: str, command: Callable[[Path], list[str]]) -> Path:
    root = cache.mkdir("apart")
    name = requirement.replace("[", "-").replace("]", "")
    folder, whole = root / name, root / f"{name}.whole"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes share the folder
        if not whole.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            found = subprocess.run(command(folder), capture_output=True, text=True, check=False)
            if found.returncode:
                pytest.skip(f"{requirement} can't be had: {found.stderr.strip().splitlines()[-1:]}")
            for wheel in folder.glob("*.whl"):
                with zipfile.ZipFile(wheel) as archive:
                    archive.extractall(folder)
                wheel.unlink()
            whole.touch()
    return folder
