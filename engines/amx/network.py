"""A graph's layers as compiled code takes them, and the memory that a thread needs for pictures of one size."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.amx.forward import LAST, PAIR, PLAIN, POOLED, RING, Ends, Room
from engines.amx.layers import Layer, Layers
from engines.amx.packing import pack_convolution, pack_differences, pack_products, pack_windows
from engines.amx.shapes import ROW_BYTES, ROWS, make_configurations
from lfm_deploy.artifacts import GraphInfo

_LINE = 64
_ALL_ROWS = -1
# Behind the last row of the last maps: tiles read whole pieces of 64 bytes of 16 positions.
_SLACK_BYTES = 1 << 15


@dataclass(slots=True)
class Arrays:
    """Arrays whose addresses compiled code is given, so that they live as long as those are used.

    Attributes:
        kept: the arrays.
    """

    kept: list[NDArray[Any]] = field(default_factory=list)

    def place(self, values: NDArray[Any]) -> int:
        """Address of a copy that begins at the start of a cache line, as tiles are fastest to read.

        Args:
            values: numbers to copy, of any dtype: int8 ``(C_out, C_in)`` for instance.
        """
        copy = self._make(values.shape, values.dtype)
        copy[...] = values
        return int(copy.ctypes.data)

    def make(self, shape: Sequence[int], dtype: Any) -> int:
        """Address of zeros."""
        return int(self._make(shape, dtype).ctypes.data)

    def _make(self, shape: Sequence[int], dtype: Any) -> NDArray[Any]:
        size = math.prod(shape) * np.dtype(dtype).itemsize
        memory = np.zeros(size + _LINE, np.uint8)
        start = -memory.ctypes.data % _LINE
        self.kept.append(memory[start : start + size].view(dtype).reshape(shape))
        return self.kept[-1]


@dataclass(frozen=True, slots=True)
class Network:
    """A graph, laid out for the kernels; see ``forward.compile_judge`` for the forms.

    Attributes:
        info: contract, architecture and origin of the graph.
        dtype: dtype of the maps, uint16 for bfloat16 or uint8.
        ends: weights and addresses of what stands before and behind the convolutions.
        stages: convolutions after the first one, int64 ``(depth - 1, 6)``.
        inputs: channels of the maps that each of them reads.
        linear: weights of the linear layer, float32 ``(k, P)``.
        arrays: arrays that the addresses point to.
    """

    info: GraphInfo
    dtype: np.dtype[Any]
    ends: Ends
    stages: NDArray[np.int64]
    inputs: tuple[int, ...]
    linear: NDArray[np.float32]
    arrays: Arrays


@dataclass(frozen=True, slots=True)
class Workspace:
    """Memory of one thread for pictures of one size; see ``forward.compile_judge`` for the forms.

    Attributes:
        places: places of the maps, int64 ``(depth - 1, 6)``.
        room: addresses of the memory.
        largest: room for the largest values, float32 ``(k, P)``.
        arrays: arrays that the addresses point to.
    """

    places: NDArray[np.int64]
    room: Room
    largest: NDArray[np.float32]
    arrays: Arrays


def make_network(layers: Layers) -> Network:
    """Lay weights out; widths are filled up with channels that are 0.

    Args:
        layers: layers of a graph, as ``read_layers`` gives them.
    """
    config, arrays = layers.info.config, Arrays()
    first = _widen(layers.convolutions[0], 1, ROWS)
    dtype = np.dtype(np.uint16 if first.weight.dtype == np.uint16 else np.uint8)
    stages, widths = [], [len(first.bias)]
    for number, layer in enumerate(layers.convolutions[1:], start=1):
        filled = _widen(_deepen(layer, widths[-1]), 0, PAIR)
        packed = pack_convolution(filled.weight)
        kind = LAST if number == config.depth - 1 else POOLED if number < config.pools else PLAIN
        widths.append(len(filled.bias))
        bias, multipliers = arrays.place(filled.bias), arrays.place(filled.multiplier)
        stages.append((kind, arrays.place(packed), packed.shape[1], bias, multipliers, widths[-1]))
    projection = _widen(_deepen(layers.projection, widths[-1]), 0, PAIR)
    packed = pack_products(projection.weight)
    linear = np.zeros((config.k, len(projection.bias)), np.float32)
    linear[:, : config.channels] = layers.linear
    ends = Ends(
        size=dtype.itemsize,
        configurations=arrays.place(make_configurations(dtype)),
        differences=arrays.place(pack_differences()),
        windows=arrays.place(pack_windows(first.weight)),
        bias=arrays.place(first.bias),
        multipliers=arrays.place(first.multiplier),
        channels=len(first.bias),
        projection=arrays.place(packed),
        projection_steps=packed.shape[1],
        projection_bias=arrays.place(projection.bias),
        projection_multipliers=arrays.place(projection.multiplier),
        projection_zero=projection.zero,
        projected=len(projection.bias),
        linear_bias=layers.bias,
    )
    return Network(layers.info, dtype, ends, np.array(stages, np.int64), tuple(widths[:-1]), linear, arrays)


def make_workspace(network: Network, height: int, width: int) -> Workspace:
    """Memory for the pictures of one size, filled with zeros.

    Args:
        network: the network.
        height: height of the pictures in pixels, even and large enough for the architecture.
        width: width of the pictures in pixels, even and large enough for the architecture.
    """
    arrays, dtype = Arrays(), network.dtype
    places, start = [], 0
    rows, columns = height // 2 - 1, width // 2 - 1
    for number, (stage, inputs) in enumerate(zip(network.stages, network.inputs, strict=True)):
        row_values = (-(-columns // ROWS) + 1) * ROWS * inputs
        places.append((start, row_values, RING - 1 if number == 0 else _ALL_ROWS, rows, columns, inputs))
        start += row_values * (RING if number == 0 else rows)
        rows, columns = rows - 1, columns - 1
        if stage[0] == POOLED:
            rows, columns = rows // 2, columns // 2
    # Tiles read whole pieces of 64 bytes of the last position too, whose channels may fill half of one.
    room = Room(
        maps=arrays.make((start + _SLACK_BYTES // dtype.itemsize,), dtype),
        values=arrays.make((width // 2 - 1 + ROWS, ROWS), dtype),
        signed=arrays.make((ROWS, ROWS), np.int32),
        windows=arrays.make((4, ROWS, ROWS), np.int32),
        sums=arrays.make((2, ROWS, PAIR), np.int32),
        last=arrays.make((2 * ROWS * int(network.stages[-1, 5]) + ROW_BYTES,), dtype),
        projected=arrays.make((rows * columns, network.ends.projected), np.float32),
        positions=rows * columns,
    )
    return Workspace(np.array(places, np.int64), room, np.zeros_like(network.linear), arrays)


def _widen(layer: Layer, axis: int, step: int) -> Layer:
    """A layer whose number of outputs is a multiple of a step."""
    more = -len(layer.bias) % step
    bias, multiplier = (np.pad(values, (0, more)) for values in (layer.bias, layer.multiplier))
    padding = [(0, more if index == axis else 0) for index in range(layer.weight.ndim)]
    return Layer(np.pad(layer.weight, padding), bias, multiplier, layer.zero)


def _deepen(layer: Layer, inputs: int) -> Layer:
    """A layer that reads so many channels."""
    padding = [(0, inputs - layer.weight.shape[1] if index == 1 else 0) for index in range(layer.weight.ndim)]
    return Layer(np.pad(layer.weight, padding), layer.bias, layer.multiplier, layer.zero)
