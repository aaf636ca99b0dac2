import numpy as np
import onnx
import pytest

from export.names import find_convolutions
from export.summed_stage import can_sum, sum_first_stage
from lfm_deploy.artifacts import InputForm, Precision
from lfm_deploy.pictures.photographs import sample_tiles


def graph(small_graphs, **choices):
    return small_graphs(**({"size": 64} | choices))


def logits(model, images):
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["logit"], {"image": images})[0]


@pytest.mark.parametrize("side", [48, 64, 70])  # odd and even maps in front of the pooling
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
def test_the_logits_stay(small_graphs, side, precision):
    plain = graph(small_graphs, size=side, precision=precision)
    noise = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), dtype=np.uint8)
    extreme = np.zeros((2, side, side, 3), np.uint8)
    extreme[0, ::2], extreme[1, :, 1::2] = 255, 255
    images = np.concatenate([sample_tiles(side, side, 4), noise, extreme])
    expected = logits(plain, images)
    summed = sum_first_stage(plain)
    onnx.checker.check_model(summed, full_check=True)
    assert expected.std() > 0.1  # the pictures are told apart
    # Sums of float32 in another order; in float16, one rounding of the map may fall the other way.
    tolerance = 1e-5 if precision is Precision.FP32 else 2e-3
    assert logits(summed, images) == pytest.approx(expected, abs=tolerance * float(1 + np.abs(expected).max()))


def test_one_wrong_weight_shows(small_graphs):
    """The tolerance above would not hide a window that is read at the wrong place."""
    plain = graph(small_graphs)
    summed = sum_first_stage(plain)
    (weight,) = [tensor for tensor in plain.graph.initializer if tensor.name == "conv1.weight"]
    values = onnx.numpy_helper.to_array(weight).copy()
    values[:, :, 0, 1], values[:, :, 1, 0] = values[:, :, 1, 0].copy(), values[:, :, 0, 1].copy()
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    images = sample_tiles(64, 64, 4)
    assert np.abs(logits(summed, images) - logits(plain, images)).max() > 1e-2


def test_the_first_convolution_is_gone_and_nothing_is_left_over(small_graphs):
    summed = sum_first_stage(graph(small_graphs))
    assert [node.name for node in find_convolutions(summed)] == ["conv2", "conv3", "projection"]
    used = {name for node in summed.graph.node for name in node.input}
    assert {tensor.name for tensor in summed.graph.initializer} <= used


@pytest.mark.parametrize("choices", [{"size": "native"}, {"input": InputForm.FLOAT}])
def test_other_inputs_are_left_as_they_are(small_graphs, choices):
    assert not can_sum(graph(small_graphs, **choices))


def test_a_graph_whose_first_stage_is_summed_is_not_summed_again(small_graphs):
    plain = graph(small_graphs)
    assert can_sum(plain)
    assert not can_sum(sum_first_stage(plain))
