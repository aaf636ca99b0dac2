"""The first stage of a graph as sums of products, which tensorrt-rtx computes in one kernel and never writes out.

NPR compares each pixel with the first of its 2x2 block, so that first pixel is 0; and 2x2 max pooling takes the four
windows of the 2x2 convolution that start in one block p. Together these read, of the differences D of the block and of
its neighbours to the right and below,

    D01 D10 D11  of the block,   D10 of the block to the right,   D01 of the block below

where the window that starts at (a, b) has a product for each of them inside of it: three pixels of three colours,

    pooled_p = relu(max over the windows (a, b) of sum over (i, j) of W[i - a, j - b] D_ij  +  bias)

and the bias is the same for all four. As a convolution and a pooling, tensorrt-rtx 1.7 moves 20.0 MB of float16 for
each picture of 256x256 and 64 channels; as 36 products a channel, which it fuses with the differences, 2.3 MB. Sums are
float32, as the convolution's are: 8 bit times 11 bit are exact there.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.names import find_convolutions, input_name

_FIRST = "conv1"
_COLOURS = 3
# Where the differences of the 3x3 pixels that the four windows see are not always 0, and with which pixel each is
# compared: the first of its block.
_DIFFERENCES = {(0, 1): (0, 0), (1, 0): (0, 0), (1, 1): (0, 0), (1, 2): (0, 2), (2, 1): (2, 0)}
_BEFORE = ["Cast", "Transpose", "Slice", "Slice", "Resize", "Sub", "Abs"]
_NHWC_TO_NCHW = [0, 3, 1, 2]


def can_sum(model: onnx.ModelProto) -> bool:
    """Whether a graph takes raw pixels of one size, and its first stage is a convolution in floating point and a pool.

    Args:
        model: a typed graph with the names of ``export.names``.
    """
    graph = model.graph
    image, convolution = graph.input[0], next(iter(find_convolutions(model)), None)
    sides = image.type.tensor_type.shape.dim[1:3]
    if image.type.tensor_type.elem_type != TensorProto.UINT8 or not all(side.HasField("dim_value") for side in sides):
        return False
    if convolution is None or list(convolution.input[:1]) != [input_name(_FIRST)] or len(convolution.input) != 3:
        return False
    weights = {tensor.name: tensor for tensor in graph.initializer}
    weight = weights.get(convolution.input[1])
    if weight is None or list(weight.dims[1:]) != [_COLOURS, 2, 2]:
        return False
    chain = [node.op_type for node in _chain(graph, convolution)]
    return chain == ["Relu", "MaxPool"] and [node.op_type for node in _nodes_before(graph)] == _BEFORE


def sum_first_stage(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with its first stage as above; nothing behind its pooling changes.

    Args:
        model: graph that ``can_sum`` approves of; it is left as it is.
    """
    summed = onnx.ModelProto()
    summed.CopyFrom(model)
    graph = summed.graph
    convolution = find_convolutions(summed)[0]
    followers = _chain(graph, convolution)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weight, bias = (weights[name] for name in convolution.input[1:])
    side = [dimension.dim_value for dimension in graph.input[0].type.tensor_type.shape.dim[1:3]]
    made = _Nodes(helper.np_dtype_to_tensor_dtype(weight.dtype))
    _write_stage(made, side, weight.astype(np.float32), bias.astype(np.float32), followers[-1].output[0])
    for node in [*_nodes_before(graph), convolution, *followers]:
        graph.node.remove(node)
    for place, node in enumerate(made.nodes):
        graph.node.insert(place, node)
    graph.initializer.extend(made.constants)
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
    del graph.value_info[:]
    return summed


class _Nodes:
    """Nodes and constants of the stage, with names of its own."""

    def __init__(self, type_outside: int) -> None:
        self.type_outside = type_outside
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, values: NDArray[np.generic]) -> str:
        name = f"{_FIRST}.constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def add(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        name = f"{_FIRST}.step{len(self.nodes)}"
        output = output or name
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=name, **attributes))
        return output

    def slice(self, tensor: str, starts: list[int], ends: list[int], axes: list[int], step: int) -> str:
        parts = (starts, ends, axes, [step] * len(axes))
        return self.add("Slice", tensor, *(self.constant(np.array(part, np.int64)) for part in parts))


def _write_stage(
    made: _Nodes, side: list[int], weight: NDArray[np.float32], bias: NDArray[np.float32], pooled: str
) -> None:
    """From ``image`` to the pooled map ``(N, C, H / 2 - 1, W / 2 - 1)``; weights ``(C, 3, 2, 2)``, bias ``(C,)``."""
    pixels = made.add("Cast", "image", to=TensorProto.FLOAT)
    height, width = side

    def every_second(place: tuple[int, int]) -> str:
        row, column = place
        return made.slice(pixels, [row, column], [row + height - 2, column + width - 2], [1, 2], 2)

    seen = {place: every_second(place) for place in {*_DIFFERENCES, *_DIFFERENCES.values()}}
    colours: dict[tuple[int, int], list[str]] = {}
    for place, first in _DIFFERENCES.items():
        difference = made.add("Abs", made.add("Sub", seen[place], seen[first]))
        colours[place] = [made.slice(difference, [colour], [colour + 1], [3], 1) for colour in range(_COLOURS)]
    sums = []
    for down, right in np.ndindex(2, 2):
        products = [
            made.add("Mul", values, made.constant(weight[:, colour, row - down, column - right].copy()))
            for (row, column), of_colours in _inside(colours, down, right)
            for colour, values in enumerate(of_colours)
        ]
        total = products[0]
        for product in products[1:]:
            total = made.add("Add", total, product)
        sums.append(total)
    largest = sums[0]
    for total in sums[1:]:
        largest = made.add("Max", largest, total)
    positive = made.add("Relu", made.add("Add", largest, made.constant(bias)))
    if made.type_outside != TensorProto.FLOAT:
        positive = made.add("Cast", positive, to=made.type_outside)
    made.add("Transpose", positive, output=pooled, perm=_NHWC_TO_NCHW)


def _inside(
    colours: dict[tuple[int, int], list[str]], down: int, right: int
) -> Iterator[tuple[tuple[int, int], list[str]]]:
    """The places that the window which starts at (down, right) reads."""
    for (row, column), of_colours in colours.items():
        if 0 <= row - down <= 1 and 0 <= column - right <= 1:
            yield (row, column), of_colours


def _chain(graph: onnx.GraphProto, convolution: onnx.NodeProto) -> list[onnx.NodeProto]:
    """ReLU and pooling behind a convolution, as far as each has one reader."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found: list[onnx.NodeProto] = []
    tensor = convolution.output[0]
    while len(after := readers.get(tensor, [])) == 1 and after[0].op_type in ("Relu", "MaxPool"):
        found.append(after[0])
        tensor = after[0].output[0]
        if after[0].op_type == "MaxPool":
            break
    return found


def _nodes_before(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """What makes the first convolution's input, in the graph's order."""
    producers = {name: node for node in graph.node for name in node.output}
    waiting, found = [input_name(_FIRST)], []
    while waiting:
        node = producers.get(waiting.pop())
        if node is not None and node not in found:
            found.append(node)
            waiting += node.input
    return [node for node in graph.node if node in found]
