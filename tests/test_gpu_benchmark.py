"""What ``make gpu`` does, as far as that goes without a GPU."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from documentation import ROOT
from waiting import wait_for

from engines.ort import OrtEngine
from lfm_deploy.artifacts import Precision
from lfm_deploy.errors import DeployError
from lfm_deploy.pictures.photographs import sample_tiles

sys.path.insert(0, str(ROOT / "benchmarks"))
import gpu
import gpu_decoding
import gpu_pycuda
import gpu_tests
import gpu_timing
from gpu_steps import Step, run_steps
from gpu_tables import BATCHES, Results, write_markdown


class Clock:
    """Seconds that pass when a step takes them."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def step(self, name, least, takes, ran):
        def run(left):
            ran.append((name, left))
            self.now += takes

        return Step(name, least, run)


def raise_(error):
    raise error


def test_what_matters_comes_first_and_what_finds_no_time_is_named(capsys):
    clock, ran, left_out, written = Clock(), [], {}, []

    def fail(left):
        raise RuntimeError("CUDA error\nmore of it")

    steps = [
        clock.step("a", 5, 30, ran),
        Step("b", 0, fail),
        Step("lacking", 0, lambda _: raise_(DeployError("not installed"))),
        clock.step("c", 100, 1, ran),
        clock.step("d", 20, 60, ran),
        clock.step("e", 1, 1, ran),
    ]
    took = run_steps(steps, 90, left_out, lambda: written.append(dict(left_out)), clock)
    assert ran == [("a", 90), ("d", 60)]
    assert took == {"a": 30, "b": 0, "lacking": 0, "d": 60}
    assert left_out == {
        "b": "not run: RuntimeError: CUDA error",
        "lacking": "not run: DeployError: not installed",
        "c": "not run: it takes 100 s, and 60 of 90 are left",
        "e": "not run: it takes 1 s, and 0 of 90 are left",
    }
    assert len(written) == 4  # after each that ran, whether it failed or not
    told = capsys.readouterr().err
    assert "in fail" in told
    assert "RuntimeError: CUDA error\nmore of it" in told
    assert "DeployError" not in told


def test_the_tests_that_need_a_gpu_are_found_by_what_they_ask_for():
    found = {path.stem for path in gpu_tests.find_tests(ROOT / "tests")}
    assert {"test_fused", "test_trt", "test_ort_cuda", "test_gpu_choice", "test_pytorch", "test_selection"} <= found
    assert not found & {"test_builder", "test_slots", "conftest"}


def test_tests_of_libraries_that_are_missing_are_named(tmp_path):
    (tmp_path / "test_a.py").write_text("import nowhere_to_be_found\ndef test_it(gpu): ...\n")
    (tmp_path / "test_b.py").write_text("import json, helper\nfrom numpy import nan\ndef test_it(kernel_device): ...\n")
    (tmp_path / "helper.py").touch()
    left_out = {}
    found = gpu_tests.split_by_libraries(gpu_tests.find_tests(tmp_path), left_out)
    assert [path.name for path in found] == ["test_b.py"]
    assert left_out == {"tests/test_a.py": "not run: nowhere_to_be_found is not installed"}


def test_only_what_asks_for_a_gpu_is_run_and_a_parameter_of_that_name_does_not():
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "--only-gpu", "-n0", "-p", "no:cacheprovider"]
    files = [ROOT / "tests" / f"test_{name}.py" for name in ("builder", "gpus", "selection")]
    done = subprocess.run([*command, *files], cwd=ROOT, capture_output=True, text=True, check=False)
    names = [line.partition("::")[2].partition("[")[0] for line in done.stdout.splitlines() if "::" in line]
    assert {"test_find_gpu_names_a_real_gpu"} < set(names), done.stderr
    assert not any("engines_are" in name for name in names)


def test_kernels_that_are_interpreted_are_none_that_ran_on_a_gpu(no_gpu):
    command = [sys.executable, "-m", "pytest", "--require-gpu", "-n0", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "tests/test_kernel_pooling.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "--require-gpu: kernels are interpreted" in done.stdout


def test_tests_that_fail_are_named_with_their_reason():
    report = """\
[gw0] [ 10%] PASSED tests/test_a.py::test_one
[gw1] [ 20%] FAILED tests/test_a.py::test_two[no pooling, k of 1]
[gw1] [ 30%] ERROR tests/test_a.py::test_three
[gw1] [ 40%] FAILED tests/test_b.py::test_four
E       ERROR in the compiler
FAILED tests/test_a.py::test_two[no pooling, k of 1] - AssertionError: a - b
ERROR tests/test_a.py::test_three - RuntimeError: CUDA error
"""
    assert gpu_tests.find_failures(report.splitlines()) == {
        "tests/test_a.py::test_two[no pooling, k of 1]": "failed: AssertionError: a - b",
        "tests/test_a.py::test_three": "failed: RuntimeError: CUDA error",
        "tests/test_b.py::test_four": "failed",
    }


def test_the_report_of_the_tests_is_read_whether_they_ended_or_not(tmp_path, monkeypatch):
    said = "FAILED tests/test_a.py::test_one - no\n=== 1 failed, 2 passed in 3.00s ==="
    monkeypatch.setattr(gpu_tests, "run_group", lambda command, report, seconds: report.write_text(said) and 1)
    left_out = {}
    assert gpu_tests.run_tests(tmp_path, 10, left_out) == "1 failed, 2 passed in 3.00s"
    assert left_out["tests/test_a.py::test_one"] == "failed: no"
    monkeypatch.setattr(gpu_tests, "run_group", lambda command, report, seconds: report.touch())
    assert gpu_tests.run_tests(tmp_path, 10, {}) == "error: they took longer than 10 s"


def test_what_tests_started_ends_with_them(tmp_path):
    start = (
        "import subprocess, sys, time; print('begun'); print(subprocess.Popen(['sleep', '600']).pid); time.sleep(600)"
    )
    report = tmp_path / "report.txt"
    assert gpu_tests.run_group([sys.executable, "-c", start], report, 3) is None
    begun, number = report.read_text().split()
    assert begun == "begun"
    wait_for(lambda: is_gone(int(number)))
    assert gpu_tests.run_group([sys.executable, "-c", "raise SystemExit(5)"], report, 60) == 5


def is_gone(number):
    """Whether a process has ended; where nobody has asked for its exit code yet, it is a zombie."""
    try:
        return "State:\tZ" in Path(f"/proc/{number}/status").read_text()
    except FileNotFoundError:
        return True


@pytest.mark.parametrize(
    ("said", "passed"),
    [("9 passed, 1 skipped in 3s", True), ("1 failed, 8 passed", False), ("error: exit code 4", False), ("", False)],
)
def test_the_last_line_of_the_tests_says_how_they_went(said, passed):
    assert gpu_tests.have_passed(said) == passed


def make_results():
    results = Results()
    results.facts = {"card": "A card", "date": "2026-01-01", "best_matmul_tflops": 500.0, "host_to_card_gb_s": 50.0}
    results.golden = {"one": 0.01, "two": 0.2}
    results.on_card = {"one": {1: 1000.0, 256: 50_000.0}, "two": {}}
    results.from_host = {"one": {1: 500.0, 4096: 40_000.0}}
    results.judged = {
        "reference": np.array([1.0, -1.0, 0.5], np.float32),
        "one": np.array([1.5, -1.0, -0.5], np.float32),
    }
    results.left_out = {"pycuda": "not run: not there"}
    return results


def test_speeds_are_told_as_shares_of_the_ceilings_of_the_same_run():
    results = make_results()
    limits = results.limits(multiply_adds=10**9, picture_bytes=500_000)
    assert limits == {"compute": 250_000.0, "host": 100_000.0}
    lines = write_markdown(results, limits, results.verify("reference")).splitlines()
    assert "Limit of this network at 500.0 TFLOP/s: 250,000 pictures a second." in lines
    assert "| one | 0.010 | 1,000 |  |  |  |  | 50,000 |  | 20% |" in lines
    assert "| one | 0.010 | 500 |  |  |  |  |  |  | 40,000 | 40% |" in lines
    assert "| two | 0.200 |  |  |  |  |  |  |  |  |" in lines
    assert "- pycuda: not run: not there" in lines
    tables = [line.count("|") for line in lines if line.startswith("|")]
    assert set(tables) == {len(BATCHES) + 4, len(BATCHES) + 5, 6}


def test_decisions_on_a_folder_are_compared_with_the_reference():
    results = make_results()
    assert results.verify("reference")["one"] == {
        "pictures": 3,
        "flips": 1,
        "mean_error": pytest.approx(0.5),
        "max_error": 1.0,
    }
    assert results.verify("reference")["reference"]["flips"] == 0
    assert results.verify("not run") == {}
    assert "judged" not in json.loads(json.dumps(results.as_dict()))


def test_a_run_that_found_nothing_yet_can_be_written_down():
    assert write_markdown(Results(), Results().limits(1, 1), {}).startswith("# a card")


@pytest.fixture(scope="module")
def golden(small_graph, tmp_path_factory):
    path = tmp_path_factory.mktemp("golden") / "golden.npz"
    images = sample_tiles(256, 256, 3)
    np.savez(path, images=images, logits=OrtEngine(small_graph).logits(images))
    return path


@pytest.fixture
def run(deployment, golden, tmp_path):
    return gpu.Run(deployment.checkpoint, deployment.graph(Precision.FP16), golden, tmp_path / "out", tmp_path)


def test_the_fused_engine_and_the_tests_come_before_other_ways(run, tmp_path):
    names = [step.name for step in run.list_steps(None, None, tests=True, only="")]
    assert names[:6] == [
        "the machine", "ceilings", "fused", "published, eager FP32", "milliseconds a kernel", "tests",
    ]  # fmt: skip
    assert names[-2:] == ["pycuda", "decoding"]
    assert "lfm.fp16.sm86.engine" in names
    of_onnx_runtime = [name for name in names if name.startswith("ONNX Runtime")]
    assert ["CUDA graphs" in name for name in of_onnx_runtime] == [False, True, False, False]
    assert run.results.left_out == {"verification over a folder": "not run: none was named with --pictures"}
    some = [step.name for step in run.list_steps(tmp_path, None, tests=True, only="ONNX")]
    assert [name for name in some if not name.startswith("ONNX")] == [
        "the machine",
        "ceilings",
        "the folder's pictures",
    ]


def test_a_way_is_held_against_golden_pictures_and_a_folder_and_timed(run, pictures, small_graph, monkeypatch):
    """On the CPU in place of a card, with a clock that stands still."""
    from gpu_contenders import REFERENCE, device_engine

    monkeypatch.setattr(torch.Tensor, "cuda", lambda self: self.numpy())
    monkeypatch.setattr(gpu_timing, "time_ms", lambda run: (run(), 2.0)[1])
    monkeypatch.setattr(gpu_timing, "wall_ms", lambda run: 4.0)
    monkeypatch.setattr("gpu_contenders.FEW", (1, 4))
    monkeypatch.setattr(gpu, "FROM_HOST", 8)
    steps = [
        Step("the folder's pictures", 0, partial(run.read_folder, pictures)),
        Step(REFERENCE, 0, partial(run.measure, REFERENCE, lambda: device_engine(OrtEngine(small_graph)))),
        Step("not there", 0, partial(run.measure, "not there", lambda: OrtEngine(Path("nowhere.onnx")))),
    ]
    run_steps(steps, 1e9, run.results.left_out, run.write)
    assert run.results.left_out["not there"].startswith("not run: ")
    values = json.loads((run.out / "gpu.json").read_text())
    assert values["golden"] == {REFERENCE: 0.0}
    assert values["on_card"] == {REFERENCE: {"1": 500.0, "4": 2000.0}}
    assert values["from_host"] == {REFERENCE: {"1": 250.0, "4": 1000.0, "8": 2000.0}}
    assert values["verified"][REFERENCE] == {"pictures": 24, "flips": 0, "mean_error": 0, "max_error": 0}
    assert f"| {REFERENCE} | 24 | 0 | 0 | 0 |" in (run.out / "gpu.md").read_text()


def test_pycuda_is_named_where_it_is_left_out_and_no_build_outlives_the_run(run, monkeypatch):
    monkeypatch.setattr(gpu_pycuda, "find_spec", lambda _: None)
    run.begin_pycuda(None)
    run.try_pycuda(10)
    assert run.results.left_out["pycuda"].startswith("not run: pycuda is not installed; name its source")
    run.building = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    run.stop_building()
    assert run.building.poll() is not None


def test_the_run_is_whole_where_the_fused_engine_ran_and_the_tests_passed(run):
    assert run.is_whole()  # neither was asked for
    run.results.facts["tests"] = "9 passed in 3s"
    assert run.is_whole()
    run.results.left_out["fused"] = "not run: RuntimeError: CUDA error"
    assert not run.is_whole()
    del run.results.left_out["fused"], run.results.facts["tests"]
    run.results.golden["fused"] = 0.06
    assert run.is_whole()
    for wrong in (0.2, float("nan")):
        run.results.golden["fused"] = wrong
        assert not run.is_whole()
    run.results.golden["fused"] = 0.06
    run.results.left_out["tests"] = "not run: it takes 20 s, and 3 of 240 are left"
    assert not run.is_whole()


class Forgetful:
    """A way whose logits are wrong from a call, or a number of pictures, on."""

    batches = ()

    def __init__(self, logits, *, call=99, pictures=99):
        self.right, self.call, self.pictures, self.calls = logits, call, pictures, 0

    def logits(self, images):
        self.calls += 1
        wrong = self.calls >= self.call or len(images) >= self.pictures
        return np.resize(self.right, len(images)) + np.float32(wrong)

    def close(self):
        pass


@pytest.mark.parametrize(
    ("flaw", "within"), [({}, 0), ({"call": 1}, 1), ({"call": 3}, 1), ({"call": 5}, 1), ({"pictures": 8}, 1)]
)
def test_logits_are_held_against_the_golden_ones_also_when_they_are_replayed_and_after_the_speeds(
    run, monkeypatch, flaw, within
):
    monkeypatch.setattr(gpu, "FROM_HOST", 8)
    monkeypatch.setattr(gpu_timing, "wall_ms", lambda run: (run(), 1.0)[1])
    way = Forgetful(run.logits, **flaw)
    with pytest.raises(ValueError, match="max"):  # it has no speed on a card
        run.measure("it", lambda: way, 0)
    assert run.results.golden == {"it": within}


def test_what_python_is_given_reaches_the_run_and_the_trial_of_pycuda(tmp_path, golden, small_graph, monkeypatch):
    """What a GPU machine's Python lacks may lie in a folder of PYTHONPATH."""
    command = ["make", "gpu", "GPU_PYTHON=printenv PYTHONPATH"]
    for given, expected in (({"PYTHONPATH": "/a:/b"}, ".:/a:/b"), ({}, ".")):
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | given
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert expected in done.stdout.splitlines()
    (tmp_path / "pycuda.py").write_text("raise SystemExit('found where it was said to be')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(gpu_pycuda.LeftOutError, match="not run: found where it was said to be"):
        gpu_pycuda.run_trial(None, tmp_path, small_graph, golden, 60)


def test_files_to_verdicts_are_measured_within_the_time_that_is_left(small_graph, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(gpu_decoding, "_DISTINCT", 8)
    monkeypatch.setattr(gpu_decoding, "run_for", lambda judge, paths, threads, seconds: asked.append(seconds) or 7.0)
    found = gpu_decoding.measure_decoding(small_graph, tmp_path, None, "cpu", seconds=25)
    assert sum(asked) == pytest.approx(15 * len(found.rates) / 3)
    assert set(found.flips.values()) == {0}
    assert all(set(rates.values()) == {7.0} for rates in found.rates.values())
    asked.clear()
    gpu_decoding.measure_decoding(small_graph, tmp_path, None, "cpu")
    assert max(asked) == 2.5


def test_bad_input_is_one_line(deployment, golden, tmp_path):
    with pytest.raises(DeployError, match="is fp32, expected fp16; make it with 'lfm-deploy build --fp16'"):
        gpu.Run(deployment.checkpoint, deployment.graph(Precision.FP32), golden, tmp_path, tmp_path)
    np.savez(tmp_path / "other.npz", pixels=np.zeros(1))
    with pytest.raises(DeployError, match="holds pixels, expected images and logits"):
        gpu.Run(deployment.checkpoint, deployment.graph(Precision.FP16), tmp_path / "other.npz", tmp_path, tmp_path)


def call(*arguments):
    command = [sys.executable, ROOT / "benchmarks" / "gpu.py", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_without_a_gpu_it_ends_with_exit_code_3_and_makes_nothing(deployment, golden, tmp_path, no_gpu):
    files = ("--checkpoint", deployment.checkpoint, "--graph", deployment.graph(Precision.FP16), "--golden", golden)
    done = call(*files, "--out", tmp_path / "out")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "not run: no CUDA device that PyTorch can use\n"
    assert not (tmp_path / "out").exists()
    assert call("--golden", golden).returncode == 2


def test_pycuda_is_left_out_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_pycuda, "find_spec", lambda _: None)
    with pytest.raises(gpu_pycuda.LeftOutError, match="name its source with --pycuda"):
        gpu_pycuda.start_build(None, tmp_path)
    monkeypatch.setattr(gpu_pycuda.shutil, "which", lambda _: None)
    with pytest.raises(gpu_pycuda.LeftOutError, match="there is no nvcc to build it with"):
        gpu_pycuda.start_build(tmp_path, tmp_path)
    monkeypatch.setattr(gpu_pycuda, "find_spec", lambda _: object())
    assert gpu_pycuda.start_build(None, tmp_path) is None


def test_a_trial_of_pycuda_that_fails_says_why_in_one_line(tmp_path, golden, small_graph):
    with pytest.raises(gpu_pycuda.LeftOutError, match=r"^not run: .*(pycuda|CUDA)") as caught:
        gpu_pycuda.run_trial(None, tmp_path, small_graph, golden, 60)
    assert "\n" not in str(caught.value)


def test_a_build_that_fails_or_takes_too_long_is_left_out(tmp_path, golden, small_graph):
    (tmp_path / "build.txt").write_text("g++ -c x.cpp\nx.hpp:1:9: fatal error: cuda.h: No such file\nFailed to build\n")
    failing = subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"])
    with pytest.raises(gpu_pycuda.LeftOutError, match=r"was not built: x\.hpp:1:9: fatal error: cuda\.h"):
        gpu_pycuda.run_trial(failing, tmp_path, small_graph, golden, 60)
    endless = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with pytest.raises(gpu_pycuda.LeftOutError, match="takes longer than the 0 s that are left"):
        gpu_pycuda.run_trial(endless, tmp_path, small_graph, golden, 0.1)
    assert endless.wait(60) != 0


def test_curand_of_wheels_is_found_for_the_build_and_for_the_loader(tmp_path, monkeypatch):
    folder = tmp_path / "nvidia" / "cu13"
    for name in ("include/curand.h", "lib/libcurand.so.10"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    nvcc = tmp_path / "nvcc"
    nvcc.write_text("#!/bin/sh\n")
    nvcc.chmod(0o755)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert str(folder / "lib") in gpu_pycuda.find_libraries().split(":")
    environment = gpu_pycuda.make_environment(nvcc, tmp_path)
    assert str(folder / "include") in environment["CPLUS_INCLUDE_PATH"].split(":")
    linked = tmp_path / "libraries" / "libcurand.so"
    assert linked.resolve() == folder / "lib" / "libcurand.so.10"
    assert str(linked.parent) in environment["LIBRARY_PATH"].split(":")


def test_the_toolkit_is_where_nvcc_says_it_is(tmp_path):
    real = tmp_path / "cuda-13.0" / "bin" / "nvcc"
    real.parent.mkdir(parents=True)
    real.write_text(f"#!/bin/sh\necho '#$ TOP={real.parent}/..' >&2\n")
    real.chmod(0o755)
    wrapper = tmp_path / "bin" / "nvcc"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec {real} "$@"\n')
    wrapper.chmod(0o755)
    environment = gpu_pycuda.make_environment(wrapper, tmp_path)
    toolkit = tmp_path / "cuda-13.0"
    assert environment["CUDA_ROOT"] == str(toolkit)
    assert environment["PATH"].split(":")[0] == str(toolkit / "bin")
    assert environment["CPLUS_INCLUDE_PATH"].split(":")[0] == str(toolkit / "include")
