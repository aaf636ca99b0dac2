import pytest

from lfm_deploy.artifacts import Precision
from lfm_deploy.benchmark.ceilings import Ceiling
from lfm_deploy.benchmark.roofline_shares import find_work
from lfm_deploy.benchmark.sweep import Point, Sweep
from lfm_deploy.deployment.lineup import find_candidates

ABOUT = {"runtime": "onnxruntime", "device": "cpu", "precision": "fp32", "details": None}


def ceiling(kind, *rounds):
    return Ceiling(kind=kind, library="a BLAS", what="large", rounds=rounds, others={})


def find(workdir, name):
    (found,) = [one for one in find_candidates(workdir, "cpu") if one.path.name == name]
    return found


@pytest.fixture
def graph(deployment):
    return find(deployment, "lfm.onnx")


@pytest.fixture
def sweep(graph):
    """The FP32 graph with made-up times: 8 pictures in 2 s in the first round, and in 1 s in the second."""
    sweep = Sweep(about={graph.name: ABOUT}, points={(graph.name, 8): Point(times=[[2.0, 2.0], [1.0, 1.0]])})
    sweep.ceilings["cpu"] = {"fp32": ceiling("fp32", 1e9, 2e9), "bandwidth": ceiling("bandwidth", 1e12, 1e12)}
    return sweep


def test_shares_are_taken_round_by_round(graph, sweep, small_config):
    point = find_work([graph], sweep)[graph.name].points[8]
    operations = 2 * sum(small_config.multiply_adds(256, 256).values())
    # The machine doubled its speed between the rounds, and the engine its own: the share stayed what it was.
    for share in (point.share.share, point.share.lowest, point.share.highest):
        assert share == pytest.approx(4 * operations / 1e9)
    assert point.share.limit.fps == pytest.approx(1.5e9 / operations)
    assert 2 * point.work.total_multiply_adds == 8 * operations
    assert point.reason is None


def test_a_drift_of_the_engine_alone_shows(graph, sweep):
    sweep.ceilings["cpu"]["fp32"] = ceiling("fp32", 1e9, 1e9)
    share = find_work([graph], sweep)[graph.name].points[8].share
    assert share.highest == pytest.approx(2 * share.lowest)
    assert share.share == pytest.approx(1.5 * share.lowest)


def test_without_a_ceiling_there_is_work_and_a_reason(graph, sweep):
    del sweep.ceilings["cpu"]["bandwidth"]
    point = find_work([graph], sweep)[graph.name].points[8]
    assert (point.share, point.reason) == (None, "no ceiling was measured for bandwidth")
    assert point.work is not None
    sweep.ceilings.clear()
    assert find_work([graph], sweep)[graph.name].points[8].reason == "no ceiling was measured for fp32, bandwidth"


def test_a_checkpoint_is_counted_by_the_graph_beside_it(own_deployment):
    checkpoint = find(own_deployment, "lfm.pth")
    sweep = Sweep(
        about={checkpoint.name: ABOUT | {"runtime": "pytorch"}},
        points={(checkpoint.name, 8): Point(times=[[1.0], [1.0]])},
    )
    assert find_work([checkpoint], sweep)[checkpoint.name].points[8].work is not None
    own_deployment.graph(Precision.FP32).unlink()
    point = find_work([checkpoint], sweep)[checkpoint.name].points[8]
    assert (point.work, point.share) == (None, None)
    assert point.reason == "its work is counted from lfm.onnx, which is not in the workdir"


def test_half_precision_on_a_cpu_is_held_against_float32_kernels(deployment):
    half = find(deployment, "lfm.fp16.onnx")
    sweep = Sweep(about={half.name: ABOUT | {"precision": "fp16"}}, points={(half.name, 2): Point(times=[[1.0]])})
    found = find_work([half], sweep)[half.name]
    assert (found.arithmetic, found.reason) == ("fp32", "float16 graphs run in float32 kernels on a CPU")
    assert found.points[2].work.multiply_adds.keys() == {"fp32"}


def test_what_did_not_run_has_no_work(graph, sweep):
    sweep.points[graph.name, 16] = Point(failure="its process was killed by SIGKILL")
    assert find_work([graph], sweep)[graph.name].points.keys() == {8}
    found = find_work([graph], Sweep(not_run={graph.name: "no such library"}))[graph.name]
    assert (found.arithmetic, found.reason, found.points) == ("fp32", None, {})
