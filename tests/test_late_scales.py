import functools
import itertools

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from export.late_scales import choose_common_scale, delay_scales
from export.names import LAST_OUTPUT, quantisable_tensors
from export.precision import Int8Config, make_int8_graph, prepare_int8
from lfm_deploy.artifacts import Precision
from lfm_deploy.pictures.photographs import sample_tiles
from lfm_deploy.quantisation import Recipe

LAYERS = ("conv1", "conv2", "conv3", "projection")
CHOICES = [part for size in range(1, 5) for part in itertools.combinations(LAYERS, size)]


@functools.cache
def prepare(small_graphs, config):
    ranges = dict.fromkeys(quantisable_tensors(config), (0.0, 20.0)) | {LAST_OUTPUT: (-5.0, 5.0)}
    base = small_graphs(size=64, precision=Precision.FP16)
    return prepare_int8(base, Int8Config(recipe=Recipe.TENSORRT, ranges=ranges))


def logits(model, images):
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["logit"], {"image": images})[0]


@pytest.mark.parametrize("layers", CHOICES)
def test_the_logits_stay(small_graphs, small_config, layers):
    plain = make_int8_graph(prepare(small_graphs, small_config), layers)
    delayed = delay_scales(plain)
    onnx.checker.check_model(delayed, full_check=True)
    images = sample_tiles(64, 64, 8)
    expected = logits(plain, images)
    assert expected.std() > 0.1
    # A rounding to float16 that falls the other way can move a code by one; seen 4e-3 of the largest logit.
    assert logits(delayed, images) == pytest.approx(expected, abs=1e-2 * float(1 + np.abs(expected).max()))


@pytest.mark.parametrize("layers", CHOICES)
def test_weights_have_one_scale_and_nothing_grows_between_them_and_the_pooling(small_graphs, small_config, layers):
    delayed = delay_scales(make_int8_graph(prepare(small_graphs, small_config), layers))
    tensors = {tensor.name: tensor for tensor in delayed.graph.initializer}
    readers = {name: node for node in delayed.graph.node for name in node.input}
    for layer in layers:
        (convolution,) = [node for node in delayed.graph.node if node.name == layer]
        (weight,) = [node for node in delayed.graph.node if convolution.input[1] in node.output]
        assert list(tensors[weight.input[1]].dims) == []
        scale = float(numpy_helper.to_array(tensors[weight.input[1]]))
        assert np.log2(scale) == round(np.log2(scale))
        follower = readers[convolution.output[0]].op_type
        assert follower == ("Mul" if layer == "projection" or layer == "conv3" else "MaxPool")


def test_pooling_comes_before_the_relu_in_front_of_integers(small_graphs, small_config):
    delayed = delay_scales(make_int8_graph(prepare(small_graphs, small_config), ["conv3"]))
    kinds = [node.op_type for node in delayed.graph.node]
    quantised = kinds.index("QuantizeLinear")
    assert kinds[quantised - 2 : quantised] == ["MaxPool", "Relu"]


def test_a_graph_without_integers_stays(small_graphs, small_config):
    base = prepare(small_graphs, small_config).model
    assert delay_scales(base).graph.node == base.graph.node


def test_the_common_scale_leaves_room_for_the_largest_sum():
    scales = np.array([0.01, 0.02])
    assert choose_common_scale(scales, 0.01, 12) == 1 / 32
    wide = choose_common_scale(scales, 1.0, 1024)
    assert 127 * 127 * 1024 * wide <= 65504 < 2 * 127 * 127 * 1024 * wide
