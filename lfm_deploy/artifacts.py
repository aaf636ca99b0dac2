"""What every ONNX file and engine says of itself: contract, architecture, precision and origin.

An ONNX file carries this as metadata; an engine has a sidecar, ``NAME.engine.json``, because the plan itself
stays a plain plan that other tools load.
"""

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from msgspec import Meta

from lfm_deploy.config import ModelConfig, complete_config
from lfm_deploy.contract import Contract, complete_contract
from lfm_deploy.errors import ArtifactError, DeployError
from lfm_deploy.kernels import Kernel
from lfm_deploy.quantisation import Quantisation, Recipe
from lfm_deploy.storage.atomic import finish_commits, sha256_of_bytes, sha256_of_file
from lfm_deploy.storage.complaints import matching
from lfm_deploy.storage.graph_file import holds_seal, is_sealed, read_metadata
from lfm_deploy.storage.sealed_values import seal_values, take_seal
from lfm_deploy.storage.values import Count, NotNegative, Positive, Reader, Sha256

CHECKPOINT_SUFFIXES = (".pth", ".pt", ".ckpt", ".pth.tar", ".safetensors")
METADATA_KEY = "lfm_deploy"
_GRAPH_FORMAT = "lfm-deploy graph 3"
_ENGINE_FORMAT = "lfm-deploy engine 4"
_ENGINE_WITHOUT_KERNELS = "lfm-deploy engine 3"
_OLD_ENGINE_FORMAT = "lfm-deploy engine 2"  # without a digest of its content, too
_REMEDY = "make it again with lfm-deploy"

# TensorRT's dimensions are 32-bit integers; a profile that asks for more than these has no memory to run in.
Batch = Annotated[int, Meta(ge=1, le=1 << 20)]
Side = Annotated[int, Meta(ge=2, le=1 << 20, multiple_of=2)]


_Info = TypeVar("_Info", bound="GraphInfo | EngineInfo")


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
class GraphInfo:
    """Contract and provenance of an ONNX graph.

    Attributes:
        contract: contract that says which pictures the graph takes and what its logit means.
        config: architecture of the network.
        precision: arithmetic of the graph.
        input: form of the graph's input: raw pixels in uint8, or normalised float32.
        evidence: whether the graph also gives the pooled values and their positions.
        checkpoint_sha256: SHA-256 of the checkpoint that the graph was made from.
        versions: versions of this project and of the libraries that made the graph, by name.
        quantisation: ranges, layers and budget of an INT8 graph; None for other precisions.
    """

    contract: Contract
    config: ModelConfig
    precision: Precision
    input: InputForm
    evidence: bool
    checkpoint_sha256: Sha256
    versions: dict[str, str]
    quantisation: Quantisation | None = None

    def to_json(self) -> str:
        """The metadata text, the same for the same values."""
        values = _plain(self)
        return json.dumps({"format": _GRAPH_FORMAT} | values, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, where: str) -> Self:
        """Read what ``to_json`` wrote.

        Raises:
            ArtifactError: the text is of another format, or a value makes no sense.
        """
        reader = Reader(where=where, remedy=_REMEDY)
        values = reader.parse_json(text)
        reader.take_format(values, _GRAPH_FORMAT)
        return _checked(reader, values, cls)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """The sidecar of a TensorRT engine: what it is and what it can run on.

    Attributes:
        runtime: ``"tensorrt"`` or ``"tensorrt-rtx"``.
        library_version: version of the library; plans load only in the version that made them, unless they are
            ``version_compatible``.
        gpu: compute capability that the engine was built for, such as ``"sm86"``.
        batch: smallest, optimal and largest batch of the profile.
        sides: smallest, optimal and largest side in pixels, where the graph takes native sizes; else None.
        precision, input, evidence, contract, config, checkpoint_sha256, quantisation: values of the graph that the
            engine was built from; see ``GraphInfo``.
        onnx_sha256: SHA-256 of that graph's file.
        fingerprint: SHA-256 over everything that went in (graph, library, GPU, settings): equal fingerprints mean equal
            engines, although the bytes of two builds differ.
        plan_sha256, plan_bytes: SHA-256 and size in bytes of the engine file that this sidecar belongs to.
        weights_bytes: device memory of the weights in bytes, as the build log states it; None where it does not.
        activation_bytes: device memory in bytes that one execution context needs for the largest batch, as the build
            log states it; None where the log does not.
        workspace_mib: limit on scratch memory in MiB; 0 is the library's own limit.
        build_seconds: wall time of the build in seconds.
        loads_in: libraries that load the plan, such as ``("tensorrt == 11.4.0",)``; a version-compatible plan names
            several.
        form: form of the graph that the library was given: ``"exported"``, or ``"rewritten"``, which computes the same
            and moves less; see ``engines.graph_forms``.
        kernels: kernels of the engine, in their order; None where the library does not list them.
    """

    runtime: Annotated[str, matching("tensorrt|tensorrt-rtx", "tensorrt or tensorrt-rtx")]
    library_version: str
    gpu: Annotated[str, matching("sm[0-9]{2,3}", "a compute capability such as sm86")]
    batch: tuple[Batch, Batch, Batch]
    sides: tuple[Side, Side, Side] | None
    precision: Precision
    input: InputForm
    evidence: bool
    contract: Contract
    config: ModelConfig
    checkpoint_sha256: Sha256
    onnx_sha256: Sha256
    fingerprint: Sha256
    plan_sha256: Sha256
    plan_bytes: Positive
    weights_bytes: Count | None
    activation_bytes: Count | None
    workspace_mib: Count
    build_seconds: NotNegative
    loads_in: tuple[str, ...]
    form: Annotated[str, matching("exported|rewritten", "exported or rewritten")]
    kernels: tuple[Kernel, ...] | None
    quantisation: Quantisation | None = None

    @property
    def version_compatible(self) -> bool:
        """Whether newer versions of tensorrt load the plan too, and its lean and dispatch runtimes."""
        return len(self.loads_in) > 1

    def to_json(self) -> str:
        """The text of the sidecar."""
        return json.dumps(seal_values({"format": _ENGINE_FORMAT} | _plain(self)), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> Self:
        """Read what ``to_json`` wrote.

        Raises:
            ArtifactError: the text is of another format, or a value makes no sense.
        """
        reader = Reader(where=where, remedy=_REMEDY)
        values = reader.parse_json(text)
        if isinstance(values, dict) and values.get("format") in (_ENGINE_FORMAT, _ENGINE_WITHOUT_KERNELS):
            take_seal(values, reader)
        found = reader.take_format(values, _ENGINE_FORMAT, _ENGINE_WITHOUT_KERNELS, _OLD_ENGINE_FORMAT)
        if found != _ENGINE_FORMAT:
            # Of these formats every engine was built from the graph as it is, for one version, and listed nothing.
            runtime = f"{values.get('runtime')} == {values.get('library_version')}"
            values = {"loads_in": [runtime], "form": "exported", "kernels": None} | values
        info = _checked(reader, values, cls)
        _check_profile(reader, info)
        if found == _OLD_ENGINE_FORMAT and info.contract.threshold:
            reader.refuse(f"contract.threshold is {info.contract.threshold}, and engines of this format have 0")
        return info


def is_checkpoint(path: Path) -> bool:
    """Whether a file is called like a checkpoint."""
    return path.name.lower().endswith(CHECKPOINT_SUFFIXES)


def sidecar_path(engine: Path) -> Path:
    """Where an engine's sidecar stands."""
    return engine.with_name(engine.name + ".json")


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
    _check_chosen(info, path)
    return info


def read_graph_info_if_whole(path: Path) -> GraphInfo | None:
    """What a graph says of itself; None where it is missing, damaged or foreign, and to be made anew."""
    try:
        return read_graph_info(path)
    except DeployError:
        return None


def read_engine_info(path: Path | str) -> EngineInfo:
    """The sidecar of an engine, after checking that it belongs to the plan.

    Args:
        path: path of the ``.engine`` file; its sidecar stands beside it.

    Raises:
        ArtifactError: engine or sidecar is missing or damaged, or they do not belong together.
    """
    path = Path(path)
    if path.parent.is_dir():
        finish_commits(path.parent)
    if not path.is_file():
        raise ArtifactError(f"{path}: no such engine; make it with 'lfm-deploy build'")
    sidecar = sidecar_path(path)
    if not sidecar.is_file():
        raise ArtifactError(
            f"{path}: its sidecar {sidecar.name} is missing, so nothing says what this plan computes; "
            "copy both files, or run 'lfm-deploy build' again"
        )
    reader = Reader(where=str(sidecar), remedy="run 'lfm-deploy build' again")
    info = EngineInfo.from_json(reader.read_text(sidecar), str(sidecar))
    if path.stat().st_size != info.plan_bytes or sha256_of_file(path) != info.plan_sha256:
        raise ArtifactError(
            f"{path}: damaged, or {sidecar.name} belongs to another plan (the sha256 differs); "
            f"run '{build_command(info.precision, info.gpu)}' again"
        )
    _check_chosen(info, path)
    return info


def make_fingerprint(**inputs: object) -> str:
    """sha256 over named inputs, independent of their order."""
    return sha256_of_bytes(json.dumps(inputs, sort_keys=True, default=str).encode())


def read_descent(path: Path) -> tuple[str | None, bool]:
    """What an engine's file comes from: SHA-256 of its checkpoint, and whether it has outputs for evidence.

    Args:
        path: path of a graph or engine; of any other file, such as a checkpoint itself, nothing is known.

    Raises:
        ArtifactError: the file is damaged or not ours.
    """
    if path.suffix == ".onnx":
        graph = read_graph_info(path)
        return graph.checkpoint_sha256, graph.evidence
    if path.suffix == ".engine":
        info = read_engine_info(path)
        return info.checkpoint_sha256, info.evidence
    return None, False


def _check_chosen(info: GraphInfo | EngineInfo, path: Path) -> None:
    """Refuse a threshold that was chosen on the logits of another checkpoint."""
    chosen = info.contract.chosen
    if chosen is not None and chosen.checkpoint_sha256 != info.checkpoint_sha256:
        raise ArtifactError(
            f"{path}: its threshold {info.contract.threshold:g} was chosen for another checkpoint, so that it says "
            "nothing of this one; run 'lfm-deploy threshold PICTURES --fpr 1%'"
        )


def _plain(info: GraphInfo | EngineInfo) -> dict[str, Any]:
    return asdict(info) | {
        "contract": info.contract.as_dict(),
        "config": info.config.as_dict(),
        "quantisation": None if info.quantisation is None else info.quantisation.as_dict(),
    }


def _checked(reader: Reader, values: Any, kind: type[_Info]) -> _Info:
    """The values as an artifact's, and no part of them against another."""
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


def _check_profile(reader: Reader, info: EngineInfo) -> None:
    """Refuse sizes that no engine was built for."""
    for name, sizes in (("batch", info.batch), ("sides", info.sides)):
        if sizes is not None and list(sizes) != sorted(sizes):
            reader.refuse(f"{name} is {list(sizes)}, expected a smallest, an optimal and a largest size")
    if (info.sides is not None) is not (info.contract.size == "native"):
        reader.refuse(f"sides is {info.sides}, which does not go with the size {info.contract.size!r} of its contract")
