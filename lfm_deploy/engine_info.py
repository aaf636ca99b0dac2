"""The sidecar of an engine, ``NAME.engine.json``: what a plan is, and what it can run on.

The plan itself stays a plain plan that other tools load.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from msgspec import Meta

from lfm_deploy.artifacts import (
    REMEDY,
    ArtifactInfo,
    build_command,
    convert_checked,
    read_graph_info,
)
from lfm_deploy.errors import ArtifactError
from lfm_deploy.kernels import Kernel
from lfm_deploy.storage.atomic import finish_commits, sha256_of_bytes, sha256_of_file
from lfm_deploy.storage.complaints import matching
from lfm_deploy.storage.sealed_values import seal_values, take_seal
from lfm_deploy.storage.values import Count, NotNegative, Positive, Reader, Sha256

_FORMAT = "lfm-deploy engine 4"
_WITHOUT_KERNELS = "lfm-deploy engine 3"
_OLD_FORMAT = "lfm-deploy engine 2"  # without a digest of its content, too

# TensorRT's dimensions are 32-bit integers; a profile that asks for more than these has no memory to run in.
Batch = Annotated[int, Meta(ge=1, le=1 << 20)]
Side = Annotated[int, Meta(ge=2, le=1 << 20, multiple_of=2)]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo(ArtifactInfo):
    """The sidecar of a TensorRT engine: what it is and what it can run on.

    The values of ``ArtifactInfo`` are those of the graph that the engine was built from.

    Attributes:
        runtime: ``"tensorrt"`` or ``"tensorrt-rtx"``.
        library_version: version of the library; plans load only in the version that made them, unless they are
            ``version_compatible``.
        gpu: compute capability that the engine was built for, such as ``"sm86"``.
        batch: smallest, optimal and largest batch of the profile.
        sides: smallest, optimal and largest side in pixels, where the graph takes native sizes; else None.
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

    @property
    def version_compatible(self) -> bool:
        """Whether newer versions of tensorrt load the plan too, and its lean and dispatch runtimes."""
        return len(self.loads_in) > 1

    def to_json(self) -> str:
        """The text of the sidecar."""
        return json.dumps(seal_values({"format": _FORMAT} | self.plain_values()), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> Self:
        """Read what ``to_json`` wrote.

        Raises:
            ArtifactError: the text is of another format, or a value makes no sense.
        """
        reader = Reader(where=where, remedy=REMEDY)
        values = reader.parse_json(text)
        if isinstance(values, dict) and values.get("format") in (_FORMAT, _WITHOUT_KERNELS):
            take_seal(values, reader)
        found = reader.take_format(values, _FORMAT, _WITHOUT_KERNELS, _OLD_FORMAT)
        if found != _FORMAT:
            # Of these formats every engine was built from the graph as it is, for one version, and listed nothing.
            runtime = f"{values.get('runtime')} == {values.get('library_version')}"
            values = {"loads_in": [runtime], "form": "exported", "kernels": None} | values
        info = convert_checked(reader, values, cls)
        _check_profile(reader, info)
        if found == _OLD_FORMAT and info.contract.threshold:
            reader.refuse(f"contract.threshold is {info.contract.threshold}, and engines of this format have 0")
        return info


def sidecar_path(engine: Path) -> Path:
    """Where an engine's sidecar stands."""
    return engine.with_name(engine.name + ".json")


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
    info.check_chosen(path)
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


def _check_profile(reader: Reader, info: EngineInfo) -> None:
    """Refuse sizes that no engine was built for."""
    for name, sizes in (("batch", info.batch), ("sides", info.sides)):
        if sizes is not None and list(sizes) != sorted(sizes):
            reader.refuse(f"{name} is {list(sizes)}, expected a smallest, an optimal and a largest size")
    if (info.sides is not None) is not (info.contract.size == "native"):
        reader.refuse(f"sides is {info.sides}, which does not go with the size {info.contract.size!r} of its contract")
