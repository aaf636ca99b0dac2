import pytest

from lfm_deploy.artifacts import Precision
from lfm_deploy.benchmark import BenchmarkError, count_threads, measure_speed


def test_figures_hang_together(deployment):
    speeds = measure_speed(deployment.graph(Precision.FP32), [1, 4], seconds=0.1)
    assert [speed.batch for speed in speeds] == [1, 4]
    for speed in speeds:
        # FPS is pictures over the median latency, in other units; float64.
        assert speed.fps * speed.latency_ms == pytest.approx(1000 * speed.batch)
        assert speed.runs >= 5
        assert speed.threads == count_threads()


def test_a_failure_in_the_measuring_process_comes_back(tmp_path):
    with pytest.raises(BenchmarkError, match=r"none\.onnx: no such file"):
        measure_speed(tmp_path / "none.onnx", [1], seconds=0.1)
