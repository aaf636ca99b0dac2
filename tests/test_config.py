import pytest
import torch
from torch import nn

from lfm_deploy.config import ModelConfig, ValueOrder
from lfm_deploy.errors import ConfigError
from lfm_deploy.model import SNet


def test_the_default_is_the_published_network():
    config = ModelConfig()
    assert config.map_size(256, 256) == (30, 30)
    assert config.map_size(224, 224) == (26, 26)
    # The design: 48x48 is the smallest square with 16 positions.
    assert config.min_square == 48


@pytest.mark.parametrize("config", [ModelConfig(), ModelConfig(widths=(4, 4)), ModelConfig(widths=(4, 8, 8), k=4)])
@pytest.mark.parametrize("size", [(48, 48), (64, 50), (130, 256)])
def test_map_size_is_what_the_convolutions_give(config, size):
    with torch.inference_mode():
        maps = SNet(config).eval()(torch.zeros(1, 3, *size))
    assert maps.shape[2:] == config.map_size(*size)


@pytest.mark.parametrize("config", [ModelConfig(), ModelConfig(widths=(4, 4)), ModelConfig(widths=(4,))])
def test_receptive_field_and_stride_are_what_a_pixel_reaches(config):
    """Which inputs move one position of the feature map, by the gradient through max poolings made into averages."""
    layers = []
    for stage in range(config.depth):
        layers.append(nn.Conv2d(1, 1, 2, bias=False))
        layers[-1].weight.data.fill_(1)
        if stage < config.depth - 1:
            layers.append(nn.AvgPool2d(2))
    image = torch.zeros(1, 1, 96, 96, requires_grad=True)
    maps = nn.Sequential(*layers)(image)
    row, column = 2, 1
    maps[0, 0, row, column].backward()
    touched = image.grad[0, 0].nonzero()
    assert touched.min(0).values.tolist() == [row * config.stride, column * config.stride]
    assert (touched.max(0).values - touched.min(0).values + 1).tolist() == [config.receptive_field] * 2


def test_multiply_adds_are_those_of_the_convolutions():
    # The paper says 1.61 G at 256 pixels for everything; the convolutions alone, by hand:
    counts = ModelConfig().multiply_adds(256, 256)
    assert counts == {
        "conv1": 255 * 255 * 64 * 3 * 4,
        "conv2": 126 * 126 * 128 * 64 * 4,
        "conv3": 62 * 62 * 256 * 128 * 4,
        "conv4": 30 * 30 * 512 * 256 * 4,
        "projection": 30 * 30 * 64 * 512,
    }
    assert tuple(counts) == ModelConfig().layers
    assert sum(counts.values()) == 1_575_355_136


def test_round_trip_and_refusals():
    config = ModelConfig(widths=(4, 8), projection=2, k=3, order=ValueOrder.ASCENDING)
    assert ModelConfig.from_dict(config.as_dict()) == config
    with pytest.raises(ConfigError, match="keys"):
        ModelConfig.from_dict({"widths": [4]})
    with pytest.raises(ConfigError, match="bad values"):
        ModelConfig.from_dict(config.as_dict() | {"order": "sideways"})
    with pytest.raises(ConfigError, match="positive"):
        ModelConfig(k=0)
