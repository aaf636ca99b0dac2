import numpy as np
import pytest
import torch
from conftest import write_random_checkpoint

from engines.fused_graph import read_weights
from export.graph import ExportConfig, make_graph
from lfm_deploy.artifacts import Precision
from lfm_deploy.config import ModelConfig, ValueOrder
from lfm_deploy.network.checkpoint import read_checkpoint
from lfm_deploy.pictures.photographs import sample_tiles
from lfm_deploy.storage.graph_file import seal_graph

# Each with the size of pictures that is quick to interpret.
CONFIGS = {
    "as published": (ModelConfig(widths=(16, 32, 16, 32), projection=16, k=4), (36, 40)),
    "no projection, k of 1": (ModelConfig(widths=(16, 16, 48), projection=0, k=1), (20, 24)),
    "no pooling, ascending": (
        ModelConfig(widths=(16, 16), projection=16, k=16, pools=0, order=ValueOrder.ASCENDING),
        (12, 14),
    ),
    "one convolution, k of 64": (ModelConfig(widths=(16,), projection=16, k=64), (10, 12)),
}


def write_graph(checkpoint, path, size="native"):
    model = make_graph(read_checkpoint(checkpoint), ExportConfig(size=size, precision=Precision.FP16))
    path.write_bytes(seal_graph(model))
    return path


def judge(weights, pixels, device, *, plain=False, batch=None):
    """Logits by the fused network, in a batch that may be larger than the pictures."""
    from engines.fused_network import CUDNN, FusedNetwork
    from engines.kernels.job import make_job

    network = FusedNetwork(weights, device)
    images = torch.from_numpy(np.ascontiguousarray(pixels)).to(device)
    logits = torch.full((len(pixels),), float("nan"), device=device)
    ways = [CUDNN] * len(network.stages) if plain else None
    buffers = network.make_buffers(batch or len(pixels), *pixels.shape[1:3], ways)
    network.forward(make_job(images, logits), buffers)
    return logits.cpu().numpy()


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_are_those_of_the_same_graph_in_onnx_runtime(kernel_device, tmp_path, name):
    from engines.ort import OrtEngine

    config, (height, width) = CONFIGS[name]
    checkpoint = write_random_checkpoint(config, tmp_path / "random.pth", 64)
    path = write_graph(checkpoint, tmp_path / "graph.onnx")
    inner_pools = min(config.pools, config.depth - 1) > 1
    pixels = sample_tiles(height, width, 3 if inner_pools else 1)
    expected = OrtEngine(path).logits(pixels)
    weights = read_weights(path)
    for options in ({}, {"plain": True}, {"batch": 4})[: 3 if inner_pools else 1]:
        found = judge(weights, pixels, kernel_device, **options)
        # Both round each map to float16, ONNX Runtime's also before the bias; random heads have weights of size 20.
        np.testing.assert_allclose(found, expected, rtol=0, atol=0.02 * (1 + np.abs(expected).max()))


def test_golden_pictures_come_within_a_tenth_of_the_authors_logits(
    kernel_device, official_checkpoint, golden, tmp_path
):
    weights = read_weights(write_graph(official_checkpoint, tmp_path / "graph.onnx"))
    found = judge(weights, golden["native_images"], kernel_device)
    # The acceptance; logits reach 46, and the FP16 graph moves them by up to 0.06.
    np.testing.assert_allclose(found, golden["native_logits"], rtol=0, atol=0.1)
    if kernel_device == "cpu":
        return  # a picture of 256x256 takes half a minute there
    for options in ({}, {"plain": True}):
        found = judge(weights, golden["images"], kernel_device, **options)
        np.testing.assert_allclose(found, golden["logits"], rtol=0, atol=0.1)
