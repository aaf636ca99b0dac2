"""What a figure depends on: the machine and the libraries."""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from lfm_deploy.machine import count_cores, read_processor
from lfm_deploy.version import __version__

_LIBRARIES = (
    "torch",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt",
    "tensorrt-rtx",
    "numpy",
    "pillow",
)


def describe_environment() -> dict[str, Any]:
    """What a figure depends on: processor, threads, system and library versions."""
    return {
        "lfm-deploy": __version__,
        "processor": read_processor(),
        "threads": count_cores(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "libraries": {name: found for name in _LIBRARIES if (found := installed_version(name)) is not None},
    }


def installed_version(name: str) -> str | None:
    """The version of an installed distribution, such as ``"torch"``; None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
