"""What a figure depends on: the machine and the libraries."""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TypedDict

from lfm_deploy.machine import count_cores, read_processor
from lfm_deploy.version import __version__

RUNTIME_LIBRARIES = (
    "torch",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "numba",
    "tensorrt",
    "tensorrt-rtx",
    "numpy",
    "pillow",
)
"""Libraries that verdicts depend on, by distribution."""
_LIBRARIES = (*RUNTIME_LIBRARIES, "onnx")


# Written as a call, for a name with a hyphen: ``lfm-deploy`` is this package's version, ``processor`` the processor's
# name, ``threads`` the number of cores that this process may use, ``system`` the operating system, ``python`` its
# version, and ``libraries`` has the versions of those that are installed, by distribution.
EnvironmentValues = TypedDict(
    "EnvironmentValues",
    {
        "lfm-deploy": str,
        "processor": str,
        "threads": int,
        "system": str,
        "python": str,
        "libraries": dict[str, str],
    },
)


def describe_environment() -> EnvironmentValues:
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
