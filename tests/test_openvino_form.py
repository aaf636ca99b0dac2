import numpy as np
import onnx
import torch
from onnx import numpy_helper

from engines.ort import open_session
from export.blocks import spread_windows
from export.openvino_form import spread_over_blocks, write_for_openvino
from export.precision import Int8Config, make_int8_graph, prepare_int8
from export.unfolding import spread_windows as spread_unfolded
from lfm_deploy.artifacts import Precision
from lfm_deploy.pictures.photographs import sample_tiles
from lfm_deploy.quantisation import Recipe

SIDE = 64


def logits(model, images):
    """In float32 kernels, each step as the graph says it."""
    session = open_session(model.SerializeToString(), "a graph", fuse_integers=False)
    return session.run(["logit"], {"image": images})[0]


def kinds(model):
    return [node.op_type for node in model.graph.node]


def test_the_integers_stay_and_steps_go(calibrated):
    model = onnx.load(calibrated.graph(Precision.INT8, Recipe.CPU))
    before = model.SerializeToString()
    written = write_for_openvino(model)
    assert model.SerializeToString() == before
    images = sample_tiles(SIDE, SIDE, 16)
    # The same integers; float32 sums of them in another order round half steps to either side now and then.
    moved = np.abs(logits(written, images) - logits(model, images))
    assert np.median(moved) < 1e-3
    assert moved.max() < 0.05 * np.abs(logits(model, images)).max()
    assert kinds(written)[:4] == ["Cast", "Transpose", "Conv", "Abs"]
    assert kinds(written).count("ConvTranspose") == 1
    assert kinds(written).count("QuantizeLinear") < kinds(model).count("QuantizeLinear")
    widened = {tensor.name for tensor in written.graph.initializer if tensor.data_type == onnx.TensorProto.INT32}
    assert not widened


def test_a_transposed_convolution_writes_the_four_windows_side_by_side():
    weight = np.random.default_rng(0).integers(-127, 128, (5, 3, 2, 2)).astype(np.int8)
    values = torch.randint(0, 256, (1, 16, 4, 6)).float()
    values[:, 15] = 0
    spread = torch.from_numpy(spread_over_blocks(spread_unfolded(weight))).float()
    found = torch.nn.functional.conv_transpose2d(values, spread, stride=2)
    for (down, right), window in zip(np.ndindex(2, 2), spread_windows(weight.astype(np.float32)), strict=True):
        expected = torch.nn.functional.conv2d(values, torch.from_numpy(window))
        assert torch.equal(found[:, :, down::2, right::2], expected)


def test_layers_that_stay_in_float_stay_as_they_are(calibrated):
    reference = onnx.load(calibrated.graph(Precision.FP32))
    ranges = {"conv2.input": (0.0, 40.0), "conv3.input": (0.0, 40.0), "projection.input": (0.0, 40.0)}
    ranges |= {"conv1.input": (0.0, 255.0), "projection.output": (-40.0, 40.0)}
    prepared = prepare_int8(reference, Int8Config(recipe=Recipe.CPU, ranges=ranges))
    for layers in (["conv2"], ["conv2", "conv3"], ["conv1", "conv3"]):
        model = make_int8_graph(prepared, layers)
        written = write_for_openvino(model)
        images = sample_tiles(SIDE, SIDE, 8)
        np.testing.assert_allclose(np.median(np.abs(logits(written, images) - logits(model, images))), 0, atol=1e-3)
        floats = [
            node
            for node in written.graph.node
            if node.op_type == "Conv" and node.input[1] in {tensor.name for tensor in written.graph.initializer}
        ]
        assert len(floats) == kinds(written).count("Conv") - len(layers)


def test_a_bias_is_what_its_integers_stand_for(calibrated):
    model = onnx.load(calibrated.graph(Precision.INT8, Recipe.CPU))
    written = write_for_openvino(model)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in (*model.graph.initializer,)}
    made = {tensor.name: numpy_helper.to_array(tensor) for tensor in written.graph.initializer}
    expected = constants["conv2.bias_quantized"] * constants["conv2.bias_quantized_scale"]
    np.testing.assert_allclose(made["conv2.bias"], expected, rtol=1e-6)
