"""INT8 convolutions with one scale for all channels, whose own scales follow behind the pooling.

Weights have a scale s_c for each output channel. tensorrt-rtx 1.7 then lets a convolution write float32 and multiplies,
adds the bias, and casts in a kernel of its own; with one scale S for the whole weight the convolution writes float16.
Max pooling commutes with what grows, so with all s_c > 0

    pool(relu(S_c y_c + b_c)) = relu((s_c / S) pool(S y_c) + b_c)

and what is on the right of the pooling becomes part of the kernel that quantises for the next layer anyway, on a
quarter of the values. Quantising alone would not stay there: the library moves it in front of the pooling, but not past
a ReLU. S is a power of two, so that s_c / S and S y_c are what s_c and s_c y_c are, to the last bit of float16, and
small enough that no sum overflows it.
"""

import math
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from export.names import find_convolutions

_LARGEST_CODE = 127
_FOLLOWERS = ("Add", "Relu", "MaxPool")


@dataclass(frozen=True, slots=True)
class _Parts:
    """A convolution in INT8, its two dequantisations, and what follows it."""

    convolution: onnx.NodeProto
    weight: onnx.NodeProto
    image: onnx.NodeProto
    followers: list[onnx.NodeProto]


def delay_scales(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with the scales of its INT8 convolutions as above; the same graph where it has none.

    Args:
        model: graph from ``make_int8_graph`` for TensorRT; it is left as it is.
    """
    delayed = onnx.ModelProto()
    delayed.CopyFrom(model)
    graph = delayed.graph
    producers = {name: node for node in graph.node for name in node.output}
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for convolution in find_convolutions(delayed):
        sources = [producers.get(name) for name in convolution.input]
        if len(sources) != 2 or any(source is None or source.op_type != "DequantizeLinear" for source in sources):
            continue
        image, weight = sources
        if image is None or weight is None or not tensors[weight.input[1]].dims:
            continue
        _delay(graph, tensors, _Parts(convolution, weight, image, _followers(graph, convolution)))
    _pool_first(graph)
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
    del graph.value_info[:]
    return delayed


def choose_common_scale(scales: NDArray[np.floating], image_scale: float, products: int) -> float:
    """The power of two that stands for all scales of a weight.

    Args:
        scales: scales of the output channels ``(C,)``, above 0.
        image_scale: scale of what the convolution reads.
        products: number of products in one sum.
    """
    largest_sum = _LARGEST_CODE**2 * products * image_scale
    room = math.floor(math.log2(float(np.finfo(np.float16).max) / largest_sum))
    return float(2.0 ** min(math.ceil(math.log2(float(scales.max()))), room))


def _delay(graph: onnx.GraphProto, tensors: dict[str, onnx.TensorProto], parts: _Parts) -> None:
    """Rewrite one convolution and what follows it, in place."""
    layer = parts.convolution.name
    scales = numpy_helper.to_array(tensors[parts.weight.input[1]])
    image_scale = float(numpy_helper.to_array(tensors[parts.image.input[1]]))
    codes = tensors[parts.weight.input[0]]
    common = choose_common_scale(scales.astype(np.float64), image_scale, math.prod(codes.dims[1:]))
    own = (scales.astype(np.float64) / common).astype(scales.dtype).reshape(-1, 1, 1)
    names = [f"{layer}.common_scale", f"{layer}.common_zero", f"{layer}.own_scale"]
    values = (np.array(common, scales.dtype), np.array(0, np.int8), own)
    graph.initializer.extend(numpy_helper.from_array(value, name) for value, name in zip(values, names, strict=True))
    parts.weight.input[1], parts.weight.input[2] = names[0], names[1]
    del parts.weight.attribute[:]
    last = parts.followers[-1].output[0] if parts.followers else parts.convolution.output[0]
    by_kind = {node.op_type: node for node in parts.followers}
    place = list(graph.node).index(parts.convolution) + 1
    for node in parts.followers:
        graph.node.remove(node)
    chain: list[onnx.NodeProto] = []
    tensor = f"{layer}.common"
    parts.convolution.output[0] = tensor

    def append(node: onnx.NodeProto) -> None:
        nonlocal tensor
        node.input[0], tensor = tensor, f"{layer}.late{len(chain)}"
        node.output[0] = tensor
        chain.append(node)

    for kind in ("MaxPool", "Mul", "Add", "Relu"):
        if kind == "Mul":
            append(helper.make_node("Mul", ["", names[2]], [""], name=f"{layer}.scale"))
        elif kind in by_kind:
            append(by_kind[kind])
    chain[-1].output[0] = last
    for offset, node in enumerate(chain):
        graph.node.insert(place + offset, node)


def _pool_first(graph: onnx.GraphProto) -> None:
    """Exchange a ReLU with the pooling behind it where the next thing is quantising, in place."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for first in graph.node:
        after = readers.get(first.output[0], [])
        if first.op_type != "Relu" or [node.op_type for node in after] != ["MaxPool"]:
            continue
        if [node.op_type for node in readers.get(after[0].output[0], [])] != ["QuantizeLinear"]:
            continue
        pool = onnx.NodeProto()
        pool.CopyFrom(after[0])
        pool.input[0], pool.output[0] = first.input[0], first.output[0]
        relu = helper.make_node("Relu", [pool.output[0]], list(after[0].output), name=first.name)
        first.CopyFrom(pool)
        after[0].CopyFrom(relu)


def _followers(graph: onnx.GraphProto, convolution: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Bias, ReLU and pooling behind a convolution, as far as each has one reader and none comes twice."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    constants = {tensor.name for tensor in graph.initializer}
    found: list[onnx.NodeProto] = []
    tensor = convolution.output[0]
    for kind in _FOLLOWERS:
        after = readers.get(tensor, [])
        if len(after) != 1 or after[0].op_type != kind:
            continue
        if kind == "Add" and after[0].input[1] not in constants:
            break  # of a residual block: another map, not a bias
        found.append(after[0])
        tensor = after[0].output[0]
    return found
