"""What a graph expects of its pictures and what its answer means; inside every artifact, compared on load."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any, Literal

from msgspec import Meta

from lfm_deploy.errors import ContractError
from lfm_deploy.storage.values import Count, Sha256

SizePolicy = int | Literal["native"]

# Far above all pictures; an artifact that asks for more is damaged, and would take the memory for it.
LARGEST_SIDE = 1 << 15
# Hundreds of times what a trained network answers.
LARGEST_LOGIT = 1e5
# Of the square pictures that stand for all sizes where an artifact takes any: those that the network was trained on.
_USUAL_SIDE = 256
# What says how a logit becomes a decision; no picture and no logit depends on it.
_OF_CHOICE = ("uncertain_above", "chosen")
_OF_DECISIONS = ("threshold", *_OF_CHOICE)

# JPEG by libjpeg-turbo's accurate integer IDCT and smooth chroma up-sampling, as Pillow has it; EXIF orientation is
# never applied, transparency is dropped, of an animation the first frame counts.
EXACT_DECODER: Literal["pillow-libjpeg-turbo-islow-smooth"] = "pillow-libjpeg-turbo-islow-smooth"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """How a picture becomes an input and a logit becomes a decision.

    Attributes:
        size: side in pixels of the square that pictures are resized to, or ``"native"``: any even height and
            width, pictures as they are. An artifact that takes native sizes can also judge resized pictures.
        colour: order of the channels; EXIF orientation and colour profiles are not applied, as in the
            authors' protocol.
        decoder: the way from a file's bytes to pixels; other ones with the same pixels are the same decoder.
        resize: the filter, Pillow's antialiased bilinear, the width first.
        threshold: logit above which the decision is "fake".
        labels: meaning of the labels 0 and 1.
        uncertain_above: logit above which, up to the threshold, the decision is "uncertain"; None where there is no
            such band.
        chosen: origin of the threshold; None for one that nobody chose, which is 0.
    """

    size: Annotated[int, Meta(ge=2, le=LARGEST_SIDE, multiple_of=2)] | Literal["native"] = 256
    colour: Literal["RGB"] = "RGB"
    decoder: Literal["pillow-libjpeg-turbo-islow-smooth"] = EXACT_DECODER
    resize: Literal["pillow-bilinear-antialias"] = "pillow-bilinear-antialias"
    threshold: Annotated[float, Meta(ge=-LARGEST_LOGIT, le=LARGEST_LOGIT)] = 0.0
    labels: tuple[Literal["real"], Literal["fake"]] = ("real", "fake")
    uncertain_above: Annotated[float, Meta(ge=-LARGEST_LOGIT, le=LARGEST_LOGIT)] | None = None
    chosen: ThresholdOrigin | None = None

    def __post_init__(self) -> None:
        """Refuse a size that no graph can have, and a band that is none."""
        if self.uncertain_above is not None and not self.uncertain_above < self.threshold:
            raise ContractError(f"uncertain_above is {self.uncertain_above}, expected less than {self.threshold}")
        if self.size == "native":
            return
        if not isinstance(self.size, int) or not 2 <= self.size <= LARGEST_SIDE or self.size % 2:
            raise ContractError(
                f"size must be an even number of pixels up to {LARGEST_SIDE} or 'native', got {self.size!r}"
            )

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = asdict(self) | {"labels": list(self.labels)}
        # What was not chosen is left out: contracts stay what they were before there was a choice.
        return {name: value for name, value in values.items() if name not in _OF_CHOICE or value is not None}

    @property
    def decision(self) -> tuple[float, float | None]:
        """All that turns a logit into a decision: the threshold, and the lower end of the band below it."""
        return self.threshold, self.uncertain_above


def describe_threshold(contract: Contract) -> str:
    """The threshold, the band below it, and where both came from, in one line."""
    band = "" if contract.uncertain_above is None else f", uncertain above {contract.uncertain_above:g}"
    return f"{contract.threshold:g}{band}, {contract.chosen or 'the published one'}"


def complete_contract(values: Any) -> Any:
    """The values of a contract with what may be left out.

    That is the decoder, which was not named while there was one way alone, and a choice that nobody made.

    Args:
        values: plain values of a file, to be held against ``Contract`` afterwards.
    """
    absent: dict[str, Any] = {"decoder": EXACT_DECODER} | dict.fromkeys(_OF_CHOICE)
    return absent | dict(values) if isinstance(values, Mapping) else values


def check_contract(made_for: Contract, asked: Contract, where: str) -> None:
    """Refuse to judge pictures under a contract that the artifact was not made for; its threshold is its own.

    Args:
        made_for: contract of the artifact.
        asked: contract of the job.
        where: name of the artifact, for the message.

    Raises:
        ContractError: the contracts differ; the message names each difference.
    """
    differences = [
        f"{f.name} is {getattr(made_for, f.name)!r}, asked for {getattr(asked, f.name)!r}"
        for f in fields(Contract)
        if getattr(made_for, f.name) != getattr(asked, f.name)
        and not (f.name == "size" and made_for.size == "native")
        and f.name not in _OF_DECISIONS
    ]
    if differences:
        remedy = "lfm-deploy export --dynamic-size" if asked.size == "native" else "lfm-deploy export"
        raise ContractError(
            f"{where}: made for other pictures: {'; '.join(differences)}. "
            f"Make one that fits with '{remedy}' and build again"
        )


def usual_side(size: SizePolicy) -> int:
    """Side in pixels of the square pictures to try or measure an artifact with: its own, or 256 where it takes any."""
    return _USUAL_SIDE if size == "native" else size
