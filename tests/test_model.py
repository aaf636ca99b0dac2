import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lfm_deploy.config import NPR, Backbone, ModelConfig, Pooling, Residual
from lfm_deploy.errors import ShapeError
from lfm_deploy.network.checkpoint import read_checkpoint
from lfm_deploy.network.model import LFM, normalise
from lfm_deploy.pictures.photographs import sample_tiles


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


def test_golden_logits_of_npr(shared, golden):
    model = read_checkpoint(shared / "official" / "npr_random.pth").build_model()
    with torch.inference_mode():
        logits = model(normalise(torch.from_numpy(golden["images"]))).numpy()
    # The acceptance; 5e-7 was seen.
    np.testing.assert_allclose(logits, np.load(shared / "official" / "npr_random_logits.npy"), rtol=0, atol=1e-5)


def count_parameters(config):
    return sum(parameter.numel() for parameter in LFM(config).parameters())


def test_parameters_of_the_published_networks():
    # The design: 725,641 with the 72 fixed ones of the one-hot kernels, which are not parameters here.
    assert count_parameters(ModelConfig()) == 725_641 - 72
    assert round(count_parameters(NPR) / 1e6, 2) == 1.44  # the paper


@pytest.mark.parametrize(
    ("config", "channels"),
    [
        (ModelConfig(widths=(4, 4), projection=6, k=4), 6),
        (ModelConfig(widths=(4, 4, 8), projection=0, k=4, residual=Residual.SIGNED), 8),
        (ModelConfig(widths=(4, 4, 8), projection=16, pooling=Pooling.ATTENTION), 16),
        (ModelConfig(widths=(4,) * 8, projection=2, pooling=Pooling.MAX), 2),
        (ModelConfig(widths=(2, 3), projection=0, backbone=Backbone.RESNET50, pooling=Pooling.AVERAGE), 12),
        (ModelConfig(widths=(2, 3), projection=5, backbone=Backbone.RESNET50, k=3), 5),
    ],
    ids=lambda value: value.title if isinstance(value, ModelConfig) else "",
)
def test_every_architecture_has_the_shapes_that_its_config_says(config, channels):
    model, x = LFM(config).eval(), torch.rand(2, 3, 64, 58)
    with torch.inference_mode():
        maps = model.maps(x)
        assert maps.shape == (2, channels, *config.map_size(64, 58))
        assert model.backbone(model.residual(x)).shape[1] == config.maps
        assert config.channels == channels
        assert model.pool(maps).shape == (2, config.features)
        assert torch.equal(model.fc(model.pool(maps))[:, 0], model(x))
    assert model.backbone is getattr(model, config.backbone)


def test_the_pooling_in_front_of_the_relu_changes_no_bit(official_checkpoint):
    model = read_checkpoint(official_checkpoint).build_model()
    tiles = normalise(torch.from_numpy(sample_tiles(64, 64, 4)))
    with torch.inference_mode():
        x = model.residual(tiles)
        found = model.snet(x)
        for stage in model.snet:
            convolution, norm, *rest = stage
            x = F.relu(norm(convolution(x)))
            x = F.max_pool2d(x, 2) if len(rest) == 2 else x
    assert torch.equal(found, x)


@pytest.mark.parametrize(("size", "complaint"), [((49, 48), "odd side"), ((46, 46), "use 48x48")])
def test_sizes_that_the_network_is_not_defined_for(size, complaint):
    with pytest.raises(ShapeError, match=complaint):
        LFM(ModelConfig()).eval()(torch.zeros(1, 3, *size))


def test_npr_takes_even_sides_too():
    with pytest.raises(ShapeError, match="odd side"):
        LFM(NPR).eval()(torch.zeros(1, 3, 33, 32))
