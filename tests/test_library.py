import sys
import types

import pytest

from engines.library import load_library
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
