import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lfm_deploy.checkpoint import read_checkpoint
from lfm_deploy.config import ModelConfig, ValueOrder
from lfm_deploy.errors import ShapeError
from lfm_deploy.model import LFM, TopKPooling, neighbouring_pixel_relationships, normalise
from lfm_deploy.photographs import sample_tiles


@pytest.mark.parametrize("prefix", ["", "native_"])
def test_golden_logits_and_tkp_vectors(official_checkpoint, golden, prefix):
    model = read_checkpoint(official_checkpoint).build_model()
    with torch.inference_mode():
        pixels = normalise(torch.from_numpy(golden[f"{prefix}images"]))
        logits, vectors = model(pixels).numpy(), model.features(pixels).numpy()
    # The acceptance: logits reach 46, and sums in another order move them by about 2e-5.
    np.testing.assert_allclose(logits, golden[f"{prefix}logits"], rtol=0, atol=1e-3)
    # Relative to the largest value of each vector: single values pass through 0, where a ratio says nothing.
    expected = golden[f"{prefix}tkp"]
    error = np.abs(vectors - expected).max(axis=1) / np.abs(expected).max(axis=1)
    assert error.max() <= 1e-4


def test_an_independent_forward_pass_agrees(official_checkpoint):
    """The published computation in plain functions, NPR as the one-hot convolutions of its state dict."""
    state = torch.load(official_checkpoint, map_location="cpu", weights_only=True)
    tiles = torch.from_numpy(sample_tiles(96, 128, 4))
    x = tiles.permute(0, 3, 1, 2).float() / 255
    x = (x - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    small = F.conv2d(x, state["downsample_conv.weight"], stride=2)
    x = (x - F.conv_transpose2d(small, state["upsample_conv.weight"], stride=2)).abs()
    for index in range(1, 5):
        part = f"cnn.layer{index}"
        x = F.conv2d(x, state[f"{part}.0.weight"], state[f"{part}.0.bias"])
        statistics = (state[f"{part}.1.running_mean"], state[f"{part}.1.running_var"])
        x = F.relu(F.batch_norm(x, *statistics, state[f"{part}.1.weight"], state[f"{part}.1.bias"]))
        if index < 4:
            x = F.max_pool2d(x, 2)
    x = F.conv2d(x, state["covn1_1.weight"]).flatten(2).sort(dim=2, descending=True).values[..., :16].flatten(1)
    expected = F.linear(x, state["fc1.weight"], state["fc1.bias"])[:, 0]
    with torch.inference_mode():
        found = read_checkpoint(official_checkpoint).build_model()(normalise(tiles))
    # The same float32 operations; logits reach 50 and one rounding of that is 4e-6.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_npr_by_hand():
    x = torch.tensor([[[[5.0, 7.0, 1.0, 1.0], [2.0, 5.0, 1.0, 9.0]]]])
    assert neighbouring_pixel_relationships(x).tolist() == [[[[0, 2, 0, 0], [3, 0, 0, 8]]]]


@pytest.mark.parametrize("order", list(ValueOrder))
def test_pooling_takes_the_largest_values_in_the_configured_order(order):
    maps = torch.tensor([[[[3.0, 9.0], [1.0, 5.0]], [[0.0, -1.0], [-2.0, -3.0]]]])
    expected = {ValueOrder.DESCENDING: [9, 5, 3, 0, -1, -2], ValueOrder.ASCENDING: [3, 5, 9, -2, -1, 0]}
    assert TopKPooling(3, order)(maps).tolist() == [expected[order]]
    values, positions = TopKPooling(3, order).select(maps)
    assert torch.equal(maps.flatten(2).gather(2, positions), values)


def test_parameters_of_the_published_network():
    # The design: 725,641 with the 72 fixed ones of the one-hot kernels, which are not parameters here.
    assert sum(parameter.numel() for parameter in LFM().parameters()) == 725_641 - 72


@pytest.mark.parametrize(("size", "complaint"), [((49, 48), "odd side"), ((46, 46), "use 48x48")])
def test_sizes_that_the_network_is_not_defined_for(size, complaint):
    with pytest.raises(ShapeError, match=complaint):
        LFM(ModelConfig()).eval()(torch.zeros(1, 3, *size))
