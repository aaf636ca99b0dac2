"""LFM in PyTorch: NPR features -> SNet -> Top-K pooling -> linear; the published forward pass.

Source: "LFM" (repository lmlpy/LFM), and NPR (CVPR 2024) for the first step. This is the reference that every
exported graph and every engine is compared with; nothing in it exists for training alone.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lfm_deploy.config import IMAGENET_MEAN, IMAGENET_STD, ModelConfig, ValueOrder
from lfm_deploy.errors import ShapeError


def normalise(images: Tensor) -> Tensor:
    """Published pre-processing: ``ToTensor`` and ImageNet normalisation.

    Args:
        images: uint8 ``(N, H, W, 3)``, RGB.

    Returns:
        float32 ``(N, 3, H, W)``.
    """
    mean = torch.tensor(IMAGENET_MEAN, device=images.device).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=images.device).view(3, 1, 1)
    return (images.permute(0, 3, 1, 2).to(torch.float32).div(255) - mean) / std


def neighbouring_pixel_relationships(x: Tensor) -> Tensor:
    """|NPR|: each pixel minus the top-left pixel of its 2x2 block, without sign.

    Args:
        x: ``(N, 3, H, W)``, H and W even.

    Returns:
        ``(N, 3, H, W)``, not negative; every top-left pixel of a block is 0.
    """
    anchors = x[..., ::2, ::2]
    return (x - F.interpolate(anchors, scale_factor=2.0, mode="nearest")).abs()


class SNet(nn.Sequential):
    """Shallow network: ``(N, 3, H, W)`` -> ``(N, widths[-1], h, w)``, with (h, w) as ``config.map_size``.

    Each stage is a 2x2 convolution without padding, batch normalisation and ReLU; all but the last end in a
    2x2 max pooling. 256x256 pixels become 30x30 positions in the published model.
    """

    def __init__(self, config: ModelConfig) -> None:
        stages: OrderedDict[str, nn.Module] = OrderedDict()
        channels = 3
        for index, width in enumerate(config.widths, start=1):
            layers = [nn.Conv2d(channels, width, kernel_size=2), nn.BatchNorm2d(width), nn.ReLU()]
            if index < config.depth:
                layers.append(nn.MaxPool2d(2))
            stages[f"layer{index}"] = nn.Sequential(*layers)
            channels = width
        super().__init__(stages)


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


class LFM(nn.Module):
    """The detector: normalised pictures ``(N, 3, H, W)`` -> logits ``(N,)``; above 0 is fake."""

    def __init__(self, config: ModelConfig | None = None) -> None:
        super().__init__()
        self.config = config or ModelConfig()
        self.snet = SNet(self.config)
        self.projection = nn.Conv2d(self.config.widths[-1], self.config.projection, kernel_size=1, bias=False)
        self.pool = TopKPooling(self.config.k, self.config.order)
        self.fc = nn.Linear(self.config.projection * self.config.k, 1)

    def features(self, x: Tensor) -> Tensor:
        """The TKP vector: normalised pictures ``(N, 3, H, W)`` -> ``(N, projection * k)``.

        Raises:
            ShapeError: H or W is odd, or too small for k positions.
        """
        check_size(self.config, x.shape[-2], x.shape[-1])
        pooled: Tensor = self.pool(self.projection(self.snet(neighbouring_pixel_relationships(x))))
        return pooled

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(N,)`` of normalised pictures ``(N, 3, H, W)``."""
        logits: Tensor = self.fc(self.features(x))
        return logits.squeeze(1)


def check_size(config: ModelConfig, height: int, width: int) -> None:
    """Refuse a picture size that NPR or Top-K pooling is not defined for.

    Raises:
        ShapeError: a side is odd, or the feature map has fewer than k positions.
    """
    if height % 2 or width % 2:
        raise ShapeError(
            f"a picture of {width}x{height} has an odd side, expected even ones (NPR compares each pixel "
            "with its 2x2 block); resize it"
        )
    rows, columns = config.map_size(height, width)
    if rows * columns < config.k:
        raise ShapeError(
            f"a picture of {width}x{height} gives {rows * columns} positions per channel, Top-K pooling needs "
            f"{config.k}; use {config.min_square}x{config.min_square} or more"
        )
