"""The ranges that tools choose by themselves, computed from a tensor's histogram: here they are only candidates.

All of them look at the tensor alone. Which of them the network can live with is measured on its logits, elsewhere.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import rel_entr

from calib.histogram import StreamingHistogram

PERCENTILES = (99.9, 99.99, 99.999)
_ENTROPY_BINS, _ENTROPY_LEVELS, _ENTROPY_EPSILON = 1024, 255, 0.0001
_MSE_STEPS = 200


def find_candidates(histogram: StreamingHistogram, levels: int) -> dict[str, tuple[float, float]]:
    """Named ranges ``(low, high)`` of one tensor.

    Args:
        histogram: histogram of the tensor's values.
        levels: integer steps between 0 and the largest value that is kept: 127 (int8) or 255 (uint8).
    """
    lowest, highest = min(histogram.lowest, 0.0), max(histogram.highest, 0.0)
    found = {"min/max": (lowest, highest)}
    for percent in PERCENTILES:
        found[f"{percent:g} %"] = _percentile(histogram, percent)
    found["MSE"] = _least_squares(histogram, levels)
    found["entropy"] = _least_divergence(histogram)
    return {name: (max(low, lowest), min(high, highest)) for name, (low, high) in found.items()}


def _centres(histogram: StreamingHistogram) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    edges = histogram.edges
    kept = histogram.counts > 0
    return ((edges[:-1] + edges[1:]) / 2)[kept], histogram.counts[kept].astype(np.float64)


def _percentile(histogram: StreamingHistogram, percent: float) -> tuple[float, float]:
    """What share of all values lies inside; of a tensor with both signs, as much is cut off at each end."""
    total = histogram.counts.sum()
    below = np.concatenate([[0], np.cumsum(histogram.counts)]) / total
    tail = 1 - percent / 100
    if histogram.lowest >= 0:
        return 0.0, float(np.interp(1 - tail, below, histogram.edges))
    low, high = np.interp([tail / 2, 1 - tail / 2], below, histogram.edges)
    return float(low), float(high)


def _least_squares(histogram: StreamingHistogram, levels: int) -> tuple[float, float]:
    """The share of min/max with the least mean squared error."""
    centres, weights = _centres(histogram)
    low, high = min(histogram.lowest, 0.0), max(histogram.highest, 0.0)
    shares = np.linspace(1 / _MSE_STEPS, 1, _MSE_STEPS)
    errors = [
        float((_quantisation_error(centres, low * share, high * share, levels) ** 2 * weights).sum())
        for share in shares
    ]
    best = float(shares[int(np.argmin(errors))])
    return low * best, high * best


def _least_divergence(histogram: StreamingHistogram) -> tuple[float, float]:
    """Threshold on |x| with the least Kullback-Leibler divergence, as ONNX Runtime finds it.

    Source: ``HistogramCollector.get_entropy_threshold`` of ``onnxruntime.quantization.calibrate``, which adds up its
    bins one at a time in Python.
    """
    sizes = np.abs((histogram.edges[:-1] + histogram.edges[1:]) / 2)
    width = max(-histogram.lowest, histogram.highest)
    half, _ = np.histogram(sizes, _ENTROPY_BINS // 2, (0, width), weights=histogram.counts)
    counts = np.concatenate([half[::-1], half]).astype(np.int64)
    edges = np.linspace(-width, width, _ENTROPY_BINS + 1).astype(np.float32)
    middle = _ENTROPY_BINS // 2
    reaches = range(_ENTROPY_LEVELS // 2, middle + 1)
    divergences = [_divergence(counts, middle - reach, min(middle + reach + 1, _ENTROPY_BINS)) for reach in reaches]
    best = reaches[int(np.argmin(divergences))]
    high = float(min(edges[min(middle + best + 1, _ENTROPY_BINS)], np.float32(width)))
    return (0.0 if histogram.lowest >= 0 else -high), high


def _divergence(counts: NDArray[np.int64], start: int, end: int) -> float:
    """Of the bins from ``start`` to ``end``, with what lies outside in the outermost, from the same in few levels."""
    inside = counts[start:end]
    clipped = inside.copy()
    clipped[0] += counts[:start].sum()
    clipped[-1] += counts[end:].sum()
    merged = len(inside) // _ENTROPY_LEVELS
    whole = merged * _ENTROPY_LEVELS
    levels = inside[:whole].reshape(_ENTROPY_LEVELS, merged).sum(axis=1)
    levels[-1] += inside[whole:].sum()
    filled = np.count_nonzero(clipped[:whole].reshape(_ENTROPY_LEVELS, merged), axis=1)
    spread = np.zeros_like(inside)
    spread[:whole] = np.repeat(np.where(filled > 0, levels / np.maximum(filled, 1), 0), merged)
    if not clipped.any() or not spread.any():
        return np.inf
    expected, found = (values / values.sum() for values in (_smooth(clipped), _smooth(spread)))
    return float(rel_entr(expected, found).sum())


def _smooth(counts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Counts with a little in the empty bins, taken off the others; float32."""
    empty = counts == 0
    zeros = np.count_nonzero(empty)
    taken = _ENTROPY_EPSILON * zeros / (len(counts) - zeros)
    return counts.astype(np.float32) + np.where(empty, _ENTROPY_EPSILON, -taken).astype(np.float32)


def _quantisation_error(values: NDArray[np.float64], low: float, high: float, levels: int) -> NDArray[np.float64]:
    """What rounding and clipping to a range changes; symmetric int8 where ``levels`` is 127."""
    symmetric = levels == 127
    scale = max(max(-low, high) if symmetric else high - low, np.finfo(np.float64).tiny) / levels
    zero = 0 if symmetric else round(-low / scale)
    least, most = (-128, 127) if symmetric else (0, 255)
    codes = np.clip(np.rint(values / scale) + zero, least, most)
    return np.asarray((codes - zero) * scale - values)
