import itertools

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from engines.ort import count_kernels
from export.names import LAST_OUTPUT, find_convolutions, quantisable_tensors
from export.precision import Int8Config, make_int8_graph, prepare_int8
from lfm_deploy.artifacts import Precision
from lfm_deploy.errors import BuildError
from lfm_deploy.quantisation import Recipe

LAYERS = ("conv1", "conv2", "conv3", "projection")


@pytest.fixture(scope="module")
def bases(small_graphs):
    return {
        Recipe.TENSORRT: small_graphs(size=64, precision=Precision.FP16),
        Recipe.CPU: small_graphs(size=64),
    }


def config_of(recipe, small_config):
    ranges = dict.fromkeys(quantisable_tensors(small_config), (0.0, 20.0)) | {LAST_OUTPUT: (-5.0, 5.0)}
    return Int8Config(recipe=recipe, ranges=ranges)


def make(bases, small_config, recipe, layers=LAYERS):
    return make_int8_graph(prepare_int8(bases[recipe], config_of(recipe, small_config)), layers)


def values(model, name):
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == name]
    return numpy_helper.to_array(tensor)


def producers(model):
    return {name: node for node in model.graph.node for name in node.output}


@pytest.mark.parametrize("recipe", list(Recipe))
def test_the_first_scale_is_exactly_one_grey_level(bases, small_config, recipe):
    model = make(bases, small_config, recipe)
    scale = values(model, "conv1.input_scale")
    assert scale == 1
    assert scale.dtype == (np.float16 if recipe is Recipe.TENSORRT else np.float32)
    assert values(model, "conv1.input_zero_point") == 0


@pytest.mark.parametrize(
    ("recipe", "activations"), [(Recipe.TENSORRT, onnx.TensorProto.INT8), (Recipe.CPU, onnx.TensorProto.UINT8)]
)
def test_integers_are_the_recipes(bases, small_config, recipe, activations):
    model = make(bases, small_config, recipe)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for convolution in find_convolutions(model):
        restored = [producers(model)[name] for name in convolution.input[:2]]
        assert [node.op_type for node in restored] == ["DequantizeLinear"] * 2
        assert tensors[restored[0].input[2]].data_type == activations
        codes, scales = (tensors[name] for name in restored[1].input[:2])
        assert codes.data_type == onnx.TensorProto.INT8
        assert list(scales.dims) == [codes.dims[0]]  # one for each output channel


def test_tensorrt_gets_q_dq_in_front_of_convolutions_alone(bases, small_config):
    model = make(bases, small_config, Recipe.TENSORRT, ("conv1", "conv3"))
    made_by, readers = producers(model), {name: node for node in model.graph.node for name in node.input}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear":
            assert readers[node.output[0]].op_type == "Conv"
    for convolution in find_convolutions(model):
        kinds = {made_by[name].op_type for name in convolution.input if name in made_by}
        assert ("DequantizeLinear" in kinds) is (convolution.name in ("conv1", "conv3"))
    assert model.opset_import[0].version >= 19  # float16 scales
    assert not any(tensor.data_type == onnx.TensorProto.INT32 for tensor in model.graph.initializer)  # no biases
    # Symmetric scales of float16, whose zero points are 0.
    for tensor in model.graph.initializer:
        if tensor.name.endswith("_scale"):
            assert tensor.data_type == onnx.TensorProto.FLOAT16
        if tensor.name.endswith("_zero_point"):
            assert not numpy_helper.to_array(tensor).any()


def test_the_cpu_runs_integers_from_the_first_convolution_to_the_projection(bases, small_config):
    kernels = count_kernels(make(bases, small_config, Recipe.CPU))
    assert kernels["QLinearConv"] == 4
    assert kernels["NhwcMaxPool"] == 2
    assert kernels["Conv"] == kernels["FusedConv"] == kernels["MaxPool"] == kernels["Relu"] == 0


@pytest.mark.parametrize("recipe", list(Recipe))
def test_exactly_the_asked_layers_are_quantised(bases, small_config, recipe):
    prepared = prepare_int8(bases[recipe], config_of(recipe, small_config))
    for size in range(1, 5):
        for layers in itertools.combinations(LAYERS, size):
            model = make_int8_graph(prepared, layers)
            made_by = producers(model)
            quantised = [
                node.name for node in find_convolutions(model) if made_by.get(node.input[1]) is not None
            ]  # what is not quantised reads its weight from an initializer
            assert tuple(quantised) == layers


def test_a_graph_that_is_not_what_was_asked_for_is_refused(bases, small_config):
    with pytest.raises(BuildError, match=r"INT8 layers are \['conv1'\], asked for \['conv1', 'conv9'\]"):
        make(bases, small_config, Recipe.CPU, ("conv1", "conv9"))


@pytest.mark.parametrize("recipe", list(Recipe))
def test_the_base_is_left_as_it_is_and_the_same_input_gives_the_same_bytes(bases, small_config, recipe):
    before = bases[recipe].SerializeToString(deterministic=True)
    first, second = (make(bases, small_config, recipe).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second
    assert bases[recipe].SerializeToString(deterministic=True) == before
