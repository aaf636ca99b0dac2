import ctypes
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import write_random_checkpoint
from simulated_cuda import SimulatedRuntime
from test_fused_network import write_graph

from engines.cpu_settings import default_settings
from engines.fused import check_kernels
from engines.loading import load_engine
from engines.memory import DeviceBuffer, Stream
from engines.ort import OrtEngine
from lfm_deploy.config import ModelConfig
from lfm_deploy.errors import ConfigError, ShapeError, UnavailableError
from lfm_deploy.pictures.photographs import sample_tiles

CONFIG = ModelConfig(widths=(16, 32, 16), projection=16, k=4)


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fused")
    checkpoint = write_random_checkpoint(CONFIG, folder / "random.pth", 64)
    return write_graph(checkpoint, folder / "graph.onnx")


def test_without_a_gpu_it_says_so_in_one_line(graph, no_gpu):
    with pytest.raises(
        UnavailableError, match=r"not run: (this PyTorch is for the CPU alone|no CUDA device)"
    ) as caught:
        load_engine(graph, device="cuda", runtime="fused")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3


def test_options_that_do_not_fit_are_refused(graph, small_checkpoint):
    with pytest.raises(ConfigError, match="run on cuda"):
        load_engine(graph, device="cpu", runtime="fused")
    with pytest.raises(ConfigError, match="expected one of onnxruntime, fused"):
        load_engine(graph, runtime="tensorrt")
    with pytest.raises(ConfigError, match=r"and a \.onnx file"):
        load_engine(small_checkpoint, runtime="fused")
    with pytest.raises(ConfigError, match="expected cpu, cuda or cuda:N"):
        check_kernels("cuda:x")


def test_onnx_runtime_can_be_asked_for_by_name(graph):
    assert load_engine(graph, runtime="onnxruntime").runtime == "onnxruntime"


class SimulatedRunner:
    """Stands where ``FusedRunner`` does, on a device made of threads: the job says what is read, when it runs."""

    def __init__(self, graph, cuda):
        self.stream, self._cuda, self._by_cpu = Stream(cuda), cuda, OrtEngine(graph, settings=default_settings(1))
        self.batches = []

    def run(self, job, batch, size):
        self.batches.append(batch)

        def compute():
            address, count, logits_at = (int(value) for value in job.array)
            assert count <= batch
            nbytes = count * size[0] * size[1] * 3
            assert self._cuda.owns("device", address, nbytes)
            pixels = np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(address)).reshape(count, *size, 3)
            logits = self._by_cpu.logits(pixels.copy())
            assert self._cuda.owns("device", logits_at, logits.nbytes)
            ctypes.memmove(logits_at, logits.ctypes.data, logits.nbytes)

        self._cuda.streams[self.stream.handle].put(compute)

    def close(self):
        self.stream.close()


@pytest.fixture
def simulated(graph, monkeypatch):
    """The engine on that device, its kernels on the CPU."""
    import engines.fused
    import engines.fused_runner

    runtime = SimulatedRuntime(copy_seconds=0.001)
    monkeypatch.setattr(engines.fused, "check_kernels", lambda device: 0)
    monkeypatch.setattr(engines.fused, "load_runtime", lambda: runtime)
    monkeypatch.setattr(
        engines.fused_runner, "FusedRunner", lambda weights, device, cuda, same_size: SimulatedRunner(graph, cuda)
    )
    engine = engines.fused.FusedEngine(graph)
    yield SimpleNamespace(engine=engine, runtime=runtime, runner=engine._runner)
    engine.close()
    assert (runtime.failures, runtime.memory, runtime.events, runtime.streams) == ([], {}, {}, {})


@pytest.mark.parametrize("count", [1, 3, 64, 65, 200])
def test_pictures_and_their_jobs_go_through_the_slots_in_order(simulated, graph, count):
    pixels = np.resize(sample_tiles(64, 64, 24), (count, 64, 64, 3))
    pixels[:, 0, 0, 0] = np.arange(count) % 256
    expected = OrtEngine(graph).logits(pixels)
    for _ in range(2):
        # Batches of other sizes may sum in another order.
        np.testing.assert_allclose(simulated.engine.logits(pixels), expected, rtol=0, atol=1e-3)
    assert all(batch & (batch - 1) == 0 for batch in simulated.runner.batches)
    there = DeviceBuffer(simulated.runtime, pixels.nbytes)
    np.ctypeslib.as_array(simulated.runtime.memory[there.address][2])[:] = pixels.reshape(-1)
    shown = {"shape": pixels.shape, "typestr": "|u1", "data": (there.address, False), "version": 3, "stream": None}
    found = simulated.engine.logits(SimpleNamespace(__cuda_array_interface__=shown))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)
    there.close()


def test_phases_are_timed_apart_and_what_does_not_fit_one_run_is_refused(simulated, graph):
    times = simulated.engine.time_phases(sample_tiles(64, 64, 3))
    assert (times.host_to_device_ms, times.device_to_host_ms) == pytest.approx((1, 1))  # by the device's own clock
    assert simulated.runner.batches == [4]
    with pytest.raises(ShapeError, match="257 pictures do not run in one go, expected at most 256"):
        simulated.engine.time_phases(np.zeros((257, 64, 64, 3), np.uint8))


def test_what_is_captured_has_just_run_in_the_same_thread(monkeypatch):
    """cuBLAS and cuDNN keep handles and choices for each thread, and make them where nothing is captured."""
    from engines.cuda_graphs import GraphCache, GraphKey
    from engines.fused_runner import FusedRunner

    done = []
    graph = SimpleNamespace(
        capture_begin=lambda **_: done.append("begin"),
        capture_end=lambda: done.append("end"),
        replay=lambda: done.append("replay"),
    )
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: graph)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    runner = FusedRunner.__new__(FusedRunner)
    runner._measured, runner._job, runner._graphs = True, None, GraphCache(4, lambda _: None)
    runner.network = SimpleNamespace(
        arena=SimpleNamespace(generation=0),
        make_buffers=lambda *_: None,
        forward=lambda *_: done.append("run"),
    )
    key = GraphKey((4, 64, 64, 3), 0, 0)
    runner._run_plainly(key)
    assert (done, runner.graphs) == (["run"], 0)
    runner._run_plainly(key)
    assert (done, runner.graphs) == (["run", "run", "begin", "run", "end"], 1)


@pytest.fixture(scope="module")
def engine(graph):
    """The engine on a real GPU; its tests skip without one."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device that PyTorch can use")
    opened = load_engine(graph, device="cuda", runtime="fused")
    yield opened
    opened.close()


@pytest.mark.parametrize("count", [1, 3, 64, 65, 200, 2])
def test_on_a_gpu_any_number_of_pictures_keeps_its_order(gpu, engine, graph, count):
    pixels = np.resize(sample_tiles(64, 64, 24), (count, 64, 64, 3))
    pixels[:, 0, 0, 0] = np.arange(count) % 256
    expected = OrtEngine(graph).logits(pixels)
    tolerance = 0.02 * (1 + np.abs(expected).max())  # as for the network
    on_card = torch.from_numpy(pixels).cuda()
    for _ in range(3):  # call by call, captured, replayed
        np.testing.assert_allclose(engine.logits(pixels), expected, rtol=0, atol=tolerance)
        np.testing.assert_allclose(engine.logits(on_card), expected, rtol=0, atol=tolerance)


def test_on_a_gpu_sizes_take_turns(gpu, engine, graph):
    for height, width in ((64, 64), (300, 280), (48, 132), (64, 64), (300, 280), (48, 132)):
        pixels = sample_tiles(height, width, 5)
        expected = OrtEngine(graph).logits(pixels)
        tolerance = 0.02 * (1 + np.abs(expected).max())  # as for the network
        np.testing.assert_allclose(engine.logits(pixels), expected, rtol=0, atol=tolerance)


def test_on_a_gpu_phases_are_timed_and_bad_input_is_refused(gpu, engine):
    pixels = sample_tiles(64, 64, 4)
    for _ in range(3):
        engine.logits(pixels)
    phases = engine.time_phases(pixels)
    assert min(phases.host_to_device_ms, phases.compute_ms, phases.device_to_host_ms, phases.enqueue_ms) > 0
    with pytest.raises(ShapeError, match="even sides"):
        engine.logits(np.zeros((1, 49, 48, 3), np.uint8))
    with pytest.raises(ShapeError, match="do not run in one go"):
        engine.time_phases(np.zeros((257, 64, 64, 3), np.uint8))
