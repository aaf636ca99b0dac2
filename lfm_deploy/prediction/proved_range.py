"""On which pictures a detector was proved to work: ``envelope.json``, which ``verify --envelope`` writes, in short.

A treatment leaves the detector at work where it keeps at least half of what tells the classes apart in files as they
are: the share of fakes that is called fake, less the share of real pictures that is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypedDict

from lfm_deploy.pictures.facts import PictureFacts
from lfm_deploy.storage.values import Reader, Sha256

FORMAT = "lfm-deploy envelope 1"
_KEPT_SHARE = 0.5
# Pixels in these are those that were saved, so that nothing happened to them on the way.
_LOSSLESS = frozenset(["png", "bmp", "ppm", "gif", "tiff"])


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvedRange:
    """What a measured envelope says of files.

    Attributes:
        checkpoint_sha256: SHA-256 of the checkpoint that was measured.
        jpeg_from: lowest JPEG quality from which on every quality that was tried works; None where none does.
        jpeg_tried: JPEG qualities that were tried, the highest first.
        webp: whether the highest quality of lossy WebP that was tried works; None where none was tried.
    """

    checkpoint_sha256: str
    jpeg_from: int | None
    jpeg_tried: tuple[int, ...]
    webp: bool | None

    @classmethod
    def from_conditions(cls, checkpoint_sha256: str, conditions: Sequence[Mapping[str, Any]]) -> Self:
        """What the figures after each condition say.

        Args:
            checkpoint_sha256: SHA-256 of the checkpoint that was measured.
            conditions: conditions as ``EnvelopeValues`` has them; the first leaves pictures as they are.
        """
        whole = _separation(conditions[0])
        works = {one["name"]: _separation(one) >= _KEPT_SHARE * whole > 0 for one in conditions}
        jpeg = _qualities(works, "jpeg ")
        webp = _qualities(works, "webp ")
        lowest = None
        for quality in jpeg:
            if not works[f"jpeg {quality}"]:
                break
            lowest = quality
        return cls(
            checkpoint_sha256=checkpoint_sha256,
            jpeg_from=lowest,
            jpeg_tried=tuple(jpeg),
            webp=works[f"webp {webp[0]}"] if webp else None,
        )

    def find_outside(self, facts: PictureFacts) -> str | None:
        """Why a picture is outside of what the detector was proved on; None where nothing says so.

        Args:
            facts: facts of the file.
        """
        if facts.format == "jpeg" and facts.quality is not None and self.jpeg_tried:
            if self.jpeg_from is None:
                return f"jpeg (fails at q{self.jpeg_tried[0]})"
            return f"jpeg below q{self.jpeg_from}" if facts.quality < self.jpeg_from else None
        if facts.format == "webp":
            return "lossy webp" if facts.lossy is not False and self.webp is False else None
        return None if facts.format in _LOSSLESS or facts.format == "jpeg" else f"{facts.format} was not measured"


def read_proved_range(path: Path) -> ProvedRange | None:
    """What ``envelope.json`` of a workdir says; None where there is none.

    Args:
        path: path of the file.

    Raises:
        ArtifactError: the file is damaged, or of another version.
    """
    if not path.is_file():
        return None
    reader = Reader(where=str(path), remedy="run 'lfm-deploy verify --suite SUITE --envelope' again")
    values = reader.read_json(path)
    reader.take_format(values, FORMAT)
    found = reader.convert(values, _EnvelopeFile, others=True)
    if not found["envelope"]["conditions"]:
        reader.refuse("has no condition")
    try:
        return ProvedRange.from_conditions(found["checkpoint_sha256"], found["envelope"]["conditions"])
    except ValueError:  # a quality that is no number
        reader.refuse("has a condition of an unknown name")


class _Value(TypedDict):
    value: float


class _Condition(TypedDict):
    name: str
    acc_fake: _Value | None
    fpr: _Value | None


class _Conditions(TypedDict):
    conditions: list[_Condition]


class _EnvelopeFile(TypedDict):
    """What is read of ``envelope.json``; its other keys are for people and for the model card."""

    checkpoint_sha256: Sha256
    envelope: _Conditions


def _separation(condition: Mapping[str, Any]) -> float:
    found, called = condition["acc_fake"], condition["fpr"]
    return 0.0 if found is None or called is None else float(found["value"]) - float(called["value"])


def _qualities(works: Mapping[str, bool], prefix: str) -> list[int]:
    """Qualities that were tried, the highest first."""
    return sorted((int(name.removeprefix(prefix)) for name in works if name.startswith(prefix)), reverse=True)
