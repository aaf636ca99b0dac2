from dataclasses import replace

import numpy as np
import onnx
import pytest
from conftest import write_random_checkpoint
from onnx import numpy_helper

from engines.fused_graph import read_weights
from export.graph import ExportConfig, make_graph
from lfm_deploy.artifacts import METADATA_KEY, GraphInfo, InputForm, Precision
from lfm_deploy.config import ModelConfig, Pooling, Residual, ValueOrder
from lfm_deploy.errors import ArtifactError, UnavailableError
from lfm_deploy.network.checkpoint import read_checkpoint
from lfm_deploy.storage.graph_file import seal_graph

WIDE = ModelConfig(widths=(16, 32, 16), projection=16, k=4)


@pytest.fixture(scope="module")
def wide_graph(tmp_path_factory):
    checkpoint = write_random_checkpoint(WIDE, tmp_path_factory.mktemp("wide") / "wide.pth", 64)
    return make_graph(read_checkpoint(checkpoint), ExportConfig(size=64, precision=Precision.FP16))


def save(model, folder, **changes):
    """A copy of the graph in a file, its metadata changed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    text = {entry.key: entry.value for entry in model.metadata_props}[METADATA_KEY]
    info = replace(GraphInfo.from_json(text, "here"), **changes)
    onnx.helper.set_model_props(copy, {METADATA_KEY: info.to_json()})
    (folder / "graph.onnx").write_bytes(seal_graph(copy))
    return folder / "graph.onnx"


def change(model, name, values):
    """A copy of the graph with another tensor."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    (tensor,) = [tensor for tensor in copy.graph.initializer if tensor.name == name]
    tensor.CopyFrom(numpy_helper.from_array(values, name))
    return copy


def tensor_of(model, name):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}[name]


@pytest.mark.parametrize("order", ValueOrder)
def test_weights_are_those_of_the_graph_in_the_order_of_its_values(wide_graph, tmp_path, order):
    found = read_weights(save(wide_graph, tmp_path, config=replace(WIDE, order=order)))
    for number, (weight, bias) in enumerate(found.convolutions, start=1):
        np.testing.assert_array_equal(weight, tensor_of(wide_graph, f"conv{number}.weight"))
        np.testing.assert_array_equal(bias, tensor_of(wide_graph, f"conv{number}.bias"))
    np.testing.assert_array_equal(found.projection, tensor_of(wide_graph, "projection.weight")[:, :, 0, 0])
    linear = tensor_of(wide_graph, "head.weight").reshape(16, 4)  # channel by channel, in the checkpoint's order
    largest_first = linear if order is ValueOrder.DESCENDING else linear[:, ::-1]
    np.testing.assert_array_equal(found.linear, largest_first.T)
    assert found.bias == tensor_of(wide_graph, "head.bias")[0]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"config": replace(WIDE, pooling=Pooling.AVERAGE)}, "they know SNet with Top-K pooling"),
        ({"config": replace(WIDE, residual=Residual.SIGNED)}, "they know absolute ones"),
        ({"config": replace(WIDE, widths=(16, 8, 16))}, "multiples of 16"),
        ({"config": replace(WIDE, k=3)}, "a power of two up to 64"),
        ({"config": replace(WIDE, k=128)}, "a power of two up to 64"),
        ({"precision": Precision.FP32}, "they run fp16"),
        ({"evidence": True}, "evidence"),
        ({"input": InputForm.FLOAT}, "normalised pixels"),
    ],
)
def test_other_graphs_are_refused_with_the_reason(wide_graph, tmp_path, changes, reason):
    with pytest.raises(UnavailableError, match=f"{reason}.*; run it in ONNX Runtime$"):
        read_weights(save(wide_graph, tmp_path, **changes))


@pytest.mark.parametrize("name", ["conv2.weight", "head.weight", "conv1.bias"])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_what_is_not_finite_is_refused(wide_graph, tmp_path, name, value):
    values = tensor_of(wide_graph, name).copy()
    values.flat[-1] = value
    with pytest.raises(ArtifactError, match=f"{name} holds NaN or Inf"):
        read_weights(save(change(wide_graph, name, values), tmp_path))


def test_a_graph_that_is_not_what_it_says_is_refused(wide_graph, tmp_path):
    shorter = change(wide_graph, "conv2.bias", np.zeros(31, np.float16))
    with pytest.raises(ArtifactError, match=r"conv2.bias is float16 \(31,\), expected float16 \(32,\)"):
        read_weights(save(shorter, tmp_path))
    (relu,) = [node for node in shorter.graph.node if node.name == "conv2.relu"]
    relu.op_type = "Sigmoid"
    with pytest.raises(ArtifactError, match="2 Relu instead of 3, 1 Sigmoid"):
        read_weights(save(shorter, tmp_path))
