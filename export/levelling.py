"""A range for each channel of what Top-K pooling selects from, where the format allows one for the whole tensor.

Pooling keeps the k largest values of each channel, so that what matters of channel y lies between the least and the
largest value that is ever selected there, and channels differ widely. The projection is linear and has no ReLU behind
it, so it can give

    z = (y - low) / (high - low) * levels

instead, which fills the integers from 0 to ``levels`` at a scale of exactly 1, for every channel. Pooling picks the
same positions of z as of y, and y = z (high - low) / levels + low is restored for the few values that were selected.
"""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from export.names import find_convolutions

# How far each end lies beyond what was selected on calibration pictures, as a share of their distance: other pictures
# go further, and a quarter costs half a bit.
MARGIN = 0.25


def choose_channel_ranges(lowest: NDArray[np.floating], highest: NDArray[np.floating]) -> NDArray[np.float64]:
    """Ranges ``(C, 2)`` from the least and the largest selected value of each channel ``(C,)``, with a margin."""
    widths = np.maximum(highest.astype(np.float64) - lowest, np.finfo(np.float32).tiny)
    return np.stack([lowest - MARGIN * widths, highest + MARGIN * widths], axis=1)


def level_channels(model: onnx.ModelProto, ranges: NDArray[np.floating], levels: int) -> None:
    """Let the last convolution give z instead of y, and restore y behind Top-K pooling, in place.

    Args:
        model: a float32 graph with the names of ``export.names``.
        ranges: lowest and highest value of each channel ``(C, 2)``.
        levels: largest integer.
    """
    graph = model.graph
    convolution = find_convolutions(model)[-1]
    weights = {tensor.name: tensor for tensor in graph.initializer}
    lows, steps = ranges[:, 0], (ranges[:, 1] - ranges[:, 0]) / levels
    weight = weights[convolution.input[1]]
    _replace(weight, numpy_helper.to_array(weight) / steps.reshape(-1, 1, 1, 1))
    if len(convolution.input) == 2:
        convolution.input.append("projection.bias")
        graph.initializer.append(numpy_helper.from_array(np.zeros(len(lows), np.float32), "projection.bias"))
        weights["projection.bias"] = graph.initializer[-1]
    bias = weights[convolution.input[2]]
    _replace(bias, (numpy_helper.to_array(bias) - lows) / steps)
    (top,) = [node for node in graph.node if node.op_type == "TopK"]
    selected, names = top.output[0], [f"selected.{part}" for part in ("levelled", "step", "scaled", "low")]
    top.output[0] = names[0]
    for name, values in ((names[1], steps), (names[3], lows)):
        graph.initializer.append(numpy_helper.from_array(values.astype(np.float32).reshape(-1, 1), name))
    index = list(graph.node).index(top)
    graph.node.insert(index + 1, onnx.helper.make_node("Mul", [names[0], names[1]], [names[2]], name="selected.mul"))
    graph.node.insert(index + 2, onnx.helper.make_node("Add", [names[2], names[3]], [selected], name="selected.add"))


def selected_name(model: onnx.ModelProto) -> str:
    """Name of the tensor ``(N, C, k)`` that Top-K pooling gives."""
    (top,) = [node for node in model.graph.node if node.op_type == "TopK"]
    return str(top.output[0])


def _replace(tensor: onnx.TensorProto, values: NDArray[np.floating]) -> None:
    tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))
