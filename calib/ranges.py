"""``ranges.json``: which values every tensor that can be quantised takes on real pictures, and what they came from."""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Self

from msgspec import Meta

from export.names import LAST_OUTPUT, input_name
from lfm_deploy.artifacts import GraphInfo
from lfm_deploy.config import ModelConfig
from lfm_deploy.contract import Contract, complete_contract
from lfm_deploy.errors import ArtifactError
from lfm_deploy.quantisation import Recipe
from lfm_deploy.storage.atomic import sha256_of_bytes, sha256_of_file
from lfm_deploy.storage.sealed_values import seal_values, take_seal
from lfm_deploy.storage.values import AboveZero, Count, NotNegative, Positive, Reader, Sha256

_FORMAT = "lfm-deploy ranges 3"
_REMEDY = "run 'lfm-deploy calibrate IMAGES' again"


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationPicture:
    """One picture that took part.

    Attributes:
        path: path below the folder of pictures, with forward slashes.
        sha256: SHA-256 of the picture's pixels under the contract, uint8 in C order.
        label: label of the picture: 0 is real, 1 is fake; None where the folders do not say.
        source: name of the collection or generator that the picture is of, see ``calib.sources``.
        fold: number of the fold that leaves the picture out.
    """

    path: str
    sha256: Sha256
    label: Annotated[int, Meta(ge=0, le=1)] | None
    source: str
    fold: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRange:
    """What INT8 keeps of one tensor.

    Attributes:
        low, high: lowest and highest value that the tensor's scale covers, of a tensor in parts that one part covers.
        gains: factor of each channel before it is quantised ``(C,)``.
        parts: number of parts in which each channel is written ``(C,)``; empty where none is.
        channel_ranges: lower and upper end of each channel ``(C, 2)``; empty where all have one range.
    """

    low: float
    high: float
    gains: tuple[AboveZero, ...]
    parts: tuple[Positive, ...] = ()
    channel_ranges: tuple[tuple[float, float], ...] = ()

    def find_contradiction(self) -> str:
        """What of these values does not go with the rest; empty where all of it does."""
        channels = len(self.gains)
        if any(len(values) not in (0, channels) for values in (self.parts, self.channel_ranges)):
            return f"there are {channels} channels, and parts or channel_ranges of another number"
        limits = [*self.channel_ranges, (self.low, self.high)]
        return "" if all(low <= high for low, high in limits) else "a range ends below its beginning"


Kept = dict[str, dict[Recipe, KeptRange]]
"""What INT8 keeps, by tensor and recipe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRange:
    """What one tensor did on the pictures, and what was chosen to be kept of it.

    Attributes:
        lowest, highest: smallest and largest value that the tensor took.
        channel_highest: largest value of each channel.
        histogram: counts in equal bins from ``histogram_low`` to ``histogram_high``.
        histogram_low, histogram_high: outer edges of the histogram.
        candidates: ranges that were tried, by recipe and by the candidate's name.
        errors: |Δlogit| when this tensor alone is quantised so, as a mean over the source of pictures where that is
            largest, by recipe and candidate.
        choice: name of the candidate with the smallest error, by recipe.
        kept: range, gains and parts of the candidate that was chosen, by recipe.
    """

    lowest: float
    highest: float
    channel_highest: tuple[float, ...]
    histogram: tuple[Count, ...]
    histogram_low: float
    histogram_high: float
    candidates: dict[Recipe, dict[str, tuple[float, float]]]
    errors: dict[Recipe, dict[str, NotNegative]]
    choice: dict[Recipe, str]
    kept: dict[Recipe, KeptRange]

    def chosen(self, recipe: Recipe) -> tuple[float, float]:
        """The range that a recipe uses."""
        return self.candidates[recipe][self.choice[recipe]]

    def find_contradiction(self) -> str:
        """What of these values does not go with the rest; empty where all of it does."""
        recipes = set(self.candidates)
        if not recipes == set(self.errors) == set(self.choice) == set(self.kept):
            return "candidates, errors, choice and kept are of different recipes"
        for recipe, tried in self.candidates.items():
            if self.choice[recipe] not in tried or set(tried) != set(self.errors[recipe]):
                return f"choice or errors of {recipe} are none of its candidates"
            if (self.kept[recipe].low, self.kept[recipe].high) != self.chosen(recipe):
                return f"what {recipe} keeps is not what was chosen"
            if fault := self.kept[recipe].find_contradiction():
                return fault
            if len(self.kept[recipe].gains) != len(self.channel_highest):
                return f"{recipe} keeps another number of channels than {len(self.channel_highest)}"
        limits = [limit for tried in self.candidates.values() for limit in tried.values()]
        limits += [(self.lowest, self.highest), (self.histogram_low, self.histogram_high)]
        return "" if all(low <= high for low, high in limits) else "a range ends below its beginning"


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
        folds: ranges, gains and parts of each tensor by a calibration without the pictures of a fold, by the fold's
            number.
        versions: versions of this project and of the libraries that the values depend on.
    """

    onnx_sha256: Sha256
    checkpoint_sha256: Sha256
    contract: Contract
    contract_sha256: Sha256
    images: str
    count: Count
    seed: int
    pictures: tuple[CalibrationPicture, ...]
    tensors: dict[str, TensorRange]
    folds: tuple[Kept, ...]
    versions: dict[str, str]

    @property
    def classes(self) -> dict[str, int]:
        """How many pictures of each class took part."""
        names = {0: "real", 1: "fake", None: "unlabelled"}
        counts = Counter(names[picture.label] for picture in self.pictures)
        return {name: counts[name] for name in names.values() if counts[name]}

    @property
    def sources(self) -> dict[str, int]:
        """How many pictures of each source took part, in the order of their names."""
        return dict(sorted(Counter(picture.source for picture in self.pictures).items()))

    @property
    def kept(self) -> Kept:
        """What is kept of each tensor."""
        return {name: tensor.kept for name, tensor in self.tensors.items()}

    @property
    def command(self) -> str:
        """The command that makes these ranges anew."""
        return f"lfm-deploy calibrate {self.images} --count {self.count} --seed {self.seed}"

    def to_json(self) -> str:
        """The text of the file: the same values give the same text."""
        values = asdict(self) | {"contract": self.contract.as_dict(), "classes": self.classes}
        return json.dumps(seal_values({"format": _FORMAT} | values), indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> Self:
        """Read what ``to_json`` wrote.

        Raises:
            ArtifactError: the text is damaged or of another format.
        """
        reader = Reader(where=where, remedy=_REMEDY)
        values = reader.parse_json(text)
        if isinstance(values, dict) and values.get("format") == _FORMAT:
            take_seal(values, reader)
        reader.take_format(values, _FORMAT)
        classes = values.pop("classes", None)
        if "contract" in values:
            values["contract"] = complete_contract(values["contract"])
        ranges = reader.convert(values, cls)
        if classes != ranges.classes:
            reader.refuse("classes are not those of its pictures")
        for name, tensor in ranges.tensors.items():
            if fault := tensor.find_contradiction():
                reader.refuse(f"tensors.{name}: {fault}")
        if fault := ranges._find_fold_fault():
            reader.refuse(fault)
        return ranges

    def _find_fold_fault(self) -> str:
        """What of the folds does not go with the rest; empty where all of it does."""
        if {picture.fold for picture in self.pictures} != set(range(len(self.folds))):
            return "folds are not those of its pictures"
        whole = {name: set(tensor.kept) for name, tensor in self.tensors.items()}
        for number, kept in enumerate(self.folds):
            if {name: set(ranges) for name, ranges in kept.items()} != whole:
                return f"folds[{number}] is of other tensors"
            for name, ranges in kept.items():
                for found in ranges.values():
                    fault = found.find_contradiction()
                    if fault or len(found.gains) != len(self.tensors[name].channel_highest):
                        return f"folds[{number}].{name}: {fault or 'of another number of channels'}"
        return ""


def read_ranges(path: Path) -> Ranges:
    """The ranges of a workdir.

    Raises:
        ArtifactError: the file is missing or damaged.
    """
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file, and INT8 needs it; run 'lfm-deploy calibrate IMAGES' first")
    return Ranges.from_json(Reader(where=str(path), remedy=_REMEDY).read_text(path), str(path))


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
    measured = {name: len(tensor.channel_highest) for name, tensor in ranges.tensors.items()}
    if not reasons and measured != _count_channels(info.config):
        reasons.append(f"their tensors are not those of {graph.name}")
    if reasons:
        raise ArtifactError(f"{path}: stale: {'; '.join(reasons)}; run '{ranges.command}' again")


def hash_contract(contract: Contract) -> str:
    """sha256 of a contract as JSON."""
    values = contract.as_dict()
    del values["decoder"]  # there is one, which ranges of before do not name
    return sha256_of_bytes(json.dumps(values, sort_keys=True).encode())


def _count_channels(config: ModelConfig) -> dict[str, int]:
    """How many channels each tensor has that is measured, by its name."""
    inputs = {input_name(window.name): window.inputs for window in config.windows if window.outputs}
    return inputs | {LAST_OUTPUT: config.projection}
