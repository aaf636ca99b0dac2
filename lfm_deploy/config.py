"""The architecture of one detector, as frozen values that travel with every artifact."""

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Annotated, Any

from msgspec import Meta

from lfm_deploy.errors import ConfigError
from lfm_deploy.geometry import (
    BOTTLENECK_EXPANSION,
    RESNET_LAYERS,
    Window,
    receptive_field,
    resnet_windows,
    snet_windows,
)

# Normalisation that the published checkpoint was trained with, per channel R, G, B, for pixels in 0..1.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

ATTENTION_REDUCTION = 8
# ResNet-152 has 60 M weights and 2,048 channels: a file that asks for more than these is damaged, not ambitious.
_MOST_WEIGHTS = 1 << 27
_MOST_CHANNELS, _MOST_STAGES, _MOST_K = 1 << 13, 16, 1 << 14
Channels = Annotated[int, Meta(ge=1, le=_MOST_CHANNELS)]


class ValueOrder(StrEnum):
    """The order in which Top-K pooling hands a channel's values to the linear layer.

    The published checkpoint was trained with descending values; Algorithm 1 of the paper writes ascending.
    """

    DESCENDING = "descending"
    ASCENDING = "ascending"


class Backbone(StrEnum):
    """What turns residuals into a feature map: LFM's shallow network, or NPR's ResNet-50 without its last layers."""

    SNET = "snet"
    RESNET50 = "resnet50"


class Residual(StrEnum):
    """What is taken of each pixel's difference to its block's first: LFM |NPR|, the baseline NPR times 2/3."""

    ABSOLUTE = "absolute"
    SIGNED = "signed"


class Pooling(StrEnum):
    """What is kept of a channel: its k largest values, their mean, the largest, or a mean that attention weighs."""

    TOPK = "topk"
    AVERAGE = "average"
    MAX = "max"
    ATTENTION = "attention"

    @property
    def words(self) -> str:
        """Name in messages."""
        return "Top-K pooling" if self is Pooling.TOPK else f"{self} pooling"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The parts of a detector: residual, backbone, projection, pooling; the defaults are the published LFM.

    The paper does not say how SNet of depth 5 to 8 is built. Here the first three stages end in a 2x2 max pooling, as
    published, and every further one is a 2x2 convolution, batch norm and ReLU, of 512 channels, without pooling: with
    it, depth 7 would leave fewer than 16 positions.

    Attributes:
        widths: output channels of SNet's 2x2 convolutions, first to last. For ResNet-50, channels inside the
            bottlenecks of its first two layers, which give 4 times as many; layers beyond these two are left out.
        projection: output channels of the 1x1 convolution before the pooling; 0 for none.
        k: number of each channel's largest values that Top-K pooling hands to the linear layer.
        order: order of those values.
        backbone: the network between residual and projection.
        residual: kind of residual that the backbone sees: |NPR|, or NPR with its sign times 2/3.
        pooling: values that are kept of each channel for the linear layer.
        pools: number of SNet's first stages that end in a max pooling; the last never does.
    """

    widths: Annotated[tuple[Channels, ...], Meta(min_length=1, max_length=_MOST_STAGES)] = (64, 128, 256, 512)
    projection: Annotated[int, Meta(ge=0, le=_MOST_CHANNELS)] = 64
    k: Annotated[int, Meta(ge=1, le=_MOST_K)] = 16
    order: ValueOrder = ValueOrder.DESCENDING
    backbone: Backbone = Backbone.SNET
    residual: Residual = Residual.ABSOLUTE
    pooling: Pooling = Pooling.TOPK
    pools: Annotated[int, Meta(ge=0, le=_MOST_STAGES)] = 3

    def __post_init__(self) -> None:
        """Refuse an architecture that cannot exist."""
        if len(self.widths) < 1 or min(*self.widths, self.k, 1) < 1 or min(self.projection, self.pools) < 0:
            raise ConfigError(f"widths and k must be positive, projection and pools not negative, got {self}")
        if self.backbone is Backbone.RESNET50:
            if len(self.widths) < len(RESNET_LAYERS):
                raise ConfigError(f"resnet50 has {len(RESNET_LAYERS)} layers, so as many widths, got {self.widths}")
            object.__setattr__(self, "widths", self.widths[: len(RESNET_LAYERS)])
        self._check_size()

    def _check_size(self) -> None:
        """Refuse a network that no machine would hold, before anything is allocated for it."""
        largest = max(*self.widths, self.projection)
        if largest > _MOST_CHANNELS or max(self.depth, self.pools) > _MOST_STAGES or self.k > _MOST_K:
            raise ConfigError(
                f"a network has up to {_MOST_STAGES} stages of up to {_MOST_CHANNELS} channels and k up to {_MOST_K}, "
                f"got {self}"
            )
        if sum(window.weights for window in self.windows) + self.features > _MOST_WEIGHTS:
            raise ConfigError(f"a network has up to {_MOST_WEIGHTS:,} weights, got {self}")

    @property
    def title(self) -> str:
        """The architecture in words, for messages."""
        body = f"SNet of depth {self.depth}" if self.backbone is Backbone.SNET else "the truncated ResNet-50"
        return f"{body} with {self.pooling.words}"

    @property
    def depth(self) -> int:
        """How many 2x2 convolutions SNet has; how many layers of bottlenecks ResNet-50."""
        return len(self.widths)

    @property
    def maps(self) -> int:
        """Channels that the backbone gives."""
        return self.widths[-1] * (1 if self.backbone is Backbone.SNET else BOTTLENECK_EXPANSION)

    @property
    def channels(self) -> int:
        """Channels that are pooled."""
        return self.projection or self.maps

    @property
    def features(self) -> int:
        """How many values the linear layer reads."""
        return self.channels * (self.k if self.pooling is Pooling.TOPK else 1)

    @property
    def positions(self) -> int:
        """How many positions the feature map must have."""
        return self.k if self.pooling is Pooling.TOPK else 1

    @property
    def windows(self) -> tuple[Window, ...]:
        """Convolutions and max poolings, in the order of the exported graph."""
        snet = self.backbone is Backbone.SNET
        found = [*(snet_windows(self.widths, self.pools) if snet else resnet_windows(self.widths))]
        if self.projection:
            found.append(Window("projection", 1, inputs=self.maps, outputs=self.projection))
        if self.pooling is Pooling.ATTENTION:
            reduced = max(self.channels // ATTENTION_REDUCTION, 1)
            found.append(Window("pool.reduce", 1, inputs=self.channels, outputs=reduced))
            found.append(Window("pool.score", 1, inputs=reduced, outputs=1))
        return tuple(found)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the convolutions, in order: of SNet ``conv1``, ``conv2``, ..., ``projection``."""
        return tuple(window.name for window in self.windows if window.outputs)

    def multiply_adds(self, height: int, width: int) -> dict[str, int]:
        """Multiply-adds of each convolution for one picture of ``height`` x ``width`` pixels; LFM's 1.58 G at 256.

        The linear layer's few thousand are left out.

        Args:
            height: height of the picture in pixels.
            width: width of the picture in pixels.
        """
        counts: dict[str, int] = {}
        for window in self.windows:
            height, width = window.shrink(height), window.shrink(width)
            if window.outputs:
                counts[window.name] = height * width * window.weights
        return counts

    @property
    def stride(self) -> int:
        """How many pixels one step on the feature map is."""
        return receptive_field(self.windows)[1]

    @property
    def receptive_field(self) -> int:
        """Side of the square of pixels of NPR that one position of the feature map sees."""
        return receptive_field(self.windows)[0]

    def map_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the feature map for a picture of ``height`` x ``width`` pixels.

        Args:
            height: height of the picture in pixels.
            width: width of the picture in pixels.
        """
        for window in self.windows:
            height, width = window.shrink(height), window.shrink(width)
        return height, width

    @property
    def min_square(self) -> int:
        """Side of the smallest even square picture whose feature map holds as many positions as pooling needs."""
        # Larger than any that the limits of an architecture allow: a stage takes half of the side at most.
        sides = range(2, (_MOST_K + 2) << (_MOST_STAGES + 1), 2)
        return sides[bisect_left(sides, self.positions, key=lambda side: math.prod(self.map_size(side, side)))]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON and for checkpoints, which hold no classes."""
        plain = {name: str(value) if isinstance(value, StrEnum) else value for name, value in asdict(self).items()}
        return plain | {"widths": list(self.widths)}


def complete_config(values: Any) -> Any:
    """The values of a config with the keys that there were not yet when LFM's was the only architecture.

    Args:
        values: plain values of a file, to be held against ``ModelConfig`` afterwards.
    """
    if not isinstance(values, Mapping):
        return values
    widths = values.get("widths")
    # Before there was a key for it, every stage but the last was pooled.
    pools = max(3, len(widths) - 1) if isinstance(widths, list) else 3
    later = {"backbone": Backbone.SNET, "residual": Residual.ABSOLUTE, "pooling": Pooling.TOPK, "pools": pools}
    return {name: value if isinstance(value, int) else str(value) for name, value in later.items()} | dict(values)


LFM = ModelConfig()
"""The published network."""

NPR = ModelConfig(
    backbone=Backbone.RESNET50, residual=Residual.SIGNED, pooling=Pooling.AVERAGE, projection=0, widths=(64, 128)
)
"""The baseline that LFM is compared with: NPR (CVPR 2024)."""

NAMED = {"lfm": LFM, "npr": NPR}


def check_explainable(config: ModelConfig, where: str) -> None:
    """Refuse evidence of a network whose decisions are not sums over positions that were selected.

    Raises:
        ConfigError: the network has no evidence; the message says what to do instead.
    """
    if config.pooling is not Pooling.TOPK or config.backbone is not Backbone.SNET:
        raise ConfigError(
            f"{where}: evidence is there for SNet with Top-K pooling, this is {config.title}; leave --evidence out"
        )


def check_quantisable(config: ModelConfig, where: str) -> None:
    """Refuse INT8 for a network that its ranges and its search for layers are not made for.

    Raises:
        ConfigError: the network cannot be quantised; the message says what to do instead.
    """
    lfm = config.pooling is Pooling.TOPK and config.backbone is Backbone.SNET and config.projection
    if not lfm or config.residual is not Residual.ABSOLUTE:
        residual = f" of {config.residual} residuals" if lfm else ""
        raise ConfigError(
            f"{where}: INT8 is made for SNet with |NPR|, a projection and Top-K pooling, this is {config.title}"
            f"{residual}; run 'lfm-deploy build --fp16' instead"
        )
