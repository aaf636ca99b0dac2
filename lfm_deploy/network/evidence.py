"""Where in a picture a decision came from, exactly.

The logit is linear in the values that Top-K pooling selected: logit = bias + sum over channels c and ranks r of
weight[c, r] * value[c, r]. Each selected value has a position on the feature map, and each position sees a square
of pixels, so every term of the sum belongs to a square of the picture. Nothing is estimated.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lfm_deploy.config import ModelConfig
from lfm_deploy.errors import ShapeError

_REAL_COLOUR = np.array([30, 120, 255], dtype=np.float32)
_FAKE_COLOUR = np.array([255, 60, 30], dtype=np.float32)
_STRONGEST_TINT = 0.65


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The selected values of a batch and where they stand.

    Attributes:
        logits: float32 ``(N,)``; above the threshold is fake.
        values: selected values, float32 ``(N, C, k)``, in the model's order.
        positions: positions of these values, int32 ``(N, C, k)``, ``row * w + column`` on the feature map of
            ``config.map_size``.
    """

    logits: NDArray[np.float32]
    values: NDArray[np.float32]
    positions: NDArray[np.int32]


def evidence_contributions(values: NDArray[np.float32], fc_weight: NDArray[np.float32]) -> NDArray[np.float64]:
    """What each selected value adds to the logit, float64 ``(N, C, k)``; above 0 speaks for fake.

    Args:
        values: selected values, float32 ``(N, C, k)``.
        fc_weight: weight of the linear layer, float32 ``(1, C * k)``.

    Raises:
        ShapeError: the shapes do not belong to one network.
    """
    if values.ndim != 3 or fc_weight.shape != (1, values.shape[1] * values.shape[2]):
        raise ShapeError(
            f"values {values.shape} and linear weights {fc_weight.shape} do not belong together, expected "
            "(N, C, k) and (1, C*k) of one checkpoint"
        )
    return values.astype(np.float64) * fc_weight.astype(np.float64).reshape(1, *values.shape[1:])


def evidence_map(
    contributions: NDArray[np.float64],
    positions: NDArray[np.int32],
    config: ModelConfig,
    height: int,
    width: int,
) -> NDArray[np.float64]:
    """Contributions of one picture spread over the pixels that they came from, float64 ``(height, width)``.

    Each contribution is shared equally by the pixels of its receptive field, so the map sums to logit - bias.

    Args:
        contributions: contributions of one picture's values, float64 ``(C, k)``, from ``evidence_contributions``.
        positions: positions of these values on the feature map, int32 ``(C, k)``, as in ``Evidence``.
        config: architecture of the network.
        height: height of the picture in pixels.
        width: width of the picture in pixels.
    """
    rows, columns = config.map_size(height, width)
    cells = np.bincount(positions.ravel(), weights=contributions.ravel(), minlength=rows * columns).reshape(
        rows, columns
    )
    field, stride = config.receptive_field, config.stride
    spread = np.zeros((height, width))
    for row, column in np.argwhere(cells):
        top, left = row * stride, column * stride
        spread[top : top + field, left : left + field] += cells[row, column] / field**2
    return spread


def draw_evidence(picture: NDArray[np.uint8], spread: NDArray[np.float64]) -> Image.Image:
    """The picture with its evidence on it: red where it speaks for fake, blue for real.

    Args:
        picture: picture as it was judged, uint8 ``(H, W, 3)``.
        spread: evidence at each pixel, float64 ``(H, W)``, from ``evidence_map``.

    Raises:
        ShapeError: picture and map differ in size.
    """
    if picture.shape != (*spread.shape, 3):
        raise ShapeError(
            f"the picture is {picture.shape} and its evidence {spread.shape}, expected (H, W, 3) and (H, W) of "
            "the same picture"
        )
    grey = picture.astype(np.float32).mean(axis=2, keepdims=True)
    strongest = np.abs(spread).max() or 1.0
    strength = (np.abs(spread) / strongest)[..., None].astype(np.float32) * _STRONGEST_TINT
    colour = np.where(spread[..., None] > 0, _FAKE_COLOUR, _REAL_COLOUR)
    blended: NDArray[Any] = grey * (1 - strength) + colour * strength
    return Image.fromarray(blended.round().astype(np.uint8))
