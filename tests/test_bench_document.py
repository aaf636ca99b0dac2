import json

import numpy as np
import onnx
import pytest

from lfm_deploy.artifacts import Precision
from lfm_deploy.benchmark.benchmark import Benchmark, BenchSettings
from lfm_deploy.benchmark.ceilings import Ceiling
from lfm_deploy.benchmark.file_rates import FileFigures
from lfm_deploy.benchmark.roofline_shares import find_work
from lfm_deploy.benchmark.rounds import Effort
from lfm_deploy.benchmark.sweep import Point, Sweep
from lfm_deploy.deployment.lineup import find_candidates
from lfm_deploy.report.bench_document import bound_of, make_bench_report

ABOUT = {"runtime": "onnxruntime", "device": "cpu", "precision": "fp32", "details": None}


def ceiling(kind, *rounds):
    return Ceiling(kind=kind, library="a BLAS", what="large", rounds=rounds, others={})


def as_found(candidate, sweep, *, files=(), load=None):
    return Benchmark(
        candidates=(candidate,),
        settings=BenchSettings(effort=Effort(seconds=3, rounds=2)),
        threads=2,
        sweep=sweep,
        work=find_work([candidate], sweep),
        files=dict(files),
        pictures=None,
        load=load,
    )


@pytest.fixture
def fp32(deployment):
    (found,) = [one for one in find_candidates(deployment, "cpu") if one.path.name == "lfm.onnx"]
    return found


@pytest.fixture
def sweep(fp32):
    """The FP32 graph with made-up times: 8 pictures in 2 s in the first round, and in 1 s in the second."""
    point = Point(times=[[2.0, 2.0], [1.0, 1.0]], peak_memory_mib=100.0)
    sweep = Sweep(about={fp32.name: ABOUT}, points={(fp32.name, 8): point})
    sweep.ceilings["cpu"] = {"fp32": ceiling("fp32", 1e9, 2e9), "bandwidth": ceiling("bandwidth", 1e12, 1e12)}
    return sweep


def test_shares_are_taken_round_by_round(fp32, sweep, small_config):
    report = make_bench_report(as_found(fp32, sweep))
    (point,) = report["engines"][0]["points"]
    operations = 2 * sum(small_config.multiply_adds(256, 256).values())
    # The machine doubled its speed between the rounds, and the engine its own: the share stayed what it was.
    share = 4 * operations / 1e9
    for key in ("share", "share_lowest", "share_highest"):
        assert point["roofline"][key] == pytest.approx(share)
    assert point["roofline"]["fps"] == pytest.approx(1.5e9 / operations)
    assert (point["fps"], point["runs"]) == (8 * 4 / 6, 4)
    assert not report["quick"]
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_more_than_the_limit_says_that_the_ceiling_was_measured_too_low(fp32, sweep):
    before = make_bench_report(as_found(fp32, sweep))
    assert not before["engines"][0]["points"][0]["roofline"]["ceiling_too_low"]
    assert not any("too low" in note for note in before["notes"])
    sweep.ceilings["cpu"]["fp32"] = ceiling("fp32", 1e6, 1e6)
    report = make_bench_report(as_found(fp32, sweep))
    roofline = report["engines"][0]["points"][0]["roofline"]
    assert roofline["share"] > 1
    assert roofline["ceiling_too_low"]
    (note,) = [note for note in report["notes"] if "measured too low" in note]
    assert f"{fp32.name} at batch 8 ({100 * roofline['share']:.0f} %)" in note


def test_what_goes_through_memory_layer_by_layer_is_no_limit(fp32, sweep):
    # So slow a memory that layer by layer it would hold back what the pixels alone do not.
    sweep.ceilings["cpu"]["bandwidth"] = ceiling("bandwidth", 1e9, 1e9)
    (point,) = make_bench_report(as_found(fp32, sweep))["engines"][0]["points"]
    assert point["roofline"]["bound"] == "compute"
    assert point["roofline"]["layer_by_layer_fps"] == pytest.approx(8 * 1e9 / point["work"]["layer_bytes"])
    # 8 pictures of 256x256x3 bytes, their logits, and the weights as the file holds them.
    weights = sum(np.prod(tensor.dims) for tensor in onnx.load(fp32.path).graph.initializer if tensor.data_type == 1)
    assert point["work"]["least_bytes"] == pytest.approx(8 * (256 * 256 * 3 + 4) + 4 * weights, abs=200)  # shapes, axes


def test_without_a_ceiling_there_is_no_share_but_a_reason(fp32, sweep):
    del sweep.ceilings["cpu"]["bandwidth"]
    (point,) = make_bench_report(as_found(fp32, sweep))["engines"][0]["points"]
    assert (point["roofline"], point["no_roofline"]) == (None, "no ceiling was measured for bandwidth")
    sweep.ceilings.clear()
    (point,) = make_bench_report(as_found(fp32, sweep))["engines"][0]["points"]
    assert point["no_roofline"] == "no ceiling was measured for fp32, bandwidth"


def test_an_engine_whose_graph_is_gone_has_figures_without_a_roofline(own_deployment):
    own_deployment.graph(Precision.FP32).unlink()
    (candidate,) = [one for one in find_candidates(own_deployment, "cpu") if one.path.suffix == ".pth"]
    sweep = Sweep(
        about={candidate.name: ABOUT | {"runtime": "pytorch"}},
        points={(candidate.name, 8): Point(times=[[1.0], [1.0]])},
    )
    report = make_bench_report(as_found(candidate, sweep, load="busy"))
    (point,) = report["engines"][0]["points"]
    assert point["fps"] == 8
    assert point["no_roofline"] == "its work is counted from lfm.onnx, which is not in the workdir"
    assert "busy" in report["notes"]


def test_failures_stand_where_figures_would(fp32, sweep):
    sweep.points[fp32.name, 16] = Point(failure="its process was killed by SIGKILL")
    files = {fp32.name: FileFigures(batch=8, failure="none of the files could be judged")}
    (engine,) = make_bench_report(as_found(fp32, sweep, files=files))["engines"]
    assert [point["not_run"] for point in engine["points"]] == [None, "its process was killed by SIGKILL"]
    assert engine["files"] == {"batch": 8, "not_run": "none of the files could be judged"}
    assert engine["failed"]


@pytest.mark.parametrize(
    ("copy_in", "compute", "copy_out", "enqueue", "bound"),
    [(1, 5, 1, 2, "compute"), (1, 5, 1, 6, "enqueue"), (4, 5, 2, 2, "copy")],
)
def test_phases_say_what_a_gpu_waits_for(copy_in, compute, copy_out, enqueue, bound):
    phases = {
        "host_to_device_ms": copy_in, "compute_ms": compute, "device_to_host_ms": copy_out, "enqueue_ms": enqueue,
    }  # fmt: skip
    assert bound_of(phases) == bound
    assert bound_of(None) is None


def test_phases_are_medians_of_their_runs(fp32, sweep):
    sweep.points[fp32.name, 8].phases = [[1.0, 9.0, 1.0, 2.0], [3.0, 7.0, 1.0, 2.0], [2.0, 8.0, 4.0, 9.0]]
    (point,) = make_bench_report(as_found(fp32, sweep))["engines"][0]["points"]
    assert point["phases"] == {
        "host_to_device_ms": 2.0, "compute_ms": 8.0, "device_to_host_ms": 1.0, "enqueue_ms": 2.0,
    }  # fmt: skip
    assert point["bound_by"] == "compute"
