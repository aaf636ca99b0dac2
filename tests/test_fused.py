import numpy as np
import pytest
import torch
from conftest import write_random_checkpoint
from test_fused_network import write_graph

from engines.fused import check_kernels
from engines.loading import load_engine
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
