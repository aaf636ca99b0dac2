"""Finer steps for loud channels: what a channel has above the range of its scale is carried by copies of it.

A scale that is fine enough for most channels clips the loudest, and one that is wide enough for those is too coarse
for all others. A channel y of a convolution can be written in parts instead, each of which saturates at the range T,

    min(relu(y), 2 T) = min(relu(y), T) + min(relu(y - T), T)

and so on for more parts. relu(y - T) is the same convolution with another bias, max pooling commutes with all of it,
and the next convolution reads each part with the same weights. The saturation is the quantised tensor's own, so the
equation holds only where the tensor is quantised. Some more channels are the price.

Source of the idea: Zhao et al., "Improving Neural Network Quantization without Retraining using Outlier Channel
Splitting", ICML 2019, which halves values instead.
"""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from export.names import find_convolutions

# More channels, as a share of those that are there.
EXTRA_SHARE = 1 / 8


def count_parts(channel_highest: NDArray[np.floating], high: float) -> NDArray[np.int64]:
    """In how many parts to write each channel; the loudest for its parts gets the next one, while there are any.

    Args:
        channel_highest: largest value of each channel ``(C,)``.
        high: largest value that one part keeps.

    Returns:
        int64 ``(C,)``, 1 or more; the sum is at most C and ``EXTRA_SHARE`` of it.
    """
    parts = np.ones(len(channel_highest), np.int64)
    for _ in range(int(len(parts) * EXTRA_SHARE)):
        excess = channel_highest / (parts * high)
        loudest = int(excess.argmax())
        if excess[loudest] <= 1:
            break
        parts[loudest] += 1
    return parts


def split_channels(model: onnx.ModelProto, layer: str, parts: NDArray[np.int64], high: float) -> NDArray[np.intp]:
    """Write the input channels of a layer in parts, in place.

    Args:
        model: a typed graph with the names of ``export.names``.
        layer: a convolution that has another one in front of it.
        parts: number of parts of each input channel ``(C,)``.
        high: largest value that one part keeps, which the tensor's scale must saturate at.

    Returns:
        The old channel of each new one; the first C are as they were.
    """
    convolutions = find_convolutions(model)
    index = [node.name for node in convolutions].index(layer)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    before, after = convolutions[index - 1], convolutions[index]
    copies = np.repeat(np.arange(len(parts)), parts - 1)
    sources = np.concatenate([np.arange(len(parts)), copies])
    numbers = np.concatenate([np.zeros(len(parts)), *(np.arange(1, count) for count in parts)])
    for name in before.input[1:]:
        values = numpy_helper.to_array(tensors[name])[sources]
        if name != before.input[1]:
            values = values - (numbers * high).astype(values.dtype)
        tensors[name].CopyFrom(numpy_helper.from_array(values, name))
    weight = numpy_helper.to_array(tensors[after.input[1]])[:, sources]
    tensors[after.input[1]].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(weight), after.input[1]))
    del model.graph.value_info[:]  # the shapes between the two have changed
    inferred = onnx.shape_inference.infer_shapes(model)
    model.graph.value_info.extend(inferred.graph.value_info)
    return sources
