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

RUNTIMES = {"onnxruntime": "ONNX Runtime", "fused": "fused kernels", "pytorch": "PyTorch compiled"}
# The first convolution's output takes 17 MB a picture at 256x256 in float32.
DEFAULT_PIECE = 32
_MOST = 4096
_VERSIONS = ("onnxruntime", "onnxruntime-gpu", "torch", "triton")


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSettings:
    """How to run a graph.

    Attributes:
        runtime: ``"onnxruntime"``; ``"fused"`` for kernels of our own; or ``"pytorch"`` for the checkpoint that the
            graph was made from, compiled by ``torch.compile``. The rest is for ONNX Runtime.
        piece: number of pictures that run at once at most, rounded down to a power of two.
        nhwc: whether the channels of a pixel are kept together, as tensor cores want them, and biases are added inside
            of convolutions.
        search: way to choose cuDNN's algorithms: ``"exhaustive"`` tries all of them for each new shape,
            ``"heuristic"`` takes cuDNN's word.
        cuda_graph: whether batches that return are captured into CUDA graphs.
    """

    runtime: Literal["onnxruntime", "fused", "pytorch"]
    piece: Annotated[int, Meta(ge=1, le=_MOST)] = DEFAULT_PIECE
    nhwc: bool = False
    search: Literal["exhaustive", "heuristic"] = "exhaustive"
    cuda_graph: bool = False

    def __str__(self) -> str:
        """For tables."""
        if self.runtime != "onnxruntime":
            return RUNTIMES[self.runtime]
        words = {
            "NHWC": self.nhwc,
            "heuristic search": self.search == "heuristic",
            "CUDA graphs": self.cuda_graph,
            f"{self.piece} pictures at a time": True,
        }
        return ", ".join([RUNTIMES[self.runtime], *(word for word, said in words.items() if said)])

    @property
    def provider_options(self) -> dict[str, str]:
        """Options of ONNX Runtime's CUDA provider."""
        options = {"cudnn_conv_algo_search": self.search.upper(), "cudnn_conv_use_max_workspace": "1"}
        if self.nhwc:
            options |= {"prefer_nhwc": "1", "fuse_conv_bias": "1"}
        return options | ({"enable_cuda_graph": "1"} if self.cuda_graph else {})

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
