"""How a graph runs on an NVIDIA GPU, and ``gpu.json``, where ``build --target cuda`` writes down what was fastest."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from engines.choice_file import ChoiceFile
from engines.devices import parse_gpu, split_devices
from engines.gpus import find_gpu
from engines.memory import check, load_runtime
from lfm_deploy.environment import installed_version
from lfm_deploy.errors import UnavailableError

RUNTIMES = {"onnxruntime": "ONNX Runtime", "fused": "fused kernels"}
# The first convolution's output takes 17 MB a picture at 256x256 in float32.
DEFAULT_PIECE = 32
_MOST = 4096
_VERSIONS = ("onnxruntime", "onnxruntime-gpu", "torch", "triton")


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSettings:
    """How to run a graph.

    Attributes:
        runtime: ``"onnxruntime"``, or ``"fused"`` for kernels of our own.
        piece: number of pictures that run at once at most; the fused kernels choose by themselves.
        nhwc: whether ONNX Runtime keeps the channels of a pixel together, as tensor cores want them, and adds biases
            inside of convolutions.
    """

    runtime: Literal["onnxruntime", "fused"]
    piece: Annotated[int, Meta(ge=1, le=_MOST)] = DEFAULT_PIECE
    nhwc: bool = False

    def __str__(self) -> str:
        """For tables."""
        if self.runtime == "fused":
            return RUNTIMES[self.runtime]
        return f"{RUNTIMES[self.runtime]}{', NHWC' if self.nhwc else ''}, {self.piece} pictures at a time"

    @property
    def provider_options(self) -> dict[str, str]:
        """Options of ONNX Runtime's CUDA provider."""
        return {"prefer_nhwc": "1", "fuse_conv_bias": "1"} if self.nhwc else {}

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


CHOICES = ChoiceFile("gpu.json", "lfm-deploy gpu 1", GpuSettings, "lfm-deploy build --fp16 --target cuda")
PLAIN = GpuSettings(runtime="onnxruntime")


def describe_card(device: str) -> dict[str, Any]:
    """What a measured choice depends on: the card, its driver, and versions of the runtimes.

    Args:
        device: ``"cuda"`` or ``"cuda:N"``; of several with commas between, the first.

    Raises:
        ConfigError: the device is called otherwise.
        UnavailableError: there is no such GPU, or it cannot be asked.
    """
    gpu = find_gpu(parse_gpu(split_devices(device)[0]))
    runtime = load_runtime()
    driver = int(check(runtime, runtime.cudaDriverGetVersion(), "asking the driver for its version"))
    versions = {name: installed_version(name) for name in _VERSIONS}
    return {"gpu": gpu.name, "sm": gpu.sm, "driver": driver, "versions": versions}


def find_settings(graph: Path, device: str) -> GpuSettings | None:
    """What was chosen for a graph on this card; None where nothing was, for something else, or no card can be asked.

    Args:
        graph: path of the graph.
        device: ``"cuda"`` or ``"cuda:N"``, or several with commas between.
    """
    if not (graph.parent / CHOICES.name).is_file():
        return None
    try:
        return CHOICES.find(graph, describe_card(device))
    except UnavailableError:
        return None  # whoever opens the graph there says why it cannot run
