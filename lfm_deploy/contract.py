"""What a graph expects of its pictures and what its answer means; inside every artifact, compared on load."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

from lfm_deploy.errors import ContractError

SizePolicy = int | Literal["native"]

# Of the square pictures that stand for all sizes where an artifact takes any: those that the network was trained on.
_USUAL_SIDE = 256


def usual_side(size: SizePolicy) -> int:
    """Side in pixels of the square pictures to try or measure an artifact with: its own, or 256 where it takes any."""
    return _USUAL_SIDE if size == "native" else size


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """How a picture becomes an input and a logit becomes a decision.

    Attributes:
        size: side in pixels of the square that pictures are resized to, or ``"native"``: any even height and
            width, pictures as they are. An artifact that takes native sizes can also judge resized pictures.
        colour: order of the channels; EXIF orientation and colour profiles are not applied, as in the
            authors' protocol.
        resize: the filter, Pillow's antialiased bilinear.
        threshold: logit above which the decision is "fake".
        labels: meaning of the labels 0 and 1.
    """

    size: SizePolicy = 256
    colour: str = "RGB"
    resize: str = "pillow-bilinear-antialias"
    threshold: float = 0.0
    labels: tuple[str, str] = ("real", "fake")

    def __post_init__(self) -> None:
        """Refuse a size that no graph can have."""
        if self.size != "native" and (not isinstance(self.size, int) or self.size < 2 or self.size % 2):
            raise ContractError(f"size must be an even number of pixels or 'native', got {self.size!r}")

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"labels": list(self.labels)}

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Read what ``as_dict`` wrote.

        Args:
            values: plain values, as JSON gives them.

        Raises:
            ContractError: the values are not a contract that this version knows.
        """
        known = {f.name for f in fields(cls)}
        if not isinstance(values, dict) or set(values) != known:
            found = sorted(values) if isinstance(values, dict) else type(values).__name__
            raise ContractError(f"a contract has the keys {sorted(known)}, this one has {found}")
        try:
            real, fake = values["labels"]
            return cls(
                size=values["size"],
                colour=str(values["colour"]),
                resize=str(values["resize"]),
                threshold=float(values["threshold"]),
                labels=(str(real), str(fake)),
            )
        except (TypeError, ValueError) as error:
            raise ContractError(f"a contract with bad values: {error}") from None


def check_contract(made_for: Contract, asked: Contract, where: str) -> None:
    """Refuse to judge pictures under a contract that the artifact was not made for.

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
        if getattr(made_for, f.name) != getattr(asked, f.name) and not (f.name == "size" and made_for.size == "native")
    ]
    if differences:
        remedy = "lfm-deploy export --dynamic-size" if asked.size == "native" else "lfm-deploy export"
        raise ContractError(
            f"{where}: made for other pictures: {'; '.join(differences)}. "
            f"Make one that fits with '{remedy}' and build again"
        )
