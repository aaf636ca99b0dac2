"""Every name of TensorRT that ``engines/`` uses is there, in the libraries themselves, with the signature that we use.

The runtime's half is held against the lean runtimes, which ``make lean`` fetches (135 MB); the builder's half against
the installed tensorrt-rtx and the published stubs of tensorrt. Which names are used is read from the source.
"""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from tensorrt_uses import Follower, Uses, find_uses, read_stubs

ROOT = Path(__file__).resolve().parents[1]
STUBS = ROOT / ".stubs" / "tensorrt_bindings" / "tensorrt.pyi"
LEAN = ROOT / ".lean"
VERSIONS = ("10.16.1.11", "11.0.0.114", "11.4.0.106")
RUNTIME = ("runner", "library")
# The only names of the runtime's half that tensorrt lacks; the runner asks for them after ``is_rtx``.
OF_RTX_ALONE = {
    ("IExecutionContext", "is_stream_capturable"),
    ("IRuntimeConfig", "create_runtime_cache"),
    ("IRuntimeConfig", "set_runtime_cache"),
    ("IRuntimeConfig", "dynamic_shapes_kernel_specialization_strategy"),
    ("module", "DynamicShapesKernelSpecializationStrategy"),
    ("DynamicShapesKernelSpecializationStrategy", "EAGER"),
    ("module", "ComputeCapability"),
    ("ComputeCapability", "__members__"),
    ("IBuilderConfig", "num_compute_capabilities"),
    ("IBuilderConfig", "set_compute_capability"),
    ("BuilderFlag", "REQUIRE_USER_ALLOCATION"),
}
# And those of the builder's half that tensorrt-rtx lacks, asked for where the library is tensorrt.
OF_TENSORRT_ALONE = {
    ("IBuilderConfig", "create_timing_cache"),
    ("IBuilderConfig", "get_timing_cache"),
    ("IBuilderConfig", "set_timing_cache"),
    ("ITimingCache", "serialize"),
}


@pytest.fixture(scope="module")
def uses():
    if not STUBS.is_file():
        pytest.skip("the published stubs of tensorrt are missing: run 'make setup'")
    return find_uses(sorted((ROOT / "engines").glob("*.py")), STUBS)


def check(module, uses, overridden, path=None):
    """What the library says of uses, in a process of its own."""
    asked = {"module": module, "uses": [asdict(use) for use in uses], "overridden": sorted(overridden)}
    environment = os.environ | ({} if path is None else {"PYTHONPATH": str(path)})
    command = [sys.executable, str(Path(__file__).with_name("tensorrt_check.py"))]
    finished = subprocess.run(
        command, input=json.dumps(asked), capture_output=True, text=True, check=False, env=environment
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def test_the_uses_are_found(uses):
    assert uses.lost == []
    owners = {(use.file, use.owner, use.name) for use in uses.found}
    assert {
        ("runner", "IExecutionContext", "execute_async_v3"),
        ("runner", "Runtime", "engine_host_code_allowed"),
        ("plans", "ParserError", "node_operator"),
        ("plans", "MemoryPoolType", "WORKSPACE"),
        ("targets", "module", "ComputeCapability"),
    } <= owners
    assert ("ILogger", "log", 3) in uses.overridden


def test_a_use_whose_class_cannot_be_told_is_not_passed_over():
    source = "def run(context):\n    context.execute_async_v3(1)\n"
    import ast

    returns = read_stubs(STUBS) if STUBS.is_file() else pytest.skip("the published stubs are missing")
    uses = Uses()
    Follower("new", returns, {owner for owner, _ in returns}, uses).follow(ast.parse(source))
    assert uses.lost == ["new:2: whose execute_async_v3 is that? Annotate it with trt.…"]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_runtimes_half_fits_the_real_runtime(uses, version, request):
    folder = LEAN / version
    if not (folder / "tensorrt_lean_bindings").is_dir():
        why = f"TensorRT's lean runtime {version} is not in .lean: run 'make lean', which fetches 135 MB"
        if request.config.getoption("--require-lean"):
            pytest.fail(f"--require-lean: {why}")
        pytest.skip(why)
    wanted = [use for use in uses.found if use.file in RUNTIME and (use.owner, use.name) not in OF_RTX_ALONE]
    overridden = [override for override in uses.overridden if override[0] == "ILogger"]
    found = check("tensorrt_lean_bindings", wanted, overridden, folder)
    assert found == {"version": version, "problems": []}
    assert len(wanted) > 10


@pytest.mark.parametrize("files", [RUNTIME, ("plans", "targets", "build_progress", "library")])
def test_everything_fits_the_installed_tensorrt_rtx(uses, files):
    wanted = [use for use in uses.found if use.file in files and (use.owner, use.name) not in OF_TENSORRT_ALONE]
    found = check("tensorrt_rtx", wanted, uses.overridden)
    assert found["problems"] == []
    assert len(wanted) > 10


def test_the_builders_half_fits_the_published_stubs(uses):
    known = {owner for owner, _ in read_stubs(STUBS)}
    names = set(read_stubs(STUBS))
    missing = {
        (use.owner, use.name)
        for use in uses.found
        if use.file in ("plans", "build_progress")
        and (use.name if use.owner == "module" else use.owner) in known | {use.owner} - {"module"}
        and (use.owner not in known or (use.owner, use.name) not in names)
        and use.owner != "module"
    }
    missing |= {
        (use.owner, use.name)
        for use in uses.found
        if use.owner == "module" and use.file in ("plans", "build_progress") and use.name not in known
    }
    assert missing - OF_RTX_ALONE == set()


def test_what_a_library_lacks_is_noticed(uses):
    spoilt = [use for use in uses.found if (use.owner, use.name) == ("IBuilderConfig", "set_flag")]
    spoilt += [type(use)(use.owner, "set_flog", 1, file="x") for use in spoilt]
    spoilt += [type(use)(use.owner, "set_flag", 3, file="x") for use in spoilt[:1]]
    spoilt += [type(use)("BuilderFlag", "FP16", file="x") for use in spoilt[:1]]
    problems = check("tensorrt_rtx", spoilt, {("ILogger", "log", 4)})["problems"]
    assert [problem.split(":")[0] for problem in problems] == ["x", "x", "x", "ILogger.log"]
