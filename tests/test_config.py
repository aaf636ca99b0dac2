import contextlib
import math

import pytest
import torch
from torch import nn

from lfm_deploy.config import (
    LFM,
    NAMED,
    NPR,
    Backbone,
    ModelConfig,
    Pooling,
    Residual,
    ValueOrder,
    check_explainable,
    check_quantisable,
    complete_config,
)
from lfm_deploy.errors import ConfigError
from lfm_deploy.network.model import SNet
from lfm_deploy.storage.values import Reader

READER = Reader(where="x", remedy="", error=ConfigError)


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


def test_multiply_adds_of_npr_are_those_of_its_convolutions():
    """By hand: a bottleneck of stride 1 inside a layer, and the first of the second layer."""
    counts = NPR.multiply_adds(256, 256)
    assert tuple(counts) == NPR.layers
    assert counts["conv1"] == 128 * 128 * 64 * 3 * 9
    inner = [counts[f"layer1.1.conv{index}"] for index in (1, 2, 3)]
    assert inner == [64 * 64 * 256 * 64, 64 * 64 * 64 * 64 * 9, 64 * 64 * 64 * 256]
    first = [counts[f"layer2.0.{name}"] for name in ("conv1", "conv2", "conv3", "downsample")]
    assert first == [64 * 64 * 256 * 128, 32 * 32 * 128 * 128 * 9, 32 * 32 * 128 * 512, 32 * 32 * 256 * 512]
    assert sum(counts.values()) == 2_242_904_064


def test_the_published_baseline():
    assert NPR.map_size(256, 256) == (32, 32)
    assert (NPR.stride, NPR.features, NPR.positions, NPR.min_square) == (8, 512, 1, 2)


def test_snet_of_other_depths_keeps_three_poolings():
    # Depth 7 with k = 16: with a pooling in every stage but the last, 224 pixels would leave 2 x 2 positions.
    deep = ModelConfig(widths=(64, 128, 256, 512, 512, 512, 512))
    assert deep.map_size(224, 224) == (23, 23)
    assert ModelConfig(widths=(64, 128, 256, 512, 512, 512, 512), pools=6).map_size(224, 224) == (1, 1)


def test_a_pooling_of_one_value_needs_one_position():
    config = ModelConfig(pooling=Pooling.AVERAGE)
    assert (config.positions, config.features) == (1, 64)
    assert config.map_size(config.min_square, config.min_square) == (1, 1)


def test_layers_that_resnet_has_lost_take_their_widths_along():
    assert ModelConfig(backbone=Backbone.RESNET50) == ModelConfig(backbone=Backbone.RESNET50, widths=(64, 128))
    with pytest.raises(ConfigError, match="2 layers"):
        ModelConfig(backbone=Backbone.RESNET50, widths=(64,))


@pytest.mark.parametrize(
    "config", [*NAMED.values(), ModelConfig(widths=(4, 8), projection=2, k=3, order=ValueOrder.ASCENDING)]
)
def test_as_dict_is_plain_and_reads_back(config):
    values = config.as_dict()
    assert {type(value) for value in values.values()} <= {str, int, list}
    assert READER.convert(values, ModelConfig) == config


@pytest.mark.parametrize("depth", [1, 4, 5])
def test_a_config_of_before_there_were_other_architectures_means_what_it_did(depth):
    old = {"widths": [4] * depth, "projection": 2, "k": 3, "order": "descending"}
    read = READER.convert(complete_config(old), ModelConfig)
    assert (read.backbone, read.residual, read.pooling) == (Backbone.SNET, Residual.ABSOLUTE, Pooling.TOPK)
    # Every stage but the last was pooled.
    assert len([window for window in read.windows if window.name.endswith(".pool")]) == depth - 1


@pytest.mark.parametrize(
    ("config", "explainable", "quantisable"),
    [
        (LFM, True, True),
        (ModelConfig(widths=(64, 128, 256, 512, 512)), True, True),
        (ModelConfig(residual=Residual.SIGNED), True, False),
        (ModelConfig(projection=0), True, False),
        (ModelConfig(pooling=Pooling.MAX), False, False),
        (ModelConfig(backbone=Backbone.RESNET50), False, False),
        (NPR, False, False),
    ],
)
def test_what_evidence_and_int8_are_made_for(config, explainable, quantisable):
    for check, holds, remedy in (
        (check_explainable, explainable, "leave --evidence out"),
        (check_quantisable, quantisable, "build --fp16"),
    ):
        with contextlib.nullcontext() if holds else pytest.raises(ConfigError, match=remedy):
            check(config, "x.onnx")


def test_refusals():
    config = ModelConfig(widths=(4, 8), projection=2, k=3, order=ValueOrder.ASCENDING)
    for change, complaint in (
        ({"padding": 1}, "unknown key 'padding'"),
        ({"order": "sideways"}, "order is 'sideways', expected descending or ascending"),
        ({"k": 16.5}, "k is 16.5, expected a whole number"),
        ({"widths": []}, "expected a list of length >= 1"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            READER.convert(config.as_dict() | change, ModelConfig)
    for values in (None, [], {"widths": [4]}, {"widths": 4, "k": 1}):
        with pytest.raises(ConfigError):
            READER.convert(complete_config(values), ModelConfig)
    with pytest.raises(ConfigError, match="positive"):
        ModelConfig(k=0)


@pytest.mark.parametrize(
    "values",
    [{"widths": (2**40,)}, {"widths": (4,) * 17}, {"k": 2**40}, {"projection": 2**40}, {"widths": (8192,) * 4}],
)
def test_no_network_is_too_large_to_be_one(values):
    with pytest.raises(ConfigError, match="a network has up to"):
        ModelConfig(**values)


def test_the_smallest_square_of_the_largest_network_is_found_at_once():
    config = ModelConfig(widths=(4,) * 16, pools=15, k=1 << 14)
    side = config.min_square
    assert math.prod(config.map_size(side, side)) >= config.k > math.prod(config.map_size(side - 2, side - 2))
