"""The architecture of one LFM network, as frozen values that travel with every artifact."""

from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, Self

from lfm_deploy.errors import ConfigError

# Normalisation that the published checkpoint was trained with, per channel R, G, B, for pixels in 0..1.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class ValueOrder(StrEnum):
    """The order in which Top-K pooling hands a channel's values to the linear layer.

    The published checkpoint was trained with descending values; Algorithm 1 of the paper writes ascending.
    """

    DESCENDING = "descending"
    ASCENDING = "ascending"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Depth, width, k and value order of an LFM network; the defaults are the published model.

    Attributes:
        widths: output channels of SNet's 2x2 convolutions, first to last. Every one but the last is followed
            by a 2x2 max pooling.
        projection: output channels of the 1x1 convolution before Top-K pooling.
        k: how many of each channel's largest values reach the linear layer.
        order: the order of those values.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512)
    projection: int = 64
    k: int = 16
    order: ValueOrder = ValueOrder.DESCENDING

    def __post_init__(self) -> None:
        """Refuse an architecture that cannot exist."""
        if len(self.widths) < 1 or min(*self.widths, self.projection, self.k, 1) < 1:
            raise ConfigError(f"widths, projection and k must be positive, got {self}")

    @property
    def depth(self) -> int:
        """How many 2x2 convolutions SNet has."""
        return len(self.widths)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the convolutions, in order: ``conv1``, ``conv2``, ..., ``projection``."""
        return (*(f"conv{stage}" for stage in range(1, self.depth + 1)), "projection")

    def multiply_adds(self, height: int, width: int) -> dict[str, int]:
        """Multiply-adds of each convolution for one picture of ``height`` x ``width`` pixels; 1.58 G in all at 256.

        The linear layer's few thousand are left out.
        """
        counts: dict[str, int] = {}
        channels = 3
        for layer, width_out in zip(self.layers, (*self.widths, self.projection), strict=True):
            taps = 1 if layer == "projection" else 4
            if taps == 4:
                height, width = height - 1, width - 1
            counts[layer] = height * width * channels * width_out * taps
            channels = width_out
            if layer not in self.layers[-2:]:
                height, width = height // 2, width // 2
        return counts

    @property
    def stride(self) -> int:
        """How many pixels one step on the feature map is."""
        return int(2 ** (self.depth - 1))

    @property
    def receptive_field(self) -> int:
        """Side of the square of pixels of |NPR| that one position of the feature map sees."""
        field, jump = 1, 1
        for stage in range(self.depth):
            field += jump  # 2x2 convolution
            if stage < self.depth - 1:
                field += jump  # 2x2 max pooling
                jump *= 2
        return field

    def map_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the feature map for a picture of ``height`` x ``width`` pixels."""

        def shrink(side: int) -> int:
            for stage in range(self.depth):
                side -= 1
                if stage < self.depth - 1:
                    side //= 2
            return max(side, 0)

        return shrink(height), shrink(width)

    @property
    def min_square(self) -> int:
        """Side of the smallest even square picture whose feature map holds k positions."""
        side = 2
        while (cells := self.map_size(side, side))[0] * cells[1] < self.k:
            side += 2
        return side

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"widths": list(self.widths), "order": str(self.order)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Read what ``as_dict`` wrote.

        Raises:
            ConfigError: a key is missing or unknown, or a value is out of range.
        """
        known = {f.name for f in fields(cls)}
        if set(values) != known:
            raise ConfigError(f"a model config has the keys {sorted(known)}, this one has {sorted(values)}")
        try:
            return cls(
                widths=tuple(int(w) for w in values["widths"]),
                projection=int(values["projection"]),
                k=int(values["k"]),
                order=ValueOrder(values["order"]),
            )
        except (TypeError, ValueError) as error:
            raise ConfigError(f"a model config with bad values: {error}") from None
