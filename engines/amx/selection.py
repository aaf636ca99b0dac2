"""Top-K pooling and the linear layer: the k largest values of each channel, in order, weighed and added up."""

from typing import Any

import numpy as np
from numba import njit

from engines.amx.vectors import LANES, sort_in

_SIZE = 4  # bytes of a float32


@njit(nogil=True)
def judge_maps(maps: int, positions: int, linear: Any, bias: Any, largest: Any) -> Any:
    """The logit of one picture.

    Args:
        maps: address of the projected maps, float32 ``(positions, channels)``, channels a multiple of 16.
        positions: number of positions, at least k.
        linear: weights of the linear layer, float32 ``(k, channels)``; those of the largest values come first.
        bias: bias of the linear layer, float32.
        largest: room for the largest values, float32 ``(k, channels)``.
    """
    k, channels = linear.shape
    largest[:] = -np.inf
    lists = largest.ctypes.data
    for position in range(positions):
        values = maps + _SIZE * channels * position
        for channel in range(0, channels, LANES):
            sort_in(values + _SIZE * channel, lists + _SIZE * channel, k, _SIZE * channels)
    total = bias
    for place in range(k):
        for channel in range(channels):
            total += largest[place, channel] * linear[place, channel]
    return total
