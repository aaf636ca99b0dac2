"""How a graph runs on a CPU, and ``cpu.json``, where ``build --target cpu`` writes down what was fastest here."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from engines.choice_file import ChoiceFile
from lfm_deploy.environment import installed_version
from lfm_deploy.errors import ConfigError
from lfm_deploy.machine import allowed_cores, count_cores, find_instruction_sets, identify_processor

Runtime = Literal["onnxruntime", "openvino", "amx"]
RUNTIMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "amx": "kernels for AMX"}
# The first convolution's output takes 17 MB a picture at 256x256 in float32: eight stay below 150 MB, and more were not
# faster.
DEFAULT_PIECE = 8
# More than any machine has cores: a damaged file must not start a hundred thousand threads.
_MOST_PER_CORE = 4
_MOST = 4096
Threads = Annotated[int, Meta(ge=1, le=_MOST)]


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuSettings:
    """How to run a graph.

    Attributes:
        runtime: ``"onnxruntime"``, ``"openvino"`` or ``"amx"``, kernels of our own for a CPU's matrix units.
        streams: pieces of a batch that run at the same time.
        threads: CPU threads of each session.
        piece: number of pictures in a piece at most.
        arithmetic: ``"as written"``, or ``"bf16"`` to multiply in bfloat16 what the graph has in floating point.
    """

    runtime: Runtime
    streams: Threads
    threads: Threads
    piece: Annotated[int, Meta(ge=1, le=_MOST)]
    arithmetic: Literal["as written", "bf16"] = "as written"

    def __post_init__(self) -> None:
        """Refuse more threads than any machine has cores."""
        if self.streams * self.threads > _MOST:
            raise ConfigError(f"{self.streams} streams of {self.threads} threads are more than {_MOST} threads")

    def __str__(self) -> str:
        """For tables."""
        streams = "" if self.streams == 1 else f"{self.streams} streams of "
        threads = f"{self.threads} thread{'' if self.threads == 1 else 's'}"
        pieces = f"{self.piece} picture{'' if self.piece == 1 else 's'}"
        arithmetic = "" if self.arithmetic == "as written" else f", {self.arithmetic}"
        return f"{RUNTIMES[self.runtime]}, {streams}{threads}, {pieces} at a time{arithmetic}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


CHOICES = ChoiceFile("cpu.json", "lfm-deploy cpu 1", CpuSettings, "lfm-deploy build --fp32 --target cpu")


def default_settings(threads: int | None = None, precision: str = "fp32") -> CpuSettings:
    """What is right wherever nothing was measured: ONNX Runtime with a thread for each core.

    For BF16 it is OpenVINO, which alone has that on a CPU, with a picture on each core.

    Args:
        threads: number of threads; None is one for each core.
        precision: precision of the graph.
    """
    if precision == "bf16":
        return CpuSettings(runtime="openvino", streams=threads or count_cores(), threads=1, piece=1)
    return CpuSettings(runtime="onnxruntime", streams=1, threads=threads or count_cores(), piece=DEFAULT_PIECE)


def describe_place() -> dict[str, Any]:
    """What a measured choice depends on: processor, cores, and versions of the runtimes."""
    return {
        "processor": identify_processor(),
        "instructions": find_instruction_sets(),
        "cores": allowed_cores(),
        "versions": {name: installed_version(name) for name in ("onnxruntime", "onnxruntime-gpu", "openvino", "numba")},
    }


def find_settings(graph: Path) -> CpuSettings | None:
    """What was chosen for a graph on this machine; None where nothing was, or the choice was for something else.

    A process that takes some of the cores alone runs as it was chosen for all of them, with fewer threads: the runtime
    stays, and with it the logits.
    """
    found = CHOICES.find(graph, describe_place())
    if found is None or found.streams * found.threads > _MOST_PER_CORE * allowed_cores():
        return None  # nothing that was measured here
    cores = count_cores()
    if cores == allowed_cores():
        return found
    threads = min(found.threads, cores)
    return replace(found, threads=threads, streams=min(found.streams, cores // threads))
