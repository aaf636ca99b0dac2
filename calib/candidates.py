"""The ranges that tools choose by themselves, computed from a tensor's histogram: here they are only candidates.

All of them look at the tensor alone. Which of them the network can live with is measured on its logits, elsewhere.
"""

import numpy as np
from numpy.typing import NDArray

from calib.histogram import StreamingHistogram

PERCENTILES = (99.9, 99.99, 99.999)
# ONNX Runtime's search for the smallest divergence takes time in proportion to the square of its bins.
_ENTROPY_BINS, _ENTROPY_LEVELS = 1024, 255
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
    """Threshold on |x| with the least Kullback-Leibler divergence, by ONNX Runtime."""
    from onnxruntime.quantization.calibrate import CalibrationMethod, HistogramCollector

    sizes = np.abs((histogram.edges[:-1] + histogram.edges[1:]) / 2)
    width = max(-histogram.lowest, histogram.highest)
    half, _ = np.histogram(sizes, _ENTROPY_BINS // 2, (0, width), weights=histogram.counts)
    counts = np.concatenate([half[::-1], half]).astype(np.int64)
    edges = np.linspace(-width, width, _ENTROPY_BINS + 1).astype(np.float32)
    collector = HistogramCollector(CalibrationMethod.Entropy, True, _ENTROPY_BINS, _ENTROPY_LEVELS, 99.999, "same")
    seen = np.float32(-width), np.float32(width)
    _, threshold = collector.get_entropy_threshold((counts, edges, *seen), _ENTROPY_LEVELS)
    high = float(threshold)
    return (0.0 if histogram.lowest >= 0 else -high), high


def _quantisation_error(values: NDArray[np.float64], low: float, high: float, levels: int) -> NDArray[np.float64]:
    """What rounding and clipping to a range changes; symmetric int8 where ``levels`` is 127."""
    symmetric = levels == 127
    scale = max(max(-low, high) if symmetric else high - low, np.finfo(np.float64).tiny) / levels
    zero = 0 if symmetric else round(-low / scale)
    least, most = (-128, 127) if symmetric else (0, 255)
    codes = np.clip(np.rint(values / scale) + zero, least, most)
    return np.asarray((codes - zero) * scale - values)
