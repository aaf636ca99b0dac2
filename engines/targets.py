"""Which GPUs the installed library builds for, asked before anything is built."""

from collections.abc import Sequence
from typing import Any

from engines.library import Library
from lfm_deploy.errors import UnavailableError


def list_targets(library: Library) -> dict[str, Any]:
    """The library's own constants for the GPUs that it builds for ahead of time, by names such as ``"sm86"``.

    Args:
        library: library that builds; ``tensorrt`` has no such list, it takes the GPU in this machine.
    """
    if not library.is_rtx:
        return {}
    members = library.module.ComputeCapability.__members__
    return {name.lower(): value for name, value in members.items() if name.startswith("SM")}


def check_targets(library: Library, gpus: Sequence[str]) -> None:
    """Refuse GPUs that tensorrt-rtx does not serve, such as Hopper's, and say what does run there.

    Args:
        library: library that is to build.
        gpus: compute capabilities, such as ``["sm86"]``.

    Raises:
        UnavailableError: a GPU is not among the library's; the message has the way that works.
    """
    targets = list_targets(library)
    refused = [gpu for gpu in gpus if gpu not in targets]
    if not library.is_rtx or not refused:
        return
    known = ", ".join(sorted(targets, key=lambda name: int(name[2:])))
    raise UnavailableError(
        f"{library.name} {library.version} cannot build for {', '.join(refused)}; it builds for {known}. On a machine "
        "with such a GPU run 'lfm-deploy build --fp16 --target cuda', which takes the fastest of our own kernels and "
        "ONNX Runtime there, or install tensorrt and run 'lfm-deploy build --library tensorrt'"
    )
