import functools
import itertools

import numpy as np
import onnx
import pytest

from engines.ort import count_kernels, open_session
from export.names import LAST_OUTPUT, quantisable_tensors
from export.precision import Int8Config, make_int8_graph, prepare_int8
from export.unfolding import can_unfold, spread_windows, unfold_first_layer
from lfm_deploy.errors import BuildError
from lfm_deploy.pictures.photographs import sample_tiles
from lfm_deploy.quantisation import Recipe

LAYERS = ("conv1", "conv2", "conv3", "projection")
# An odd number of blocks and an odd map in front of pooling, as at 256, and a size where both are even.
SIDES = (64, 70)


@functools.cache
def prepare(small_graphs, config, size):
    ranges = dict.fromkeys(quantisable_tensors(config), (0.0, 20.0)) | {LAST_OUTPUT: (-5.0, 5.0)}
    base = small_graphs(size=size)
    return prepare_int8(base, Int8Config(recipe=Recipe.CPU, ranges=ranges))


def quantise(small_graphs, config, size, layers=LAYERS):
    return make_int8_graph(prepare(small_graphs, config, size), layers)


def logits(model, images):
    session = open_session(model.SerializeToString(), "a graph", exact_integers=True)
    return session.run(["logit"], {"image": images})[0]


@pytest.mark.parametrize("side", SIDES)
def test_not_one_logit_changes(small_graphs, small_config, side):
    plain = quantise(small_graphs, small_config, side)
    tiles = sample_tiles(side, side, 5)
    noise = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), dtype=np.uint8)
    images = np.concatenate([tiles, noise])
    expected = logits(plain, images)
    assert expected.std() > 0.1  # the pictures are told apart
    assert np.array_equal(logits(unfold_first_layer(plain), images), expected)


@pytest.mark.parametrize(
    "layers", [("conv1", *rest) for size in range(4) for rest in itertools.combinations(LAYERS[1:], size)]
)
def test_whatever_layers_follow_in_int8(small_graphs, small_config, layers):
    plain = quantise(small_graphs, small_config, 64, layers)
    assert can_unfold(plain)
    images = sample_tiles(64, 64, 3)
    # Layers in floating point may be run with other kernels, so the last bits may differ there; seen 3e-7.
    assert logits(unfold_first_layer(plain), images) == pytest.approx(logits(plain, images), abs=1e-5)


def test_one_wrong_window_would_be_seen(small_graphs, small_config):
    plain = quantise(small_graphs, small_config, 64)
    model = unfold_first_layer(plain)
    (weight,) = [tensor for tensor in model.graph.initializer if tensor.name == "conv1.weight_quantized"]
    codes = onnx.numpy_helper.to_array(weight)
    quarter = len(codes) // 4
    swapped = np.concatenate([codes[quarter : 2 * quarter], codes[:quarter], codes[2 * quarter :]])
    weight.CopyFrom(onnx.numpy_helper.from_array(swapped, weight.name))
    images = sample_tiles(64, 64, 3)
    # The largest of four windows does not ask for their order, but a window without its own zero is another one.
    assert np.array_equal(logits(model, images), logits(plain, images))
    weight.CopyFrom(onnx.numpy_helper.from_array(np.roll(codes, 3, axis=1), weight.name))
    assert not np.allclose(logits(model, images), logits(plain, images), atol=1e-3)


def test_integer_kernels_from_the_first_convolution_on_and_no_gathering(small_graphs, small_config):
    plain = quantise(small_graphs, small_config, 64)
    model = unfold_first_layer(plain)
    before, after = count_kernels(plain), count_kernels(model)
    for kernel in ("QLinearConv", "NhwcMaxPool", "Conv", "FusedConv", "MaxPool", "Transpose"):
        assert after[kernel] == before[kernel], kernel
    assert after["QLinearConv"] == len(LAYERS)
    assert "Resize" not in after
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    assert onnx.helper.get_node_attr_value(first, "kernel_shape") == [1, 1]


def test_windows_read_what_they_read_before():
    weight = np.arange(1, 2 * 12 + 1, dtype=np.int8).reshape(2, 3, 2, 2)
    spread = spread_windows(weight).reshape(4, 2, 16)
    # The window that starts at a block's first pixel sees a zero and the block's own three.
    assert spread[0, 1, :9].tolist() == [*weight[1, :, 0, 1], *weight[1, :, 1, 0], *weight[1, :, 1, 1]]
    assert not spread[0, 1, 9:].any()
    # The one that starts at its last pixel: that one, the neighbours' and, diagonally, a zero.
    assert spread[3, 1, 6:9].tolist() == weight[1, :, 0, 0].tolist()
    assert spread[3, 1, 10:13].tolist() == weight[1, :, 0, 1].tolist()
    assert spread[3, 1, 13:].tolist() == weight[1, :, 1, 0].tolist()
    assert not spread[3, 1, [*range(6), 9]].any()


def test_graphs_that_cannot_be_unfolded(small_graphs, small_config):
    assert not can_unfold(quantise(small_graphs, small_config, 64, ("conv2", "conv3")))
    assert not can_unfold(quantise(small_graphs, small_config, "native"))
    with pytest.raises(BuildError, match="behind conv1 stand"):
        unfold_first_layer(small_graphs(size=64))
