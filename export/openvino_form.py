"""INT8 graphs for the CPU as OpenVINO understands them: the same integers, written with fewer steps between them.

ONNX Runtime wants integers wherever a tensor could be read: biases in int32, and the output of every convolution, ReLU
and pooling quantised again with the same scale. OpenVINO makes one integer kernel of a convolution, its bias and what
quantises its output, where the bias is a float and nothing else stands between. So

* a bias b is s q, which is what DequantizeLinear makes of its integers q;
* quantising the largest of values that are s times whole numbers, with scale s, changes nothing and is left out.

The first layer is four products for each 2x2 block, see ``export.unfolding``; OpenVINO does them where they are
written as what they are, a convolution that is transposed: out of the sixteen values of a block it makes 2x2 windows
side by side, weights w[k, c, i, j] for window (i, j), of which pooling keeps the largest. The sixteen values come out
of one 3x3 convolution of the pixels, see ``export.blocks``.
"""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.blocks import make_differences
from export.names import SUBTRACTION, input_name

_FIRST = "conv1"
# In an unfolded layer the value that is always 0 stands behind the block's own nine, in ``export.blocks`` at the end.
_ORDER = [*range(9), *range(10, 16), 9]


def write_for_openvino(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same INT8 graph as OpenVINO understands it.

    Args:
        model: an INT8 graph for the CPU; it is left as it is.
    """
    written = onnx.ModelProto()
    written.CopyFrom(model)
    graph = written.graph
    if any(node.name == "windows.quantise" for node in graph.node):
        _transpose_first_layer(graph)
    _restore_biases(graph)
    _drop_repeated(graph)
    _drop_unread(graph)
    del graph.value_info[:]
    onnx.checker.check_model(written, full_check=True)
    return written


def spread_over_blocks(weight: NDArray[np.int8]) -> NDArray[np.int8]:
    """Weights ``(4 C, 16, 1, 1)`` of four windows as those of a transposed convolution, ``(16, C, 2, 2)``."""
    windows = weight[:, _ORDER, 0, 0].reshape(2, 2, -1, len(_ORDER))
    return np.ascontiguousarray(windows.transpose(3, 2, 0, 1))


def _transpose_first_layer(graph: onnx.GraphProto) -> None:
    """From ``image`` to the pooled integers of an unfolded first layer, in place."""
    makers = {name: node for node in graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    convolution = next(node for node in graph.node if node.name == _FIRST)
    scale = list(makers["windows"].input[1:])
    pooled = next(node.output[0] for node in graph.node if node.name == "pooled.to_first")
    of_input = [f"{input_name(_FIRST)}_scale", f"{input_name(_FIRST)}_zero_point"]
    codes, steps, zeros = (numpy_helper.to_array(constants[name]) for name in makers[convolution.input[1]].input)
    bias = _restored(makers[convolution.input[2]], constants)
    channels = len(codes) // 4
    new: dict[str, NDArray[Any]] = {
        "blocks.differences": make_differences(),
        "blocks.weight": spread_over_blocks(codes),
        "blocks.scale": steps[:channels],
        "blocks.zero_point": zeros[:channels],
        "blocks.bias": bias[:channels],
    }
    for name in new.keys() & constants.keys():
        graph.initializer.remove(constants[name])
    graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in new.items())
    _remove_producers(graph, pooled)
    for place, node in enumerate(_make_first_layer(of_input, scale, pooled)):
        graph.node.insert(place, node)


def _make_first_layer(of_input: list[str], scale: list[str], pooled: str) -> list[onnx.NodeProto]:
    """Nodes from ``image`` to the integers ``pooled``; scale and zero point of what goes in and of what comes out."""
    make = helper.make_node
    weight = ["blocks.weight", "blocks.scale", "blocks.zero_point"]
    three: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [2, 2]}
    two: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2]}
    return [
        make("Cast", ["image"], ["blocks.float"], "blocks.cast", to=TensorProto.FLOAT),
        make("Transpose", ["blocks.float"], ["blocks.planes"], "blocks.transpose", perm=[0, 3, 1, 2]),
        make("Conv", ["blocks.planes", "blocks.differences"], ["blocks.signed"], SUBTRACTION, **three),
        make("Abs", ["blocks.signed"], ["blocks.absolute"], "blocks.abs"),
        make("QuantizeLinear", ["blocks.absolute", *of_input], ["blocks.integers"], "blocks.quantise"),
        make("DequantizeLinear", ["blocks.integers", *of_input], ["blocks.values"], "blocks.dequantise"),
        make("DequantizeLinear", weight, ["blocks.weights"], "blocks.weight_dequantise", axis=1),
        make("ConvTranspose", ["blocks.values", "blocks.weights", "blocks.bias"], ["windows.float"], _FIRST, **two),
        make("QuantizeLinear", ["windows.float", *scale], ["windows.integers"], "windows.quantise"),
        make("DequantizeLinear", ["windows.integers", *scale], ["windows.values"], "windows.dequantise"),
        make("MaxPool", ["windows.values"], ["windows.largest"], "conv1.pool", **two),
        make("QuantizeLinear", ["windows.largest", *scale], [pooled], "pooled.quantise"),
    ]


def _restore_biases(graph: onnx.GraphProto) -> None:
    """Biases as float32 constants instead of integers that are widened, in place."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in [node for node in graph.node if node.op_type == "DequantizeLinear"]:
        source = constants.get(node.input[0])
        if source is not None and source.data_type == TensorProto.INT32:
            graph.initializer.append(numpy_helper.from_array(_restored(node, constants), node.output[0]))
            graph.node.remove(node)


def _restored(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> NDArray[np.float32]:
    """What DequantizeLinear makes of constant integers whose zero point is 0."""
    codes, scale = (numpy_helper.to_array(constants[name]) for name in node.input[:2])
    return (codes * scale.astype(np.float64)).astype(np.float32)


def _drop_repeated(graph: onnx.GraphProto) -> None:
    """Leave out QuantizeLinear and DequantizeLinear behind pooling of what has the same scale already, in place."""
    makers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for pool in [node for node in graph.node if node.op_type == "MaxPool"]:
        before = makers.get(pool.input[0])
        (quantise,) = readers[pool.output[0]] if len(readers[pool.output[0]]) == 1 else (None,)
        if before is None or quantise is None or before.op_type != "DequantizeLinear":
            continue
        if quantise.op_type != "QuantizeLinear" or list(quantise.input[1:]) != list(before.input[1:]):
            continue
        for restore in readers[quantise.output[0]]:
            for reader in readers[restore.output[0]]:
                for index, name in enumerate(reader.input):
                    if name == restore.output[0]:
                        reader.input[index] = pool.output[0]
            graph.node.remove(restore)
        graph.node.remove(quantise)


def _remove_producers(graph: onnx.GraphProto, tensor: str) -> None:
    """Remove everything that makes a tensor, in place."""
    makers = {name: node for node in graph.node for name in node.output}
    waiting = [tensor]
    while waiting:
        node = makers.pop(waiting.pop(), None)
        if node is not None and node in graph.node:
            waiting += node.input
            graph.node.remove(node)


def _drop_unread(graph: onnx.GraphProto) -> None:
    """Remove constants that nobody reads, in place."""
    read = {name for node in graph.node for name in node.input}
    for constant in [constant for constant in graph.initializer if constant.name not in read]:
        graph.initializer.remove(constant)
