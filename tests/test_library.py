import sys
import types
from types import SimpleNamespace

import pytest

import engines.library
from engines.library import load_library, load_runtime_for
from lfm_deploy.errors import UnavailableError


def test_tensorrt_rtx_is_here_because_engines_are_really_built():
    library = load_library("tensorrt-rtx")
    assert library.is_rtx
    assert library.version.startswith("1.")


def test_a_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(UnavailableError, match=r"tensorrt: not run: it .*lfm-deploy\[gpu\]"):
        load_library.__wrapped__("tensorrt")


def test_a_folder_of_stubs_is_not_taken_for_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", types.ModuleType("tensorrt"))
    with pytest.raises(UnavailableError, match="only its type stubs"):
        load_library.__wrapped__("tensorrt")


def test_an_old_library_is_refused(monkeypatch):
    old = types.ModuleType("tensorrt")
    old.__version__ = "10.11.0.33"
    old.Builder = object
    monkeypatch.setitem(sys.modules, "tensorrt", old)
    with pytest.raises(UnavailableError, match=r"10\.11\.0\.33 is older than 10\.12"):
        load_library.__wrapped__("tensorrt")


def test_a_tensorrt_rtx_without_user_allocation_is_refused(monkeypatch):
    old = types.ModuleType("tensorrt_rtx")
    old.__version__ = "1.1.1.26"
    old.Builder = object
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", old)
    with pytest.raises(UnavailableError, match=r"1\.1\.1\.26 is older than 1\.2"):
        load_library.__wrapped__("tensorrt-rtx")


LEAN = SimpleNamespace(runtime="tensorrt", version_compatible=True)


@pytest.fixture
def installed(monkeypatch):
    """Decides which libraries are there, and which of them is taken."""

    def install(*names):
        def load(name):
            if name not in names:
                raise UnavailableError(f"{name}: not run: it is not installed; run 'pip install lfm-deploy[gpu]'")
            return name

        monkeypatch.setattr(engines.library, "load_library", load)

    return install


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        (("tensorrt", "tensorrt-lean"), "tensorrt"),
        (("tensorrt-dispatch", "tensorrt-lean"), "tensorrt-lean"),
        (("tensorrt-dispatch",), "tensorrt-dispatch"),
    ],
)
def test_a_version_compatible_engine_runs_in_what_is_there(installed, there, taken):
    installed(*there)
    assert load_runtime_for(LEAN) == taken


def test_other_engines_need_the_library_that_built_them(installed):
    installed("tensorrt-lean")
    with pytest.raises(UnavailableError, match=r"^tensorrt: not run: it is not installed; [^,]*$"):
        load_runtime_for(SimpleNamespace(runtime="tensorrt", version_compatible=False))


def test_where_nothing_is_there_both_extras_are_named(installed):
    installed()
    with pytest.raises(UnavailableError, match=r"lfm-deploy\[gpu\]', or .* 'pip install lfm-deploy\[lean\]'"):
        load_runtime_for(LEAN)


def test_a_runtime_alone_is_loaded_without_a_builder(monkeypatch):
    class Logger:
        def __init__(self):
            pass

    lean = types.ModuleType("tensorrt_lean")
    lean.__version__, lean.Runtime, lean.ILogger = "11.4.0.106", object, Logger
    monkeypatch.setitem(sys.modules, "tensorrt_lean", lean)
    library = load_library.__wrapped__("tensorrt-lean")
    assert (library.name, library.is_rtx) == ("tensorrt-lean", False)
