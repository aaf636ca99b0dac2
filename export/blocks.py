"""The first stage of SNet as four products for each 2x2 block: the same sums in less time where products are cheap.

NPR compares each pixel with the first of its 2x2 block, so that a residual at even row and even column is 0. The pooled
value of a block is the largest of the four windows that start in it, and these see nine residuals, of which five can
differ from 0:

    .    r01  .        r01 r10 r11  of the block,
    r10  r11  r12      r12          r10 of the block to the right,
    .    r21  .        r21          r01 of the block below.

Each is a difference of two pixels, so one 3x3 convolution with stride 2 and weights of 1 and -1 gives all fifteen
values of a block (three colours), for every block with neighbours to the right and below, which are the blocks that
pooling keeps. In float32 and bfloat16 nothing is rounded there, since grey levels are whole numbers up to 255. With W
the weights of the first convolution, window (i, j) sums W[c, k, a, b] r[k, i + a, j + b], which is a 1x1 convolution
w_ij of the fifteen values; and as adding a bias and ReLU keep the order of values,

    max_ij relu(w_ij r + b) = relu(max_ij (w_ij r + b)).

A convolution that reads three channels at 254x254 places becomes four that read fifteen at 127x127, which matrix units
do several times faster. Not one product is added or left out but those with 0.
"""

from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.names import SUBTRACTION
from lfm_deploy.errors import BuildError

_FIRST = "conv1"
_COLOURS = 3
_TORCH_TYPES: dict[int, torch.dtype] = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.BFLOAT16: torch.bfloat16,
}
# Of the 3x3 pixels from the first of a block: those whose residual can differ from 0, and what each is compared with.
PLACES = (((0, 1), (0, 0)), ((1, 0), (0, 0)), ((1, 1), (0, 0)), ((1, 2), (0, 2)), ((2, 1), (2, 0)))
# And one that is always 0: kernels of matrix units work in fours.
VALUES = _COLOURS * len(PLACES) + 1


def can_reform(model: onnx.ModelProto) -> bool:
    """Whether a float graph starts as SNet does: NPR, a 2x2 convolution, ReLU and 2x2 pooling, all read once.

    Args:
        model: a graph with the names of ``export.names``.
    """
    return _find_stage(model.graph) is not None


def reform_first_stage(model: onnx.ModelProto) -> None:
    """Write the first stage of a float graph as above, in place; what it gives is called as before.

    Args:
        model: a graph with the names of ``export.names``; see ``can_reform``.

    Raises:
        BuildError: the graph does not start as SNet does.
    """
    graph = model.graph
    stage = _find_stage(graph)
    if stage is None:
        raise BuildError(f"the graph does not start with NPR, {_FIRST}, ReLU and pooling; its first stage stays")
    difference, between, convolution, pool = stage
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    weight, bias = (tensors[name] for name in convolution.input[1:])
    pixels, pooled = difference.input[0], pool.output[0]
    pixel_type = _type_of(model, pixels)
    sets = spread_windows(numpy_helper.to_array(weight).astype(np.float32))
    graph.initializer.append(_constant("blocks.differences", make_differences(), pixel_type))
    graph.initializer.extend(
        _constant(f"{_FIRST}.window{index}.weight", values, weight.data_type) for index, values in enumerate(sets)
    )
    nodes = _make_stage(pixels, between, bias.name, pooled)
    _replace_producers(model, pooled, pixels, nodes)


def _make_stage(pixels: str, between: list[onnx.NodeProto], bias: str, pooled: str) -> list[onnx.NodeProto]:
    """From pixels ``(N, 3, H, W)`` to what the first stage gives, ``(N, C, H / 2 - 1, W / 2 - 1)``."""
    make, last = helper.make_node, "blocks.signed"
    three: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [2, 2]}
    nodes = [make("Conv", [pixels, "blocks.differences"], [last], SUBTRACTION, **three)]
    for index, node in enumerate(between):
        new = onnx.NodeProto()
        new.CopyFrom(node)
        new.input[0], new.output[0], new.name = last, f"blocks.residual{index}", f"blocks.{node.op_type.lower()}"
        nodes.append(new)
        last = new.output[0]
    windows = [f"{_FIRST}.window{index}" for index in range(4)]
    nodes += [make("Conv", [last, f"{name}.weight", bias], [name], name, kernel_shape=[1, 1]) for name in windows]
    nodes.append(make("Max", windows, [f"{_FIRST}.largest"], f"{_FIRST}.pool"))
    nodes.append(make("Relu", [f"{_FIRST}.largest"], [pooled], f"{_FIRST}.relu"))
    return nodes


def make_differences() -> NDArray[np.float32]:
    """Weights ``(16, 3, 3, 3)``: five pixels of three colours less what each is compared with, and nothing."""
    weight = np.zeros((VALUES, _COLOURS, 3, 3), np.float32)
    for place, (pixel, anchor) in enumerate(PLACES):
        for colour in range(_COLOURS):
            weight[_COLOURS * place + colour, colour][pixel] = 1
            weight[_COLOURS * place + colour, colour][anchor] = -1
    return weight


def spread_windows(weight: NDArray[np.floating]) -> list[NDArray[np.floating]]:
    """Weights ``(C, 3, 2, 2)`` of the first convolution as those of its four windows, each ``(C, 16, 1, 1)``."""
    sets = []
    for down, right in np.ndindex(2, 2):
        spread = np.zeros((len(weight), VALUES, 1, 1), weight.dtype)
        for place, ((row, column), _) in enumerate(PLACES):
            if 0 <= row - down <= 1 and 0 <= column - right <= 1:
                own = slice(_COLOURS * place, _COLOURS * (place + 1))
                spread[:, own, 0, 0] = weight[:, :, row - down, column - right]
        sets.append(spread)
    return sets


def _find_stage(
    graph: onnx.GraphProto,
) -> tuple[onnx.NodeProto, list[onnx.NodeProto], onnx.NodeProto, onnx.NodeProto] | None:
    """The subtraction of NPR, what stands behind it in order, the convolution, and its pooling; None for others."""
    makers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    first = next((node for node in graph.node if node.op_type == "Conv"), None)
    if first is None or first.name != _FIRST or len(first.input) != 3 or not _is_window(first, "kernel_shape", pads=0):
        return None
    between: list[onnx.NodeProto] = []
    node = makers.get(first.input[0])
    while node is not None and node.op_type in ("Abs", "Cast") and len(readers[node.output[0]]) == 1:
        between.insert(0, node)
        node = makers.get(node.input[0])
    behind = [first]
    while len(found := readers.get(behind[-1].output[0], [])) == 1 and len(behind) < 3:
        behind.append(found[0])
    if node is None or node.op_type != "Sub" or [one.op_type for one in behind] != ["Conv", "Relu", "MaxPool"]:
        return None
    if not _is_window(behind[2], "kernel_shape", "strides", pads=0):
        return None
    return node, between, first, behind[2]


def _is_window(node: onnx.NodeProto, *sizes: str, pads: int) -> bool:
    """Whether a node's sizes are 2x2 and nothing is padded."""
    found = {attribute.name: list(attribute.ints) for attribute in node.attribute if attribute.ints}
    return all(found.get(name) == [2, 2] for name in sizes) and set(found.get("pads", [])) <= {pads}


def _type_of(model: onnx.ModelProto, tensor: str) -> int:
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = (*inferred.value_info, *inferred.input)
    return next(int(value.type.tensor_type.elem_type) for value in values if value.name == tensor)


def _constant(name: str, values: NDArray[np.floating], kind: int) -> onnx.TensorProto:
    # As raw bytes, which is the one form of bfloat16 that all readers understand.
    content = torch.from_numpy(values).to(_TORCH_TYPES[kind]).contiguous().view(torch.uint8).numpy().tobytes()
    return helper.make_tensor(name, kind, values.shape, content, raw=True)


def _replace_producers(model: onnx.ModelProto, tensor: str, kept: str, nodes: list[onnx.NodeProto]) -> None:
    """Put nodes in the place of all that makes ``tensor`` out of ``kept``, and drop what nobody reads any more."""
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    waiting, gone = [tensor], []
    while waiting:
        name = waiting.pop()
        node = makers.get(name)
        if name != kept and node is not None and node not in gone:
            gone.append(node)
            waiting += node.input
    for node in gone:
        graph.node.remove(node)
    place = max((index + 1 for index, node in enumerate(graph.node) if kept in node.output), default=0)
    for offset, node in enumerate(nodes):
        graph.node.insert(place + offset, node)
    read = {name for node in graph.node for name in node.input}
    for constant in [constant for constant in graph.initializer if constant.name not in read]:
        graph.initializer.remove(constant)
    del graph.value_info[:]
    graph.value_info.extend(onnx.shape_inference.infer_shapes(model).graph.value_info)
