"""Rounding weights to int8 so that the layer's answers stay, not each weight by itself.

Rounding weight row w to q changes the answers to inputs x by (w - q) x, in the mean square by (w - q) H (w - q)^T with
H = E[x x^T]. Rounding to nearest minimises each (w - q)^2 instead, and its errors add up where inputs go together: the
inputs of SNet are 0 or more, so they do. Here the weights of a row are rounded one after the other, and the error of
each is made up for by those that are still free. With the Cholesky factor U of H^-1 (upper, H^-1 = U^T U) that is
w[j] -= (w[i] - q[i]) / U[i, i] * U[i, j] for all j > i.

Source: Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers", ICLR 2023.
"""

import numpy as np
from numpy.typing import NDArray

_LARGEST_CODE = 127
# Added to the diagonal, as a share of its mean: inputs that hardly vary would otherwise make up for anything.
_DAMPING = 0.01
# Weights beyond a block make up for all of its errors at once: the same sums, and less memory that is passed over.
_BLOCK = 32
# A step that is much finer cuts the largest weight off, and one that is much coarser is worse wherever weights lie.
_FEW_WEIGHTS, _FACTORS = 64, np.linspace(0.8, 1.6, 161)


def choose_scales(weight: NDArray[np.floating]) -> NDArray[np.float64]:
    """One symmetric int8 scale for each output channel ``(O,)``, which its largest weight fills."""
    largest = np.abs(weight.astype(np.float64)).reshape(len(weight), -1).max(axis=1)
    return np.asarray(np.where(largest > 0, largest, 1.0) / _LARGEST_CODE)


def refine_scales(
    weight: NDArray[np.floating], scales: NDArray[np.floating], moments: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Scales ``(O,)`` with which rounded weights change a layer's answers least.

    A row of few weights, such as the first layer's twelve, is near whole multiples of some steps and far from those of
    others. A row of hundreds has no such step.

    Args:
        weight: ``(O, C, h, w)``.
        scales: ``(O,)``, from ``choose_scales``.
        moments: mean of x x^T over input patches x ``(K, K)``.
    """
    rows = weight.astype(np.float64).reshape(len(weight), -1)
    best, least = scales.astype(np.float64), np.full(len(scales), np.inf)
    if rows.shape[1] > _FEW_WEIGHTS:
        return best
    steps = best * np.array([1.0, *_FACTORS])[:, None]
    found = _round_rows(np.broadcast_to(rows, (len(steps), *rows.shape)), steps, moments)
    for codes, tried in zip(found, steps, strict=True):
        changes = codes * tried[:, None] - rows
        errors = np.einsum("oi,ij,oj->o", changes, moments, changes)
        best, least = np.where(errors < least, tried, best), np.minimum(errors, least)
    return best


def round_weights(
    weight: NDArray[np.floating], scales: NDArray[np.floating], moments: NDArray[np.floating]
) -> NDArray[np.int8]:
    """int8 codes of a convolution's weights that change its answers least.

    Args:
        weight: ``(O, C, h, w)``.
        scales: ``(O,)``; a code stands for ``code * scale``.
        moments: mean of x x^T over input patches x ``(K, K)``, K = C h w in the order of the weight's last axes.

    Returns:
        int8 of the weight's shape, from -127 to 127.
    """
    rows = weight.astype(np.float64).reshape(len(weight), -1)
    return _round_rows(rows, scales.astype(np.float64), moments).reshape(weight.shape).astype(np.int8)


def _round_rows(
    rows: NDArray[np.float64], steps: NDArray[np.float64], moments: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Codes of rows ``(..., O, K)`` with steps ``(..., O)``; no row has a part in another's."""
    damped = moments + np.eye(len(moments)) * max(_DAMPING * float(np.mean(np.diag(moments))), np.finfo(float).tiny)
    order = np.argsort(-np.diag(damped), kind="stable")  # what matters most is rounded while all others are free
    rows = rows[..., order]
    factor = np.linalg.cholesky(np.linalg.inv(damped[np.ix_(order, order)])).T
    codes, errors = np.empty_like(rows), np.empty_like(rows)
    for start in range(0, rows.shape[-1], _BLOCK):
        end = min(start + _BLOCK, rows.shape[-1])
        for index in range(start, end):
            codes[..., index] = np.clip(np.rint(rows[..., index] / steps), -_LARGEST_CODE, _LARGEST_CODE)
            errors[..., index] = (rows[..., index] - codes[..., index] * steps) / factor[index, index]
            rows[..., index + 1 : end] -= errors[..., index, None] * factor[index, index + 1 : end]
        rows[..., end:] -= errors[..., start:end] @ factor[start:end, end:]
    restored = np.empty_like(codes)
    restored[..., order] = codes
    return restored
