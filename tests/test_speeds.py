import numpy as np
import pytest

from lfm_deploy.artifacts import Precision
from lfm_deploy.benchmark.benchmark import Speed
from lfm_deploy.deployment.lineup import find_candidates
from lfm_deploy.engine_info import read_engine_info
from lfm_deploy.scoring.identities import identify
from lfm_deploy.scoring.score_cache import ScoreCache
from lfm_deploy.verification.speeds import SPEED_BATCHES, compare_with_pytorch, find_memory, find_speeds


def speed(batch, fps, **values):
    return Speed(batch=batch, fps=fps, latency_ms=1e3 * batch / fps, spread=0, runs=5, threads=2, **values)


def test_what_was_measured_is_not_measured_again(small_workdir, tmp_path):
    _, graph = find_candidates(small_workdir, "cpu")
    with ScoreCache(tmp_path / "scores.sqlite", print) as cache:
        first = find_speeds(graph, identify(graph), cache, 0.01)
        assert [one.batch for one in first] == list(SPEED_BATCHES)
        assert all(one.measured_at.startswith("20") and one.fps > 0 for one in first)
        assert find_speeds(graph, identify(graph), cache, 0.01) == first
        memory = find_memory(graph, first)
    assert (memory.kind, memory.what[-11:]) == ("host", "to batch 32")
    # Python with NumPy and ONNX Runtime, and less than the machine has.
    assert 50 < memory.mib < 5000


def test_a_gpu_engines_memory_is_what_its_sidecar_states(deployment):
    engine = next(one for one in find_candidates(deployment, "cpu") if one.path.suffix == ".engine")
    info = read_engine_info(engine.path)
    memory = find_memory(engine, ())
    assert memory.kind == "device"
    assert memory.mib * 2**20 >= info.activation_bytes + info.weights_bytes
    assert "at batch 8" in memory.what


def test_a_gpu_process_is_known_by_its_memory_there(small_workdir):
    pytorch, _ = find_candidates(small_workdir, "cpu")
    assert find_memory(pytorch, [speed(1, 10, memory_mib=500.0, device_memory_mib=300.0)]).kind == "device"
    assert find_memory(pytorch, [speed(1, 10)]) is None


def test_ratios_are_taken_at_the_same_batch():
    reference = [speed(1, 10), speed(32, 20)]
    ratios = [one.times_pytorch for one in compare_with_pytorch([speed(1, 30), speed(8, 30), speed(32, 30)], reference)]
    assert ratios == [pytest.approx(3), None, pytest.approx(1.5)]
    assert [one.times_pytorch for one in compare_with_pytorch(reference, ())] == [None, None]
    assert np.isclose([one.times_pytorch for one in compare_with_pytorch(reference, reference)], 1).all()


def test_precision_is_part_of_what_is_known(small_workdir):
    pytorch, graph = find_candidates(small_workdir, "cpu")
    assert graph.precision == pytorch.precision == Precision.FP32
    assert identify(pytorch) != identify(graph)
