"""NVIDIA GPUs by name and by compute capability, and the one in this machine."""

import re
from dataclasses import dataclass

from engines.memory import check, describe_error, load_runtime
from lfm_deploy.errors import ConfigError, UnavailableError, nearest

# Compute capabilities as NVIDIA lists them (developer.nvidia.com/cuda-gpus), without "NVIDIA" and "GeForce".
_CARDS = {
    "sm75": "T4, RTX 2060, RTX 2070, RTX 2080, RTX 2080 Ti, TITAN RTX, Quadro RTX 4000, Quadro RTX 6000",
    "sm80": "A100, A30",
    "sm86": "RTX A2000, RTX A4000, RTX A4500, RTX A5000, RTX A5500, RTX A6000, A2, A10, A16, A40, RTX 3050, "
    "RTX 3060, RTX 3060 Ti, RTX 3070, RTX 3070 Ti, RTX 3080, RTX 3080 Ti, RTX 3090, RTX 3090 Ti",
    "sm89": "L4, L40, L40S, RTX 2000 Ada, RTX 4000 Ada, RTX 4500 Ada, RTX 5000 Ada, RTX 6000 Ada, RTX 4050, "
    "RTX 4060, RTX 4060 Ti, RTX 4070, RTX 4070 Ti, RTX 4080, RTX 4090",
    "sm90": "H100, H200, GH200",
    "sm100": "B200, GB200",
    "sm120": "RTX 5050, RTX 5060, RTX 5060 Ti, RTX 5070, RTX 5070 Ti, RTX 5080, RTX 5090, "
    "RTX PRO 4000 Blackwell, RTX PRO 4500 Blackwell, RTX PRO 5000 Blackwell, RTX PRO 6000 Blackwell",
    "sm121": "GB10, DGX Spark",
}


def _normalised(name: str) -> str:
    return re.sub(r"nvidia|geforce|generation|[^a-z0-9]", "", name.lower())


_SM_OF_CARD = {_normalised(card): sm for sm, cards in _CARDS.items() for card in cards.split(", ")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU in this machine: CUDA's index, its name, its compute capability such as ``"sm86"``.

    Attributes:
        index: CUDA's number of the GPU.
        name: name of the GPU, such as ``"NVIDIA RTX A6000"``.
        sm: compute capability, such as ``"sm86"``.
    """

    index: int
    name: str
    sm: str


def parse_gpus(text: str) -> list[str]:
    """Compute capabilities, such as ``["sm86", "sm89"]``, of a comma-separated list of numbers or card names.

    Raises:
        ConfigError: a name is not known; the message offers close ones.
    """
    found = []
    for part in (part.strip() for part in text.split(",")):
        number = re.fullmatch(r"(?:sm_?)?(\d{2,3}|\d{1,2}\.\d)", part, re.IGNORECASE)
        sm = f"sm{number[1].replace('.', '')}" if number else _SM_OF_CARD.get(_normalised(part))
        if sm is None:
            close = nearest(part, [*_CARDS, *(card for cards in _CARDS.values() for card in cards.split(", "))])
            hint = f" (did you mean {close}?)" if close else ""
            raise ConfigError(
                f"--gpu {part!r} is no GPU that is known here{hint}; give its compute capability, such as sm86"
            )
        if sm not in found:
            found.append(sm)
    return found


def count_gpus() -> int:
    """How many GPUs CUDA sees, at least one.

    Raises:
        UnavailableError: there is no driver, no GPU, or cuda-python is not installed.
    """
    runtime = load_runtime()
    error, count = runtime.cudaGetDeviceCount()
    if error == runtime.cudaError_t.cudaErrorInsufficientDriver:
        # CUDA's own words for this speak of versions even where there is no driver at all.
        raise UnavailableError("no CUDA device: there is no NVIDIA driver here, or too old a one (CUDA error 35)")
    if error != runtime.cudaError_t.cudaSuccess:
        raise UnavailableError(f"no CUDA device: {describe_error(runtime, error)}")
    return int(count)


def find_gpu(index: int = 0) -> Gpu:
    """The GPU with a CUDA index.

    Raises:
        UnavailableError: there is no driver, no such GPU, or cuda-python is not installed.
    """
    count = count_gpus()
    if index >= count:
        raise UnavailableError(f"no CUDA device {index}: this machine has {count}")
    runtime = load_runtime()
    doing = f"asking CUDA device {index} what it is"
    attributes = runtime.cudaDeviceAttr
    major, minor = (
        check(runtime, runtime.cudaDeviceGetAttribute(attribute, index), doing)
        for attribute in (
            attributes.cudaDevAttrComputeCapabilityMajor,
            attributes.cudaDevAttrComputeCapabilityMinor,
        )
    )
    name = check(runtime, runtime.cudaGetDeviceProperties(index), doing).name
    return Gpu(index=index, name=name.decode() if isinstance(name, bytes) else str(name), sm=f"sm{major}{minor}")
