"""Equal use of a scale: quiet channels are made as loud as their neighbours before a tensor is quantised.

One scale serves all channels of an activation, and half of SNet's channels never reach a tenth of the loudest one, so
that they would get by with a few steps. ReLU and max pooling commute with a positive factor, hence for any gains g > 0

    conv'(pool(relu(g * (W x + b)))) = conv(pool(relu(W x + b)))   where conv' divides its weights by g.

Gains that are powers of two round nothing in float32 and float16: the network stays what it was, bit by bit, until it
is quantised. They end at ``LARGEST_GAIN``, since weights that are divided by much lose their own steps.

Where a picture has no detail, all residuals are 0, and every channel gives what its biases give: the same value at each
such place, and the same error if that value falls between two steps, so that errors of whole surfaces add up. A gain
that puts this value on a step has none there. In float32 it moves the network by no more than rounding.

Source of the idea: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias
Correction", ICCV 2019, which scales by the weights; here it is by the activations and what of them is kept.
"""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from export.names import find_convolutions

LARGEST_GAIN = 8.0
_FEWEST_STEPS = 2.0


def choose_gains(channel_highest: NDArray[np.floating], high: float) -> NDArray[np.float64]:
    """Powers of two that lift each channel's largest value towards ``high``, but not above it.

    Args:
        channel_highest: largest value of each channel ``(C,)``, 0 or more.
        high: largest value of the tensor that its scale keeps.

    Returns:
        float64 ``(C,)``, from 1 to ``LARGEST_GAIN``.
    """
    quietest = high / LARGEST_GAIN
    room = high / np.maximum(channel_highest.astype(np.float64), quietest)
    return np.exp2(np.floor(np.log2(np.maximum(room, 1.0))))


def align_gains(
    gains: NDArray[np.floating], resting: NDArray[np.floating], high: float, levels: int
) -> NDArray[np.float64]:
    """Gains that put the value of each channel without detail on a step, none larger than it was.

    Args:
        gains: gains ``(C,)``.
        resting: value of each channel where all residuals are 0 ``(C,)``, 0 or more.
        high: largest value of the tensor that its scale keeps.
        levels: steps from 0 to ``high``.
    """
    steps = resting.astype(np.float64) * gains * levels / high
    # Below a few steps the next whole one is far, and a channel that rests above its range is cut off there anyway.
    movable = (steps >= _FEWEST_STEPS) & (steps <= levels)
    return np.where(movable, gains * np.floor(steps) / np.where(movable, steps, 1.0), gains)


def apply_gains(model: onnx.ModelProto, layer: str, gains: NDArray[np.float64]) -> None:
    """Multiply what the convolution in front of ``layer`` gives, and divide what ``layer`` reads, in place.

    Args:
        model: a typed graph with the names of ``export.names``.
        layer: a convolution that has another one in front of it.
        gains: one for each of its input channels.
    """
    convolutions = find_convolutions(model)
    index = [node.name for node in convolutions].index(layer)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    before, after = convolutions[index - 1], convolutions[index]
    for name in before.input[1:]:
        shape = (-1, 1, 1, 1) if name == before.input[1] else (-1,)
        _scale(weights[name], gains.reshape(shape))
    _scale(weights[after.input[1]], 1 / gains.reshape(1, -1, 1, 1))


def _scale(tensor: onnx.TensorProto, factors: NDArray[np.float64]) -> None:
    values = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array((values * factors).astype(values.dtype), tensor.name))
