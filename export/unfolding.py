"""The first layer of a CPU INT8 graph as one small matrix product for each 2x2 block: same integers, less time.

ONNX Runtime's integer convolution gathers the four pixels of every window, three bytes at a time, which takes longer
than the products. But NPR compares each pixel with the first of its 2x2 block, so that first pixel is 0 and every
window of the 2x2 convolution holds one such zero; and max pooling takes the four windows that start in one block.
Together those four read, of the block p and its neighbours,

    p01 p10 p11  of the block,   p10 of the block to the right,   p01 of the block below

and nothing else: 15 values instead of 4 times 12. They are laid side by side once, a 1x1 convolution with four sets of
output channels (one a window) multiplies them, and pooling takes the largest of the four sets. The differences of NPR
are a matrix product of the 12 values of a block as well. Sums of the same integers: not one of them changes.
"""

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.names import find_convolutions, input_name
from lfm_deploy.errors import BuildError

_FIRST = "conv1"
_COLOURS = 3
# Nine differences of a block and one zero, so that with the neighbours' six there are 16: kernels work in fours.
_OWN, _GATHERED = 10, 16
# Where the pixel at (row, column) of the 3x3 that four windows see lies among the gathered values; the rest are 0.
_PLACES = {(0, 1): 0, (1, 0): 3, (1, 1): 6, (1, 2): _OWN, (2, 1): _OWN + 3}
BLOCK_ORDER = (*(first + colour for first in _PLACES.values() for colour in range(_COLOURS)), _OWN - 1)
"""Where the values of ``export.blocks``, in their order, stand among the gathered ones; last the one that is 0."""


def can_unfold(model: onnx.ModelProto) -> bool:
    """Whether the first layer of a quantised graph is INT8, and its pictures have one size."""
    sides = model.graph.input[0].type.tensor_type.shape.dim[1:3]
    made = {name for node in model.graph.node for name in node.output}
    return all(side.HasField("dim_value") for side in sides) and f"{input_name(_FIRST)}_QuantizeLinear_Output" in made


def unfold_first_layer(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with its first layer as above; nothing behind its pooling changes.

    Args:
        model: graph from ``make_int8_graph`` for the CPU; it is left as it is. See ``can_unfold``.

    Raises:
        BuildError: the first layer is not what ``make_int8_graph`` makes.
    """
    from onnxruntime.quantization.onnx_model import ONNXModel

    unfolded = onnx.ModelProto()
    unfolded.CopyFrom(model)
    graph = unfolded.graph
    convolution = find_convolutions(unfolded)[0]
    pooled, scale = _find_pooled(graph, convolution)
    _repeat_windows(graph, convolution)
    side = graph.input[0].type.tensor_type.shape.dim[1].dim_value
    channels = _dims(graph, convolution)[0] // 4
    _remove_producers(graph, pooled, keep=[convolution.input[1], convolution.input[2]])
    nodes = [*_gather_blocks(graph, side), *_convolve(graph, convolution, scale, pooled, side // 2 - 1, channels)]
    for place, node in enumerate(nodes):
        graph.node.insert(place, node)
    tidied = ONNXModel(unfolded)
    tidied.clean_initializers()
    tidied.topological_sort()
    del graph.value_info[:]
    graph.value_info.extend(onnx.shape_inference.infer_shapes(unfolded).graph.value_info)
    onnx.checker.check_model(unfolded, full_check=True)
    return unfolded


def _find_pooled(graph: onnx.GraphProto, convolution: onnx.NodeProto) -> tuple[str, list[str]]:
    """Name of the integers behind the first pooling, and of their scale and zero point."""
    readers = {name: node for node in graph.node for name in node.input}
    chain: list[str] = []
    tensor = convolution.output[0]
    while len(chain) < 4:
        node = readers[tensor]
        chain.append(node.op_type)
        tensor = node.output[0]
        parameters = list(node.input[1:])
    if chain != ["QuantizeLinear", "DequantizeLinear", "MaxPool", "QuantizeLinear"]:
        raise BuildError(f"behind {convolution.name} stand {', '.join(chain)}, expected quantised pooling")
    return tensor, parameters


def _repeat_windows(graph: onnx.GraphProto, convolution: onnx.NodeProto) -> None:
    """Weights (4 C, 16, 1, 1), one set of C for each window of a block, with scales and biases to match, in place."""
    producers = {name: node for node in graph.node for name in node.output}
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for role, source in zip(("weight", "bias"), convolution.input[1:], strict=True):
        for name in producers[source].input:
            values = numpy_helper.to_array(tensors[name])
            new = spread_windows(values) if role == "weight" and values.ndim > 1 else np.tile(values, 4)
            tensors[name].CopyFrom(numpy_helper.from_array(new, name))
    del convolution.attribute[:]
    convolution.attribute.extend([helper.make_attribute("kernel_shape", [1, 1])])


def spread_windows(weight: NDArray[np.int8]) -> NDArray[np.int8]:
    """Weights ``(C, 3, 2, 2)`` of one window as those of the four windows of a block, ``(4 C, 16, 1, 1)``."""
    count = len(weight)
    spread = np.zeros((4, count, _GATHERED), weight.dtype)
    for window, (down, right) in enumerate(np.ndindex(2, 2)):
        for row, column in np.ndindex(2, 2):
            place = _PLACES.get((down + row, right + column))
            if place is not None:
                spread[window, :, place : place + _COLOURS] = weight[:, :, row, column]
    return spread.reshape(4 * count, _GATHERED, 1, 1)


def _gather_blocks(graph: onnx.GraphProto, side: int) -> list[onnx.NodeProto]:
    """From ``image`` to the 16 integers of each block that has neighbours, uint8 ``(N, 16, side/2-1, side/2-1)``."""
    blocks, quantised = side // 2, f"{input_name(_FIRST)}_QuantizeLinear_Output"
    differences = np.zeros((4 * _COLOURS, _OWN), np.float32)
    for pixel, colour in np.ndindex(3, _COLOURS):
        differences[colour, pixel * _COLOURS + colour] = -1
        differences[(pixel + 1) * _COLOURS + colour, pixel * _COLOURS + colour] = 1
    _add_constants(
        graph,
        {
            "blocks.by_row": np.array([-1, blocks, 2, blocks, 2 * _COLOURS]),
            "blocks.rows": np.array([1, 1]),
            "blocks.differences": differences,
            "blocks.flat": np.array([-1, blocks, blocks, _OWN]),
            "blocks.axes": np.array([1, 2, 3]),
            "own.start": np.array([0, 0, 0]),
            "own.end": np.array([blocks - 1, blocks - 1, _OWN]),
            "right.start": np.array([0, 1, _PLACES[1, 0]]),
            "right.end": np.array([blocks - 1, blocks, _PLACES[1, 0] + _COLOURS]),
            "below.start": np.array([1, 0, _PLACES[0, 1]]),
            "below.end": np.array([blocks, blocks - 1, _PLACES[0, 1] + _COLOURS]),
        },
    )
    scale = [f"{input_name(_FIRST)}_scale", f"{input_name(_FIRST)}_zero_point"]
    pieces = ("own", "right", "below")
    return [
        helper.make_node("Reshape", ["image", "blocks.by_row"], ["blocks.pairs"], name="blocks.reshape"),
        helper.make_node("Split", ["blocks.pairs", "blocks.rows"], ["upper", "lower"], name="blocks.split", axis=2),
        helper.make_node("Concat", ["upper", "lower"], ["blocks.pixels"], name="blocks.join", axis=4),
        helper.make_node("Cast", ["blocks.pixels"], ["blocks.float"], name="blocks.cast", to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["blocks.float", "blocks.differences"], ["blocks.npr"], name="blocks.subtract"),
        helper.make_node("Abs", ["blocks.npr"], ["blocks.absolute"], name="blocks.abs"),
        helper.make_node("QuantizeLinear", ["blocks.absolute", *scale], ["blocks.integers"], name="blocks.quantise"),
        helper.make_node("Reshape", ["blocks.integers", "blocks.flat"], ["blocks.values"], name="blocks.flatten"),
        *(
            helper.make_node("Slice", ["blocks.values", f"{piece}.start", f"{piece}.end", "blocks.axes"], [piece])
            for piece in pieces
        ),
        helper.make_node("Concat", list(pieces), ["blocks.gathered"], name="blocks.gather", axis=3),
        helper.make_node("Transpose", ["blocks.gathered"], [quantised], name="blocks.transpose", perm=[0, 3, 1, 2]),
    ]


def _convolve(
    graph: onnx.GraphProto, convolution: onnx.NodeProto, scale: Sequence[str], pooled: str, blocks: int, channels: int
) -> list[onnx.NodeProto]:
    """The convolution of all four windows at once, and the largest of them; integers ``pooled`` come out."""
    first = input_name(_FIRST)
    _add_constants(
        graph,
        {
            "windows.apart": np.array([-1, blocks * blocks, 4, channels]),
            "windows.pooled": np.array([-1, blocks, blocks, channels]),
        },
    )
    quantised = [f"{first}_QuantizeLinear_Output", f"{first}_scale", f"{first}_zero_point"]
    to_last, to_first = [0, 2, 3, 1], [0, 3, 1, 2]
    new = onnx.NodeProto()
    new.CopyFrom(convolution)
    return [
        helper.make_node("DequantizeLinear", quantised, [convolution.input[0]], name=f"{first}_DequantizeLinear"),
        new,
        helper.make_node("QuantizeLinear", [new.output[0], *scale], ["windows"], name="windows.quantise"),
        helper.make_node("Transpose", ["windows"], ["windows.last"], name="windows.to_last", perm=to_last),
        helper.make_node("Reshape", ["windows.last", "windows.apart"], ["windows.four"], name="windows.reshape"),
        helper.make_node("Transpose", ["windows.four"], ["windows.planes"], name="windows.to_first", perm=to_first),
        helper.make_node(
            "MaxPool", ["windows.planes"], ["windows.max"], name="conv1.pool", kernel_shape=[1, 4], strides=[1, 4]
        ),
        helper.make_node("Transpose", ["windows.max"], ["windows.max.last"], name="pooled.to_last", perm=to_last),
        helper.make_node("Reshape", ["windows.max.last", "windows.pooled"], ["pooled.last"], name="pooled.reshape"),
        helper.make_node("Transpose", ["pooled.last"], [pooled], name="pooled.to_first", perm=to_first),
    ]


def _add_constants(graph: onnx.GraphProto, constants: dict[str, NDArray[np.generic]]) -> None:
    graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in constants.items())


def _dims(graph: onnx.GraphProto, convolution: onnx.NodeProto) -> list[int]:
    """Shape of a convolution's quantised weight."""
    producers = {name: node for node in graph.node for name in node.output}
    weight = producers[convolution.input[1]].input[0]
    return next(list(tensor.dims) for tensor in graph.initializer if tensor.name == weight)


def _remove_producers(graph: onnx.GraphProto, tensor: str, keep: Sequence[str]) -> None:
    """Remove everything that makes ``tensor``, but not what makes those to keep."""
    producers = {name: node for node in graph.node for name in node.output}
    waiting, gone = [tensor], []
    while waiting:
        node = producers.get(waiting.pop())
        if node is not None and not set(node.output) & set(keep) and node not in gone:
            gone.append(node)
            waiting += node.input
    for node in gone:
        graph.node.remove(node)
