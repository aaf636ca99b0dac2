import importlib
import sys

import numpy as np
import pytest

pytest.importorskip("numba", reason="the extra 'amx' is not installed")

from numba import config
from numba.core.errors import TypingError

from engines.amx.compilation import compile_and_keep

SOURCE = """
def add_one(values):
    values[0] += 1
"""


@pytest.fixture
def function(tmp_path, monkeypatch):
    """A function of a file, whose code is kept in a folder of this test."""
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "kept"))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "one_function.py").write_text(SOURCE)
    monkeypatch.delitem(sys.modules, "one_function", raising=False)
    yield importlib.import_module("one_function").add_one
    del sys.modules["one_function"]


def run(function):
    values = np.zeros(1)
    compile_and_keep(function)(values)
    return values[0]


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
@pytest.mark.parametrize("size", [0, 40])
def test_a_damaged_file_is_written_anew(function, tmp_path, ending, size):
    assert run(function) == 1
    (path,) = (tmp_path / "kept").rglob(f"*.{ending}")
    whole = path.read_bytes()
    path.write_bytes(whole[:size])
    assert run(function) == 1
    assert len(path.read_bytes()) >= len(whole) - 64


def test_it_runs_where_nothing_can_be_kept(function, tmp_path):
    assert run(function) == 1
    (folder,) = {path.parent for path in (tmp_path / "kept").rglob("*.nb?")}
    compiled = compile_and_keep(function)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.write_text("a file where the folder was")
    values = np.zeros(1)
    compiled(values)
    assert values[0] == 1


def test_a_fault_of_the_function_itself_is_raised(function):
    with pytest.raises(TypingError, match="unicode_type"):
        compile_and_keep(function)("string")
