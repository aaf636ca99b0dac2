from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from engines.amx.graphs import read_layers
from export.graph import ExportConfig, make_graph
from lfm_deploy.artifacts import Precision
from lfm_deploy.config import ValueOrder
from lfm_deploy.errors import ArtifactError
from lfm_deploy.network.checkpoint import read_checkpoint
from lfm_deploy.storage.graph_file import seal_graph


def write_bf16(checkpoint, path):
    path.write_bytes(seal_graph(make_graph(checkpoint, ExportConfig(size=64, precision=Precision.BF16))))
    return path


@pytest.fixture(scope="module")
def bf16_graph(small_checkpoint, tmp_path_factory):
    return write_bf16(read_checkpoint(small_checkpoint), tmp_path_factory.mktemp("bf16") / "lfm.bf16.onnx")


def edit_nodes(path, target, edit):
    """A copy of a graph whose nodes were changed by hand."""
    model = onnx.load(path)
    edit(model.graph, {node.name: node for node in model.graph.node})
    target.write_bytes(seal_graph(model))
    return target


def drop_pooling(graph, nodes):
    pooling = nodes["conv2.pool"]
    for node in graph.node:
        node.input[:] = [pooling.input[0] if name == pooling.output[0] else name for name in node.input]
    graph.node.remove(pooling)


def double_before_conv3(graph, nodes):
    graph.initializer.append(numpy_helper.from_array(np.array(2, np.float32), "two"))
    source = nodes["conv3"].input[0]
    nodes["conv3"].input[0] = "doubled"
    place = list(graph.node).index(nodes["conv3"])
    graph.node.insert(place, onnx.helper.make_node("Mul", [source, "two"], ["doubled"], name="double"))


def set_attribute(name, attribute, value):
    def edit(_graph, nodes):
        kept = [one for one in nodes[name].attribute if one.name != attribute]
        del nodes[name].attribute[:]
        nodes[name].attribute.extend([*kept, onnx.helper.make_attribute(attribute, value)])

    return edit


def swap_weights(_graph, nodes):
    nodes["conv1.window0"].input[1], nodes["conv1.window1"].input[1] = (
        nodes["conv1.window1"].input[1],
        nodes["conv1.window0"].input[1],
    )


def swap_biases(_graph, nodes):
    nodes["conv2"].input[2] = nodes["conv1.window0"].input[2]


def take_one_window_twice(_graph, nodes):
    nodes["conv1.pool"].input[1] = nodes["conv1.pool"].input[0]


def keep_one_value_less(graph, _nodes):
    (pooling,) = [node for node in graph.node if node.op_type == "TopK"]
    (k,) = [tensor for tensor in graph.initializer if tensor.name == pooling.input[1]]
    k.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(k) - 1, k.name))


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (drop_pooling, "its steps are .*, and those of its architecture"),
        (double_before_conv3, "Mul, conv3"),
        (set_attribute("conv2", "pads", [1, 1, 1, 1]), "conv2 has another pads"),
        (set_attribute("conv2.pool", "strides", [1, 1]), "conv2.pool has another strides"),
        (set_attribute("node_permute", "perm", [0, 3, 2, 1]), "another perm"),
        (swap_weights, r"conv1\.window0 reads conv1\.window1\.weight"),
        (swap_biases, r"conv2 reads conv2\.weight, conv1\.bias"),
        (take_one_window_twice, "does not take the largest of"),
        (keep_one_value_less, "is not what this version writes"),
    ],
)
def test_a_bf16_graph_that_does_something_else_is_refused(bf16_graph, tmp_path, edit, words):
    with pytest.raises(ArtifactError, match=words):
        read_layers(edit_nodes(bf16_graph, tmp_path / "edited.onnx", edit))


def test_the_order_of_values_is_that_of_the_graph(small_checkpoint, tmp_path):
    checkpoint = read_checkpoint(small_checkpoint)
    other = replace(checkpoint, config=replace(checkpoint.config, order=ValueOrder.ASCENDING))
    model = make_graph(other, ExportConfig(size=64, precision=Precision.BF16))
    path = tmp_path / "ascending.onnx"
    path.write_bytes(seal_graph(model))
    straight = read_layers(write_bf16(checkpoint, tmp_path / "descending.onnx"))
    np.testing.assert_array_equal(read_layers(path).linear, straight.linear[::-1])
    (turn,) = [node for node in model.graph.node if node.op_type == "Slice"]
    for node in model.graph.node:
        node.input[:] = [turn.input[0] if name == turn.output[0] else name for name in node.input]
    model.graph.node.remove(turn)
    path.write_bytes(seal_graph(model))
    with pytest.raises(ArtifactError, match="Slice"):
        read_layers(path)
