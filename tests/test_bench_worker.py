import numpy as np
import pytest

from engines.engine import PhasedEngine, PhaseTimes
from lfm_deploy.benchmark import bench_worker
from lfm_deploy.benchmark.bench_worker import describe_engine, open_job, time_runs
from lfm_deploy.errors import ArtifactError


class Detector:
    """An engine that says more of itself than an engine must."""

    name, runtime, precision, device, batch_range = "detector fp16", "detector", "fp16", "cuda:0", (1, 4)

    def describe(self):
        return "2 streams of 4 threads"

    def time_phases(self, images):
        return PhaseTimes(host_to_device_ms=len(images), compute_ms=2, device_to_host_ms=3, enqueue_ms=4)


class Plain:
    name, runtime, precision, device, batch_range = "plain", "plain", "fp32", "cpu", (1, 4)


def test_runs_are_timed_after_a_warm_up():
    runs = []
    times = time_runs(lambda: runs.append(1), seconds=1e-9, runs=7, warm_up=2)
    assert len(times) >= 7
    assert len(runs) == len(times) + 2
    assert all(time >= 0 for time in times)


def test_an_engine_may_describe_itself_further():
    assert describe_engine(Detector())["details"] == "2 streams of 4 threads"
    assert describe_engine(Plain())["details"] is None
    assert describe_engine(Plain())["batch_range"] == [1, 4]


@pytest.mark.parametrize(("device", "name"), [("cpu", "cpu"), ("cuda", "cuda:0"), ("cuda:1", "cuda:1")])
def test_the_first_gpu_has_one_name(device, name):
    engine = Plain()
    engine.device = device
    assert describe_engine(engine)["device"] == name


def test_phases_are_asked_of_engines_that_know_them():
    images = np.zeros((4, 8, 8, 3), np.uint8)
    assert isinstance(Detector(), PhasedEngine)
    phases = bench_worker._time_phases(Detector(), images)
    assert phases[0] == [4, 2, 3, 4]
    assert len(phases) == bench_worker._PHASED_RUNS
    assert bench_worker._time_phases(Plain(), images) == []
    # More than one run can take would be timed in parts, and the parts are not the batch.
    assert bench_worker._time_phases(Detector(), np.zeros((5, 8, 8, 3), np.uint8)) == []


@pytest.fixture
def opening(small_graph, pictures, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    paths = [str(broken), *(str(path) for path in sorted(pictures.rglob("*.png"))[:3])]
    return {
        "path": str(small_graph), "device": "cpu", "threads": 1, "spin": False,
        "side": 256, "size": 256, "batch": 2, "paths": paths,
    }  # fmt: skip


def test_an_engine_alone(opening):
    about, measure = open_job(opening | {"job": "engine"})
    assert (about["name"], about["device"], about["load_seconds"] > 0) == ("onnxruntime fp32", "cpu", True)
    answer = measure({"batch": 3, "seconds": 0.001, "runs": 2})
    assert len(answer["times"]) >= 2
    assert answer["phases"] == []
    assert answer["peak_memory_mib"] > 0
    assert answer["gpu_memory_mib"] is answer["gpu_clocks"] is None


def test_files_are_read_in_a_circle_and_bad_ones_do_not_count(opening):
    _, measure = open_job(opening | {"job": "files"})
    answer = measure({"what": "files", "start": 2, "pictures": 9})
    # Files 2 3 | 0 1 2 3 | 0 1 2, of which 0 is broken.
    assert answer["pictures"] == 7
    assert answer["seconds"] > 0
    assert len(measure({"what": "engine", "seconds": 0.001, "runs": 2})["times"]) >= 2
    _, decode = open_job(opening | {"job": "decoding"})
    assert decode({"start": 2, "pictures": 9})["pictures"] == 7


def test_what_cannot_be_opened_says_why(opening, tmp_path):
    with pytest.raises(ArtifactError, match=r"none\.onnx: no such file"):
        open_job(opening | {"job": "engine", "path": str(tmp_path / "none.onnx")})
