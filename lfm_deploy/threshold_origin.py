"""Where a threshold came from: the pictures that it was chosen on, and what it promises of others like them."""

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from lfm_deploy.storage.values import Count, Sha256

Rate = Annotated[float, Meta(gt=0, lt=1)]
"""A share that says something: neither none nor all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdOrigin:
    """What a threshold was chosen by.

    Attributes:
        checkpoint_sha256: SHA-256 of the checkpoint whose logits they were; of another one the threshold says nothing.
        pictures: folder or list of pictures, as it was named.
        pictures_sha256: SHA-256 over the contents of these pictures and their labels.
        real, fake: number of pictures of each class that were judged.
        rate: share of real pictures that may be called fake, a fraction.
        confidence: confidence that the share stays below the rate, a fraction.
        miss_rate: share of fakes that may be called real, a fraction, by which the lower end of the band was chosen;
            None without a band.
        each_group: whether the rate is kept in each group of pictures, instead of in all together.
        at: time in UTC and ISO 8601, to the second, ending in ``Z``.
    """

    checkpoint_sha256: Sha256
    pictures: str
    pictures_sha256: Sha256
    real: Count
    fake: Count
    rate: Rate
    confidence: Rate
    at: str
    miss_rate: Rate | None = None
    each_group: bool = False

    def __str__(self) -> str:
        """For people."""
        scope = "in each group" if self.each_group else "together"
        band = "" if self.miss_rate is None else f", and {100 * self.miss_rate:g} % of fakes called real"
        return (
            f"chosen on {self.real:,} real and {self.fake:,} fake pictures of {self.pictures}, {scope}, for at most "
            f"{100 * self.rate:g} % of real pictures called fake{band} ({100 * self.confidence:g} % sure), {self.at}"
        )
