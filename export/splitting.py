"""Finer steps for loud channels: what a channel has above the reach of one scale is carried by copies of it.

A scale that is fine enough for most values of a channel clips its largest, and one that is wide enough for those is too
coarse for all others. A channel y of a convolution can be written in parts instead, each of which saturates at T and
covers twice as much as the part below,

    min(relu(y), 3 T) = min(relu(y), T) + 2 min(relu((y - T) / 2), T)

and so on: p parts reach (2^p - 1) T, with steps as fine as one part of T has where most values lie. relu((y - T) / 2)
is the same convolution with other weights and another bias, max pooling commutes with all of it, and the next
convolution reads the part with twice the weights. The saturation is the quantised tensor's own, so the equation holds
only where the tensor is quantised. Some more channels are the price.

Source of the idea: Zhao et al., "Improving Neural Network Quantization without Retraining using Outlier Channel
Splitting", ICML 2019, which halves values instead.
"""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from export.names import find_convolutions

# More channels, as a share of those that are there.
EXTRA_SHARE = 1 / 4
# Channels whose first part is narrower than the widest by more than this keep steps that they do not need: the weights
# that read them are divided by as much, and lose their own.
LARGEST_GAIN = 16.0


def count_parts(reach: NDArray[np.floating], importance: NDArray[np.floating]) -> NDArray[np.int64]:
    """In how many parts to write each channel; the one with the coarsest steps gets the next one.

    Args:
        reach: largest value of each channel that is to be kept ``(C,)``, more than 0.
        importance: weight of each channel's steps ``(C,)``, such as the length of the weights that read it.

    Returns:
        int64 ``(C,)``, 1 or more; the sum is C and ``EXTRA_SHARE`` of it.
    """
    parts = np.ones(len(reach), np.int64)
    for _ in range(int(len(parts) * EXTRA_SHARE)):
        parts[int((importance * _first_widths(reach, parts)).argmax())] += 1
    return parts


def choose_part_gains(reach: NDArray[np.floating], parts: NDArray[np.int64], high: float) -> NDArray[np.float64]:
    """What to multiply each channel by, so that its parts reach as far as they are to.

    Args:
        reach: largest value of each channel that is to be kept ``(C,)``, more than 0.
        parts: number of parts of each channel ``(C,)``.
        high: largest value that one part keeps.

    Returns:
        float64 ``(C,)``; at most ``LARGEST_GAIN`` times the smallest of them.
    """
    gains = high / _first_widths(reach.astype(np.float64), parts)
    return np.asarray(np.minimum(gains, LARGEST_GAIN * gains.min()))


def widest_part(reach: NDArray[np.floating], parts: NDArray[np.int64]) -> float:
    """Largest value that the first part of a channel keeps, of the channel where that is most."""
    return float(_first_widths(reach, parts).max())


def place_parts(parts: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """What each channel of a tensor in parts is.

    Args:
        parts: number of parts of each channel ``(C,)``.

    Returns:
        The old channel of each new one, of which the first C are as they were; what a part is multiplied by when parts
        are added up; and where it begins, in units of what one part keeps. Each ``(parts.sum(),)``.
    """
    copies = np.repeat(np.arange(len(parts)), parts - 1)
    sources = np.concatenate([np.arange(len(parts)), copies])
    numbers = np.concatenate([np.zeros(len(parts)), *(np.arange(1, count) for count in parts)])
    widths = np.exp2(numbers)
    return sources, widths, widths - 1


def cut_into_parts(values: NDArray[np.floating], parts: NDArray[np.int64], high: float) -> NDArray[np.floating]:
    """A tensor ``(N, C, H, W)`` in parts ``(N, parts.sum(), H, W)``, each from 0 to ``high``.

    Args:
        values: equalised values.
        parts: number of parts of each channel ``(C,)``.
        high: largest value that one part keeps.
    """
    sources, widths, begins = (factors.reshape(-1, 1, 1) for factors in place_parts(parts))
    spread = values[:, sources.ravel()] - (begins * high).astype(values.dtype)
    return np.clip(spread / widths.astype(values.dtype), 0, high)


def join_parts(values: NDArray[np.floating], parts: NDArray[np.int64]) -> NDArray[np.floating]:
    """A tensor ``(N, C, H, W)`` from its parts ``(N, parts.sum(), H, W)``."""
    sources, widths, _ = place_parts(parts)
    joined = values[:, : len(parts)].copy()
    for extra in range(len(parts), len(sources)):
        joined[:, sources[extra]] += values[:, extra] * values.dtype.type(widths[extra])
    return joined


def split_channels(model: onnx.ModelProto, layer: str, parts: NDArray[np.int64], high: float) -> None:
    """Write the input channels of a layer in parts, in place.

    Args:
        model: a typed graph with the names of ``export.names``.
        layer: a convolution that has another one in front of it.
        parts: number of parts of each input channel ``(C,)``.
        high: largest value that one part keeps, which the tensor's scale must saturate at.
    """
    convolutions = find_convolutions(model)
    index = [node.name for node in convolutions].index(layer)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    before, after = convolutions[index - 1], convolutions[index]
    sources, widths, begins = place_parts(parts)
    for name in before.input[1:]:
        values = numpy_helper.to_array(tensors[name])[sources]
        if name == before.input[1]:
            values = values / widths.reshape(-1, 1, 1, 1).astype(values.dtype)
        else:
            values = (values - (begins * high).astype(values.dtype)) / widths.astype(values.dtype)
        tensors[name].CopyFrom(numpy_helper.from_array(values, name))
    weight = split_weights(numpy_helper.to_array(tensors[after.input[1]]), parts)
    tensors[after.input[1]].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(weight), after.input[1]))
    del model.graph.value_info[:]  # the shapes between the two have changed
    inferred = onnx.shape_inference.infer_shapes(model)
    model.graph.value_info.extend(inferred.graph.value_info)


def split_weights(weight: NDArray[np.floating], parts: NDArray[np.int64]) -> NDArray[np.floating]:
    """Weights ``(O, C, h, w)`` that read whole channels as those that read parts ``(O, parts.sum(), h, w)``."""
    sources, widths, _ = place_parts(parts)
    return np.asarray(weight[:, sources] * widths.reshape(1, -1, 1, 1).astype(weight.dtype))


def _first_widths(reach: NDArray[np.floating], parts: NDArray[np.int64]) -> NDArray[np.floating]:
    return np.asarray(reach / (np.exp2(parts) - 1))
