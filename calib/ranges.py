"""``ranges.json``: which values every tensor that can be quantised takes on real pictures, and what they came from."""

import json
from collections import Counter
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from lfm_deploy.artifacts import GraphInfo
from lfm_deploy.contract import Contract
from lfm_deploy.errors import ArtifactError, DeployError
from lfm_deploy.quantisation import Recipe
from lfm_deploy.storage.atomic import sha256_of_bytes, sha256_of_file

_FORMAT = "lfm-deploy ranges 1"
CHOOSE, JUDGE = "choose", "judge"
"""Parts of the pictures: those that ranges and layers are chosen with, and those that only judge the result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationPicture:
    """One picture that took part.

    Attributes:
        path: path below the folder of pictures, with forward slashes.
        sha256: SHA-256 of the picture's pixels under the contract, uint8 in C order.
        label: label of the picture: 0 is real, 1 is fake; None where the folders do not say.
        part: ``"choose"`` or ``"judge"``.
    """

    path: str
    sha256: str
    label: int | None
    part: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRange:
    """What one tensor did on the pictures that choose.

    Attributes:
        lowest, highest: smallest and largest value that the tensor took.
        channel_highest: largest value of each channel.
        histogram: counts in equal bins from ``histogram_low`` to ``histogram_high``.
        histogram_low, histogram_high: outer edges of the histogram.
        candidates: ranges that were tried, by recipe and by the candidate's name.
        errors: mean |Δlogit| when this tensor alone is quantised so, by recipe and candidate.
        choice: name of the candidate with the smallest error, by recipe.
        parts: number of parts in which each channel is written ``(C,)``, by recipe; only recipes that write loud
            channels in parts have an entry.
        channel_ranges: lower and upper end of each channel ``(C, 2)``, by recipe; only recipes that give every channel
            a range of its own have an entry.
    """

    lowest: float
    highest: float
    channel_highest: tuple[float, ...]
    histogram: tuple[int, ...]
    histogram_low: float
    histogram_high: float
    candidates: dict[Recipe, dict[str, tuple[float, float]]]
    errors: dict[Recipe, dict[str, float]]
    choice: dict[Recipe, str]
    parts: dict[Recipe, tuple[int, ...]]
    channel_ranges: dict[Recipe, tuple[tuple[float, float], ...]]

    def chosen(self, recipe: Recipe) -> tuple[float, float]:
        """The range that a recipe uses."""
        return self.candidates[recipe][self.choice[recipe]]


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """Activation ranges with provenance.

    Attributes:
        onnx_sha256: SHA-256 of the ``lfm.onnx`` whose tensors were measured.
        checkpoint_sha256: SHA-256 of the checkpoint that was exported to that graph.
        contract: contract under which the pictures were read.
        contract_sha256: SHA-256 of the contract written as JSON.
        images: the folder of pictures, as it was given.
        count, seed: number of pictures that was asked for, and seed of the sample.
        pictures: pictures that took part, in order.
        tensors: range of each tensor, by its name, in the order of the network.
        versions: versions of this project and of the libraries that the values depend on.
    """

    onnx_sha256: str
    checkpoint_sha256: str
    contract: Contract
    contract_sha256: str
    images: str
    count: int
    seed: int
    pictures: tuple[CalibrationPicture, ...]
    tensors: dict[str, TensorRange]
    versions: dict[str, str]

    @property
    def classes(self) -> dict[str, int]:
        """How many pictures of each class took part."""
        names = {0: "real", 1: "fake", None: "unlabelled"}
        counts = Counter(names[picture.label] for picture in self.pictures)
        return {name: counts[name] for name in names.values() if counts[name]}

    @property
    def command(self) -> str:
        """The command that makes these ranges anew."""
        return f"lfm-deploy calibrate {self.images} --count {self.count} --seed {self.seed}"

    def to_json(self) -> str:
        """The text of the file: the same values give the same text."""
        values = asdict(self) | {"contract": self.contract.as_dict(), "classes": self.classes}
        return json.dumps({"format": _FORMAT} | values, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> Self:
        """Read what ``to_json`` wrote.

        Raises:
            ArtifactError: the text is damaged or of another format.
        """
        try:
            values: Any = json.loads(text)
            found = values.pop("format", None)
            if found != _FORMAT:
                raise ArtifactError(f"of format {found!r}, this version reads {_FORMAT!r}")
            values.pop("classes")
            if set(values) != {field.name for field in fields(cls)}:
                raise ArtifactError(f"has the keys {sorted(values)}")
            values["contract"] = Contract.from_dict(values["contract"])
            values["pictures"] = tuple(CalibrationPicture(**picture) for picture in values["pictures"])
            values["tensors"] = {name: _tensor(entry) for name, entry in values["tensors"].items()}
            return cls(**values)
        except (ValueError, KeyError, TypeError, AttributeError, DeployError) as error:
            raise ArtifactError(f"{where}: cannot be read ({error}); run 'lfm-deploy calibrate IMAGES' again") from None


def read_ranges(path: Path) -> Ranges:
    """The ranges of a workdir.

    Raises:
        ArtifactError: the file is missing or damaged.
    """
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file, and INT8 needs it; run 'lfm-deploy calibrate IMAGES' first")
    return Ranges.from_json(path.read_text(encoding="utf-8", errors="replace"), str(path))


def check_ranges(ranges: Ranges, path: Path, graph: Path, info: GraphInfo, versions: dict[str, str]) -> None:
    """Refuse ranges that belong to another model, contract or version.

    Args:
        ranges: ranges that were read from a file.
        path: path of that file, for the message.
        graph: the ``lfm.onnx`` that is about to be quantised.
        info: metadata of the graph that is to be quantised.
        versions: versions of the libraries now, as ``Ranges.versions`` keeps them.

    Raises:
        ArtifactError: the ranges are stale; the message has the command that renews them.
    """
    reasons = []
    if ranges.checkpoint_sha256 != info.checkpoint_sha256:
        reasons.append("they were measured with another checkpoint")
    elif ranges.onnx_sha256 != sha256_of_file(graph):
        reasons.append(f"{graph.name} has changed since")
    if ranges.contract != info.contract or ranges.contract_sha256 != hash_contract(info.contract):
        reasons.append("they were measured under another contract")
    reasons += [
        f"they were made with {name} {ranges.versions.get(name)}, this is {version}"
        for name, version in versions.items()
        if ranges.versions.get(name) != version
    ]
    if reasons:
        raise ArtifactError(f"{path}: stale: {'; '.join(reasons)}; run '{ranges.command}' again")


def hash_contract(contract: Contract) -> str:
    """sha256 of a contract as JSON."""
    return sha256_of_bytes(json.dumps(contract.as_dict(), sort_keys=True).encode())


def _tensor(entry: dict[str, Any]) -> TensorRange:
    by_recipe = {name: {Recipe(recipe): part for recipe, part in entry[name].items()} for name in ("errors", "choice")}
    parts = {Recipe(recipe): tuple(counts) for recipe, counts in entry["parts"].items()}
    by_channel = {
        Recipe(recipe): tuple((float(low), float(high)) for low, high in limits)
        for recipe, limits in entry["channel_ranges"].items()
    }
    candidates = {
        Recipe(recipe): {name: (float(low), float(high)) for name, (low, high) in ranges.items()}
        for recipe, ranges in entry["candidates"].items()
    }
    return TensorRange(
        **entry
        | by_recipe
        | {"candidates": candidates, "parts": parts, "channel_ranges": by_channel}
        | {name: tuple(entry[name]) for name in ("channel_highest", "histogram")}
    )
