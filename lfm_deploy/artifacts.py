"""What every ONNX file says of itself, in its metadata: contract, architecture, precision and origin.

What engines say in their sidecars (``lfm_deploy.engine_info``) has these values, too.
"""

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self, TypeVar

from lfm_deploy.config import ModelConfig, complete_config
from lfm_deploy.contract import Contract, complete_contract
from lfm_deploy.errors import ArtifactError, DeployError
from lfm_deploy.quantisation import Quantisation, Recipe
from lfm_deploy.storage.graph_file import holds_seal, is_sealed, read_metadata
from lfm_deploy.storage.values import Reader, Sha256

CHECKPOINT_SUFFIXES = (".pth", ".pt", ".ckpt", ".pth.tar", ".safetensors")
METADATA_KEY = "lfm_deploy"
_GRAPH_FORMAT = "lfm-deploy graph 3"
REMEDY = "make it again with lfm-deploy"


class Precision(StrEnum):
    """Arithmetic of a graph from NPR to the pooling; the linear layer and the logit are float32 in all.

    INT8 is the convolutions' alone, and not of all of them: see ``Quantisation``.
    """

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"


class InputForm(StrEnum):
    """What a graph's input ``image`` is: raw pixels, or pixels that a pipeline has normalised already."""

    UINT8 = "uint8"
    """uint8 ``(N, H, W, 3)``, RGB."""
    FLOAT = "float"
    """float32 ``(N, 3, H, W)``, RGB, after ToTensor and ImageNet normalisation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactInfo:
    """What graphs and engines say alike.

    Attributes:
        contract: contract that says which pictures the graph takes and what its logit means.
        config: architecture of the network.
        precision: arithmetic of the graph.
        input: form of the graph's input: raw pixels in uint8, or normalised float32.
        evidence: whether the graph also gives the pooled values and their positions.
        checkpoint_sha256: SHA-256 of the checkpoint that the graph was made from.
        quantisation: ranges, layers and budget of an INT8 graph; None for other precisions.
    """

    contract: Contract
    config: ModelConfig
    precision: Precision
    input: InputForm
    evidence: bool
    checkpoint_sha256: Sha256
    quantisation: Quantisation | None = None

    def plain_values(self) -> dict[str, Any]:
        """All values, plain ones for JSON."""
        return asdict(self) | {
            "contract": self.contract.as_dict(),
            "config": self.config.as_dict(),
            "quantisation": None if self.quantisation is None else self.quantisation.as_dict(),
        }

    def check_chosen(self, path: Path) -> None:
        """Refuse a threshold that was chosen on the logits of another checkpoint.

        Args:
            path: path of the file that says this of itself.

        Raises:
            ArtifactError: the threshold is another checkpoint's.
        """
        chosen = self.contract.chosen
        if chosen is not None and chosen.checkpoint_sha256 != self.checkpoint_sha256:
            raise ArtifactError(
                f"{path}: its threshold {self.contract.threshold:g} was chosen for another checkpoint, so that it says "
                "nothing of this one; run 'lfm-deploy threshold PICTURES --fpr 1%'"
            )


_Info = TypeVar("_Info", bound=ArtifactInfo)


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphInfo(ArtifactInfo):
    """Contract and provenance of an ONNX graph; what it has in common with engines is in ``ArtifactInfo``.

    Attributes:
        versions: versions of this project and of the libraries that made the graph, by name.
    """

    versions: dict[str, str]

    def to_json(self) -> str:
        """The metadata text, the same for the same values."""
        values = self.plain_values()
        return json.dumps({"format": _GRAPH_FORMAT} | values, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, where: str) -> Self:
        """Read what ``to_json`` wrote.

        Raises:
            ArtifactError: the text is of another format, or a value makes no sense.
        """
        reader = Reader(where=where, remedy=REMEDY)
        values = reader.parse_json(text)
        reader.take_format(values, _GRAPH_FORMAT)
        return convert_checked(reader, values, cls)


def is_checkpoint(path: Path) -> bool:
    """Whether a file is called like a checkpoint."""
    return path.name.lower().endswith(CHECKPOINT_SUFFIXES)


def build_command(precision: str, gpu: str | None = None, recipe: Recipe | None = None) -> str:
    """The command that makes an engine or a typed graph anew, for error messages."""
    where = " --target cpu" if recipe is Recipe.CPU else f" --gpu {gpu}" if gpu else ""
    return f"lfm-deploy build --{precision}{where}"


def read_graph_info(path: Path | str) -> GraphInfo:
    """Contract and provenance of an ONNX file.

    Args:
        path: path of the ``.onnx`` file.

    Raises:
        ArtifactError: the file is missing, empty, damaged, changed since it was made, or not made by lfm-deploy.
    """
    from google.protobuf.message import DecodeError

    path = Path(path)
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file; make it with 'lfm-deploy export CHECKPOINT.pth'")
    try:
        content = path.read_bytes()
        metadata = read_metadata(content)
    except (DecodeError, ValueError) as error:
        raise ArtifactError(
            f"{path}: damaged or not an ONNX file ({error}); make it again with 'lfm-deploy export'"
        ) from None
    if METADATA_KEY not in metadata:
        raise ArtifactError(
            f"{path}: this ONNX file was not made by lfm-deploy (no contract in its metadata); "
            "make one from the checkpoint with 'lfm-deploy export'"
        )
    info = GraphInfo.from_json(metadata[METADATA_KEY], str(path))
    if not is_sealed(content):
        raise ArtifactError(f"{path}: holds no check sum of its content; make it again with 'lfm-deploy export'")
    if not holds_seal(content):
        raise ArtifactError(
            f"{path}: damaged or changed since it was made (its check sum does not hold); copy it again, or make it "
            "again with 'lfm-deploy export'"
        )
    info.check_chosen(path)
    return info


def read_graph_info_if_whole(path: Path) -> GraphInfo | None:
    """What a graph says of itself; None where it is missing, damaged or foreign, and to be made anew."""
    try:
        return read_graph_info(path)
    except DeployError:
        return None


def convert_checked(reader: Reader, values: Any, kind: type[_Info]) -> _Info:
    """The values as an artifact's, and no part of them against another.

    Args:
        reader: reader of the file, which says where it is.
        values: plain values, as ``ArtifactInfo.plain_values`` gives them.
        kind: class of what the file says of itself.

    Raises:
        ArtifactError: a value is missing or makes no sense.
    """
    if isinstance(values, dict) and "config" in values:
        values["config"] = complete_config(values["config"])
    if isinstance(values, dict) and "contract" in values:
        values["contract"] = complete_contract(values["contract"])
    info: _Info = reader.convert(values, kind)
    made = info.quantisation
    if (made is not None) is not (info.precision is Precision.INT8):
        reader.refuse(f"precision is {info.precision}, which does not go with its quantisation")
    if made is not None and tuple(made.layers) != info.config.layers:
        reader.refuse(
            f"quantisation.layers are {', '.join(made.layers)}, of the network {', '.join(info.config.layers)}"
        )
    if made is not None and not set(made.layers.values()) <= {"int8", made.recipe.base}:
        reader.refuse(f"quantisation.layers have other precisions than int8 and {made.recipe.base}, that of its recipe")
    size, least = info.contract.size, info.config.min_square
    if size != "native" and size < least:
        reader.refuse(f"contract.size is {size}, and its network needs {least} pixels")
    return info
