import json
import sys
import textwrap
from dataclasses import replace

import pytest

from lfm_deploy.artifacts import Precision
from lfm_deploy.benchmark import benchmark, sweep
from lfm_deploy.benchmark.benchmark import (
    BenchmarkError,
    BenchSettings,
    choose_batches,
    choose_engines,
    measure_speed,
    run_benchmark,
)
from lfm_deploy.benchmark.rounds import Effort
from lfm_deploy.deployment.lineup import find_candidates
from lfm_deploy.errors import ConfigError, InputError
from lfm_deploy.machine import count_cores


def test_figures_hang_together(deployment):
    speeds = measure_speed(deployment.graph(Precision.FP32), [1, 4], seconds=0.1)
    assert [speed.batch for speed in speeds] == [1, 4]
    for speed in speeds:
        # FPS is pictures over the median latency, in other units; float64.
        assert speed.fps * speed.latency_ms == pytest.approx(1000 * speed.batch)
        assert speed.runs >= 5
        assert speed.threads == count_cores()


def test_a_failure_in_the_measuring_process_comes_back(tmp_path):
    with pytest.raises(BenchmarkError, match=r"none\.onnx: no such file"):
        measure_speed(tmp_path / "none.onnx", [1], seconds=0.1)


def test_a_measuring_process_that_dies_comes_back(tmp_path, monkeypatch):
    worker = tmp_path / "worker.py"
    worker.write_text("import os\nos._exit(7)\n")
    monkeypatch.setattr(benchmark, "COMMAND", (sys.executable, str(worker)))
    with pytest.raises(
        BenchmarkError, match=r"x\.onnx: measuring its speed failed: its process ended with exit code 7"
    ):
        measure_speed(tmp_path / "x.onnx", [1], seconds=0.1)


@pytest.mark.parametrize(
    ("allowed", "place", "asked", "max_batch", "batches"),
    [
        ((1, 65535), "cpu", None, None, (1, 2, 4, 8, 16, 32)),
        ((1, 65535), "cuda", None, None, (1, 2, 4, 8, 16, 32, 64, 128, 256)),
        ((1, 65535), "cpu", None, 6, (1, 2, 4)),
        ((4, 48), "cuda", None, None, (4, 8, 16, 32)),
        ((1, 8), "cuda", None, 256, (1, 2, 4, 8)),
        ((1, 65535), "cpu", (32, 3, 3, 8), None, (3, 8, 32)),
        ((1, 8), "cuda", (3, 16), None, (3,)),
        ((1, 8), "cuda", (16,), None, ()),
    ],
)
def test_batch_sizes(allowed, place, asked, max_batch, batches):
    assert choose_batches(allowed, place, asked, max_batch) == batches


def test_engines_are_chosen_by_name_or_file_in_their_own_order(deployment):
    candidates = find_candidates(deployment, "cpu")
    assert choose_engines(candidates, []) == candidates
    chosen = choose_engines(candidates, [str(deployment.graph(Precision.FP16)), "lfm.onnx", "pytorch fp32", "lfm.onnx"])
    assert [one.name for one in chosen] == ["pytorch fp32", "onnxruntime fp32", "onnxruntime fp16"]
    with pytest.raises(InputError, match=r"'lfm': not in this workdir, which has 'pytorch fp32' \(lfm\.pth\)"):
        choose_engines(candidates, ["lfm"])


def test_batch_sizes_that_nothing_takes_are_refused(deployment):
    plans = [one for one in find_candidates(deployment, "cpu") if one.path.suffix == ".engine"]
    with pytest.raises(ConfigError, match=r"no engine takes such a batch"):
        run_benchmark(plans, BenchSettings(batches=(64,)))  # their profile ends at 8


def test_files_are_read_at_the_fastest_batch_size(deployment, pictures, tmp_path, monkeypatch):
    """With a worker that says how long its runs took: 4 pictures at a time are the fastest."""
    worker = tmp_path / "worker.py"
    worker.write_text(
        textwrap.dedent("""
        from lfm_deploy.benchmark.workers import serve

        def open_job(opening):
            own = {"phases": [], "peak_memory_mib": 1.0, "gpu_memory_mib": None, "gpu_clocks": None}

            def work(request):
                if request.get("what") == "files":
                    return {"pictures": request["pictures"], "seconds": 1.0} | own
                return {"times": [{1: 1.0, 4: 2.0, 8: 5.0}[request.get("batch", 1)]]} | own

            return {"device": "cpu", "runtime": "onnxruntime", "precision": "fp32"}, work

        serve(open_job)
    """)
    )
    monkeypatch.setattr(sweep, "list_libraries", lambda device: [])  # ceilings are not what this is about
    original = benchmark._contend
    command = (sys.executable, str(worker))
    monkeypatch.setattr(benchmark, "_contend", lambda *given: replace(original(*given), command=command))
    one = [one for one in find_candidates(deployment, "cpu") if one.path.name == "lfm.onnx"]
    settings = BenchSettings(effort=Effort(seconds=0.01, rounds=2), threads=1, batches=(1, 4, 8), pictures=pictures)
    found = run_benchmark(one, settings)
    figures = found.files["onnxruntime fp32"]
    assert (figures.batch, figures.failure) == (4, None)
    assert found.pictures == f"24 files of {pictures}"
    assert json.dumps(found.sweep.about)


def test_a_checkpoint_is_measured_in_the_precision_that_is_asked_for(small_checkpoint):
    with pytest.raises(BenchmarkError, match="precision is 'fp8'"):
        measure_speed(small_checkpoint, [1], seconds=0.01, form={"precision": "fp8"})
    (speed,) = measure_speed(small_checkpoint, [1], seconds=0.01, form={"precision": "fp16"})
    assert speed.fps > 0
