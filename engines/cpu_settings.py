"""How a graph runs on a CPU, and ``cpu.json``, where ``build --target cpu`` writes down what was fastest here."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from lfm_deploy.atomic import sha256_of_file
from lfm_deploy.environment import installed_version
from lfm_deploy.errors import ArtifactError
from lfm_deploy.machine import count_cores, find_instruction_sets, identify_processor

FILE_NAME = "cpu.json"
FORMAT = "lfm-deploy cpu 1"
RUNTIMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
# The first convolution's output takes 17 MB a picture at 256x256 in float32: eight stay below 150 MB, and more were not
# faster.
DEFAULT_PIECE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuSettings:
    """How to run a graph.

    Attributes:
        runtime: ``"onnxruntime"`` or ``"openvino"``.
        streams: pieces of a batch that run at the same time.
        threads: CPU threads of each session.
        piece: number of pictures in a piece at most.
        arithmetic: ``"as written"``, or ``"bf16"`` to multiply in bfloat16 what the graph has in floating point.
    """

    runtime: str
    streams: int
    threads: int
    piece: int
    arithmetic: str = "as written"

    def __str__(self) -> str:
        """For tables."""
        streams = "" if self.streams == 1 else f"{self.streams} streams of "
        threads = f"{self.threads} thread{'' if self.threads == 1 else 's'}"
        pieces = f"{self.piece} picture{'' if self.piece == 1 else 's'}"
        arithmetic = "" if self.arithmetic == "as written" else f", {self.arithmetic}"
        return f"{RUNTIMES[self.runtime]}, {streams}{threads}, {pieces} at a time{arithmetic}"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what ``asdict`` gave.

        Raises:
            TypeError, ValueError: keys or values are not those of settings.
        """
        settings = cls(**values)
        counts = (settings.streams, settings.threads, settings.piece)
        if settings.runtime not in RUNTIMES or not all(type(count) is int and count > 0 for count in counts):
            raise ValueError(f"no settings: {values}")
        return settings


def default_settings(threads: int | None = None) -> CpuSettings:
    """ONNX Runtime with a thread for each core, which is right wherever nothing was measured."""
    return CpuSettings(runtime="onnxruntime", streams=1, threads=threads or count_cores(), piece=DEFAULT_PIECE)


def describe_place() -> dict[str, Any]:
    """What a measured choice depends on: processor, cores, and versions of the runtimes."""
    return {
        "processor": identify_processor(),
        "instructions": find_instruction_sets(),
        "cores": count_cores(),
        "versions": {name: installed_version(name) for name in ("onnxruntime", "onnxruntime-gpu", "openvino")},
    }


def find_settings(graph: Path) -> CpuSettings | None:
    """What was chosen for a graph on this machine; None where nothing was, or the choice was for something else.

    Raises:
        ArtifactError: ``cpu.json`` beside the graph is damaged.
    """
    values = read_choices(graph.parent)
    if values is None or values["machine"] != describe_place():
        return None
    entry = values["graphs"].get(graph.name)
    if entry is None or entry["sha256"] != sha256_of_file(graph):
        return None
    return CpuSettings.from_dict(entry["chosen"])


def read_choices(folder: Path) -> dict[str, Any] | None:
    """``cpu.json`` of a folder as plain values; None where there is none.

    Raises:
        ArtifactError: ``cpu.json`` is damaged, or of another version.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return None
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise ValueError(values["format"])
        for entry in values["graphs"].values():
            CpuSettings.from_dict(entry["chosen"])
        if not isinstance(values["machine"], dict):
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ArtifactError(
            f"{path}: damaged, or of another version; remove it, and run 'lfm-deploy build --fp32 --target cpu' to "
            "measure again"
        ) from None
    return values


def settings_as_dict(settings: CpuSettings) -> dict[str, Any]:
    """Plain values for JSON."""
    return asdict(settings)
