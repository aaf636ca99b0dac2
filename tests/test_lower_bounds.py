"""Lower bounds of dependencies: each has one, and what the tests run with satisfies it. `make lowest` tries them."""

import re
import sys
import tomllib

import pytest
from documentation import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
REQUIREMENTS = [Requirement(line) for lines in (PROJECT["dependencies"], *EXTRAS.values()) for line in lines]
PINS = {
    canonicalize_name(name): version
    for name, version in re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
}
# Not installed by `make setup`: on another index, for `make lean` alone, or to be compiled with CUDA.
ELSEWHERE = {"onnxruntime-gpu", "tensorrt", "tensorrt-lean-cu13", "pycuda"}


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=str)
def test_each_dependency_has_a_lower_bound_that_the_constraints_satisfy(requirement):
    assert [one.operator for one in requirement.specifier] == [">="]
    if requirement.name in ELSEWHERE:
        assert canonicalize_name(requirement.name) not in PINS
    else:
        assert requirement.specifier.contains(PINS[canonicalize_name(requirement.name)])


def test_a_library_of_several_extras_has_one_bound():
    bounds = {}
    for requirement in REQUIREMENTS:
        assert bounds.setdefault(requirement.name, str(requirement.specifier)) == str(requirement.specifier)


def test_the_script_tries_every_extra_that_installs_here():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import lowest

    assert set(lowest._EXTRAS) == set(EXTRAS) - {"gpu", "gpu-decode", "gpu-decode-cu12", "lean", "pycuda"}
    assert {canonicalize_name(name) for name, _ in lowest.read_bounds()} == {
        canonicalize_name(one.name) for one in REQUIREMENTS if one.name not in {*ELSEWHERE, "nvidia-nvimgcodec-cu12"}
    }
