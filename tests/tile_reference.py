"""What the kernels for AMX compute, in NumPy: layers with random weights, and their logits."""

from types import SimpleNamespace

import numpy as np

from engines.amx.layers import Layer, Layers
from export.blocks import PLACES, spread_windows


def make_layers(config, *, integers, seed=0):
    """Layers of an architecture with random weights, of which about half of the maps are above 0."""
    rng = np.random.default_rng(seed)
    layers, inputs = [], 3
    for number, width in enumerate((*config.widths, config.projection)):
        taps = () if number == config.depth else (2, 2)
        shape, zero = (width, inputs, *taps), 7 if number == config.depth else 0
        if integers:
            weight = rng.integers(-127, 128, shape).astype(np.int8)
            bias = rng.integers(-9000, 9000, width).astype(np.int32)
            spread = 40 * 70 * np.sqrt(inputs * 4)
            multiplier = (rng.uniform(0.5, 2, width) * 60 / spread).astype(np.float32)
        else:
            weight = to_bits(rng.normal(0, 1 / np.sqrt(inputs * 2), shape).astype(np.float32))
            bias = from_bits(to_bits(rng.normal(0, 0.5, width).astype(np.float32)))
            multiplier = np.zeros(width, np.float32)
        if number == 0:
            weight = np.stack(spread_windows(weight))[:, :, :, 0, 0].astype(weight.dtype)
        layers.append(Layer(weight, bias, multiplier, zero))
        inputs = width
    linear = rng.normal(0, 1, (config.k, config.projection)).astype(np.float32)
    return Layers(SimpleNamespace(config=config), tuple(layers[:-1]), layers[-1], linear, np.float32(0.25))


def judge(layers, pictures):
    """Logits, float64 ``(N,)``, with maps rounded as the kernels round them."""
    return np.array([_judge_one(layers, picture.astype(np.int64)) for picture in pictures])


def _judge_one(layers, pixels):
    config = layers.info.config
    height, width = (side // 2 * 2 - 2 for side in pixels.shape[:2])

    def every_second(row, column):
        return pixels[row : row + height : 2, column : column + width : 2]

    values = [np.abs(every_second(*place) - every_second(*first)) for place, first in PLACES]
    values = np.concatenate([*values, np.zeros_like(values[0][..., :1])], axis=2).astype(np.float64)
    first = layers.convolutions[0]
    sums = [values @ _numbers(window).T for window in first.weight]
    maps = _narrow(np.max(sums, axis=0) + first.bias, first)
    for number, layer in enumerate(layers.convolutions[1:], start=1):
        weight = _numbers(layer.weight)
        rows, columns = maps.shape[0] - 1, maps.shape[1] - 1
        sums = sum(
            maps[down : down + rows, right : right + columns] @ weight[:, :, down, right].T
            for down, right in np.ndindex(2, 2)
        )
        maps = _narrow(sums + layer.bias, layer)
        if number < min(config.pools, config.depth - 1):
            rows, columns = rows // 2, columns // 2
            maps = maps[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2, -1).max(axis=(1, 3))
    layer = layers.projection
    projected = maps @ _numbers(layer.weight).T + layer.bias
    if layer.weight.dtype == np.int8:
        whole = np.rint(projected.astype(np.float32) * layer.multiplier) + layer.zero
        projected = np.clip(whole, 0, 255).astype(np.float64)
    largest = np.sort(projected.reshape(-1, projected.shape[2]), axis=0)[::-1][: config.k]
    return float((largest * layers.linear).sum() + layers.bias)


def _narrow(sums, layer):
    positive = np.maximum(sums, 0).astype(np.float32)
    if layer.weight.dtype == np.int8:
        return np.minimum(np.rint(positive * layer.multiplier), 255).astype(np.float64)
    return from_bits(to_bits(positive)).astype(np.float64)


def _numbers(weight):
    return (from_bits(weight) if weight.dtype == np.uint16 else weight).astype(np.float64)


def to_bits(values):
    """The upper half of float32, rounded to nearest, halves to even."""
    bits = values.view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bits(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)
