"""Pooling: from a feature map ``(N, C, h, w)`` to the values ``(N, features)`` that the linear layer sees.

All but the choice of values is computed in float32, also where the map is float16: a sum over a thousand positions has
no place in ten bits.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lfm_deploy.config import ATTENTION_REDUCTION, ModelConfig, Pooling, ValueOrder


class TopKPooling(nn.Module):
    """The k largest values of each channel: ``(N, C, h, w)`` -> ``(N, C * k)``, channel by channel.

    Values alone are passed on, so a tie between positions cannot change the result.
    """

    def __init__(self, k: int, order: ValueOrder) -> None:
        super().__init__()
        self.k = k
        self.order = order

    def select(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Values ``(N, C, k)`` in the model's order, and their positions ``row * w + column``, int64."""
        values, positions = maps.flatten(2).topk(self.k, dim=2, largest=True, sorted=True)
        if self.order is ValueOrder.ASCENDING:
            values, positions = values.flip(2), positions.flip(2)
        return values, positions

    def forward(self, maps: Tensor) -> Tensor:
        """Pool ``(N, C, h, w)`` to ``(N, C * k)``."""
        return self.select(maps)[0].flatten(1)


class AveragePooling(nn.Module):
    """The mean of each channel: ``(N, C, h, w)`` -> ``(N, C)``."""

    def forward(self, maps: Tensor) -> Tensor:
        """Pool ``(N, C, h, w)`` to ``(N, C)``."""
        return _widened(maps).mean(dim=(2, 3))


class MaxPooling(nn.Module):
    """The largest value of each channel: ``(N, C, h, w)`` -> ``(N, C)``."""

    def forward(self, maps: Tensor) -> Tensor:
        """Pool ``(N, C, h, w)`` to ``(N, C)``."""
        return _widened(maps).amax(dim=(2, 3))


class AttentionPooling(nn.Module):
    """A weighted mean of each channel, the weights by spatial attention: ``(N, C, h, w)`` -> ``(N, C)``.

    weights = softmax over all positions of a 1x1 convolution to one channel of the ReLU of a 1x1 convolution to C/8.
    The published code takes the softmax over each row alone; its text says all positions, which is what happens here.
    The last convolution has no bias: the softmax would cancel it.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        reduced = max(channels // ATTENTION_REDUCTION, 1)
        self.reduce = nn.Conv2d(channels, reduced, kernel_size=1)
        self.score = nn.Conv2d(reduced, 1, kernel_size=1, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Pool ``(N, C, h, w)`` to ``(N, C)``."""
        scores = self.score(F.relu(self.reduce(maps))).flatten(2)
        weights = _widened(scores).softmax(dim=2)
        pooled: Tensor = (_widened(maps).flatten(2) * weights).sum(dim=2)
        return pooled


def build_pooling(config: ModelConfig) -> TopKPooling | AveragePooling | MaxPooling | AttentionPooling:
    """The module of a config's pooling."""
    match config.pooling:
        case Pooling.TOPK:
            return TopKPooling(config.k, config.order)
        case Pooling.AVERAGE:
            return AveragePooling()
        case Pooling.MAX:
            return MaxPooling()
        case Pooling.ATTENTION:
            return AttentionPooling(config.channels)


def _widened(maps: Tensor) -> Tensor:
    return maps.to(torch.promote_types(maps.dtype, torch.float32))
