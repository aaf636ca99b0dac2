"""The detectors in PyTorch: residual -> backbone -> projection -> pooling -> linear; the published forward passes.

Source: "LFM" (repository lmlpy/LFM), with NPR -> SNet -> Top-K pooling, and NPR (CVPR 2024), with signed NPR ->
truncated ResNet-50 -> mean. This is the reference that every exported graph and every engine is compared with; nothing
in it exists for training alone.
"""

from collections import OrderedDict
from typing import cast

import torch
from torch import Tensor, nn

from lfm_deploy.config import IMAGENET_MEAN, IMAGENET_STD, Backbone, ModelConfig
from lfm_deploy.errors import ShapeError
from lfm_deploy.network.pooling import build_pooling
from lfm_deploy.network.residuals import build_residual
from lfm_deploy.network.resnet import TruncatedResNet50


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


class SNet(nn.Sequential):
    """Shallow network: ``(N, 3, H, W)`` -> ``(N, widths[-1], h, w)``, with (h, w) as ``config.map_size``.

    Each stage is a 2x2 convolution without padding, batch normalisation and ReLU; the first ``config.pools``, but never
    the last, also have a 2x2 max pooling. 256x256 pixels become 30x30 positions in the published model.

    The pooling stands before the ReLU: the largest of four values is the same value whether those below 0 were
    replaced by 0 before or after, and after it there are a quarter as many.
    """

    def __init__(self, config: ModelConfig) -> None:
        stages: OrderedDict[str, nn.Module] = OrderedDict()
        channels = 3
        for index, width in enumerate(config.widths, start=1):
            layers: list[nn.Module] = [nn.Conv2d(channels, width, kernel_size=2), nn.BatchNorm2d(width)]
            if index <= config.pools and index < config.depth:
                layers.append(nn.MaxPool2d(2))
            layers.append(nn.ReLU(inplace=True))
            stages[f"layer{index}"] = nn.Sequential(*layers)
            channels = width
        super().__init__(stages)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, 3, H, W)`` -> ``(N, widths[-1], h, w)``."""
        first, *others = self
        x = _run_first(first, x)
        for stage in others:
            x = stage(x)
        return x


def _run_first(stage: nn.Module, x: Tensor) -> Tensor:
    """The first stage, on a CPU with the channels of a pixel side by side in memory, which changes no bit of it.

    Its convolution and its pooling, over the largest maps of all, are faster so; the backward pass of the next
    convolutions is not, and they get their input channel by channel again.
    """
    if x.device.type != "cpu" or not x.is_contiguous():
        return cast(Tensor, stage(x))
    return cast(Tensor, stage(x.contiguous(memory_format=torch.channels_last))).contiguous()


class LFM(nn.Module):
    """A detector: normalised pictures ``(N, 3, H, W)`` -> logits ``(N,)``; above 0 is fake.

    ``config`` says which parts it has: LFM's by default, those of its ablations, or those of the baseline NPR.
    """

    def __init__(self, config: ModelConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or ModelConfig()
        self.residual = build_residual(config.residual)
        # By its own name, because checkpoints call its parameters so.
        self.add_module(config.backbone, build_backbone(config))
        self.projection = build_projection(config)
        self.pool = build_pooling(config)
        self.fc = nn.Linear(config.features, 1)

    @property
    def backbone(self) -> nn.Module:
        """From residuals ``(N, 3, H, W)`` to maps ``(N, config.maps, h, w)``: ``snet`` or ``resnet50``."""
        backbone: nn.Module = getattr(self, self.config.backbone.value)
        return backbone

    def maps(self, x: Tensor) -> Tensor:
        """What is pooled: normalised pictures ``(N, 3, H, W)`` -> ``(N, config.channels, h, w)``.

        Raises:
            ShapeError: H or W is odd, or too small for the pooling.
        """
        check_size(self.config, x.shape[-2], x.shape[-1])
        maps: Tensor = self.projection(self.backbone(self.residual(x)))
        return maps

    def features(self, x: Tensor) -> Tensor:
        """The pooled vector, of LFM the TKP vector: ``(N, 3, H, W)`` -> ``(N, config.features)``; errors as above."""
        pooled: Tensor = self.pool(self.maps(x))
        return pooled

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(N,)`` of normalised pictures ``(N, 3, H, W)``."""
        logits: Tensor = self.fc(self.features(x))
        return logits.squeeze(1)


def build_backbone(config: ModelConfig) -> SNet | TruncatedResNet50:
    """The module of a config's backbone."""
    return SNet(config) if config.backbone is Backbone.SNET else TruncatedResNet50(config.widths)


def build_projection(config: ModelConfig) -> nn.Conv2d | nn.Identity:
    """The 1x1 convolution in front of the pooling, where there is one."""
    if not config.projection:
        return nn.Identity()
    return nn.Conv2d(config.maps, config.projection, kernel_size=1, bias=False)


def check_size(config: ModelConfig, height: int, width: int) -> None:
    """Refuse a picture size that NPR or the pooling is not defined for.

    Raises:
        ShapeError: a side is odd, or the feature map has too few positions.
    """
    if height % 2 or width % 2:
        raise ShapeError(
            f"a picture of {width}x{height} has an odd side, expected even ones (NPR compares each pixel "
            "with its 2x2 block); resize it"
        )
    rows, columns = config.map_size(height, width)
    if rows * columns < config.positions:
        raise ShapeError(
            f"a picture of {width}x{height} gives {rows * columns} positions per channel, {config.pooling.words} needs "
            f"{config.positions}; use {config.min_square}x{config.min_square} or more"
        )
