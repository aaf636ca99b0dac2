"""What the logits of an engine depend on besides the picture: its file, runtime, versions, settings and hardware."""

from pathlib import Path
from typing import Any

from engines.cpu_settings import default_settings, find_settings
from engines.devices import parse_gpu, split_devices
from engines.gpu_settings import PLAIN
from engines.gpu_settings import find_settings as find_gpu_settings
from engines.gpus import Gpu, find_gpu
from engines.kernel_sources import hash_kernels
from engines.memory import check, load_runtime
from lfm_deploy.deployment.lineup import Candidate
from lfm_deploy.engine_info import read_engine_info
from lfm_deploy.environment import installed_version
from lfm_deploy.errors import UnavailableError
from lfm_deploy.machine import count_cores, find_instruction_sets, identify_processor
from lfm_deploy.storage.atomic import sha256_of_file
from lfm_deploy.storage.graph_file import hash_network

Identity = dict[str, Any]
_LIBRARIES = {"onnxruntime": ("onnxruntime", "onnxruntime-gpu"), "openvino": ("openvino",), "amx": ("numba",)}


def identify(candidate: Candidate) -> Identity | None:
    """Everything that a candidate's logits depend on here besides the picture, as plain values for JSON.

    PyTorch and ONNX Runtime are asked for their versions alone, not loaded. None where something cannot be told, like
    the GPU without cuda-python: such an engine is opened to see whether it runs, and nothing of it is kept.

    Args:
        candidate: engine from ``find_candidates``.

    Raises:
        ArtifactError: a TensorRT engine is damaged or stale.
        OtherGpuError: a TensorRT engine was built for another GPU than this machine's.
        UnavailableError: a TensorRT engine cannot run here.
    """
    about: Identity = {"file": _identify_file(candidate.path), "precision": str(candidate.precision)}
    if candidate.path.suffix == ".engine":
        return about | _identify_engine(candidate)
    device = candidate.device or "cpu"
    try:
        about |= identify_place(device)
    except UnavailableError:
        return None
    if candidate.path.suffix == ".pth":
        form = {"compiled": True} if candidate.compiled else {}
        return _with_version(about | {"runtime": "pytorch"} | form, "torch")
    if device != "cpu":
        chosen = find_gpu_settings(candidate.path, device) or PLAIN
        if chosen.runtime == "fused":
            about["kernels"] = hash_kernels("kernels")
        versions = ("onnxruntime-gpu", "onnxruntime") if chosen.runtime == "onnxruntime" else ("torch", "triton")
        return _with_version(about | {"runtime": chosen.runtime, "settings": chosen.as_dict()}, *versions)
    settings = find_settings(candidate.path) or default_settings(precision=candidate.precision)
    if settings.runtime == "amx":
        about["kernels"] = hash_kernels("amx")
    names = _LIBRARIES[settings.runtime]
    return _with_version(about | {"runtime": settings.runtime, "settings": settings.as_dict()}, *names)


def identify_place(device: str) -> Identity:
    """The hardware that logits depend on: processor, instruction sets and cores, or GPUs and driver.

    Args:
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``, or several GPUs with commas between.

    Raises:
        ConfigError: a device is called otherwise.
        UnavailableError: the GPU cannot be asked, as cuda-python or a driver is missing.
    """
    if device == "cpu":
        return {
            "device": device,
            "processor": identify_processor(),
            "instructions": find_instruction_sets(),
            "cores": count_cores(),
        }
    runtime = load_runtime()
    gpus = [find_gpu(parse_gpu(name)) for name in split_devices(device)]
    driver = int(check(runtime, runtime.cudaDriverGetVersion(), "asking the driver for its version"))
    return {"device": device, "gpus": [_describe_gpu(gpu) for gpu in gpus], "driver": driver}


def _identify_file(path: Path) -> str:
    """Of a graph, the network alone: a threshold that is written into it changes no logit."""
    return hash_network(path.read_bytes()) if path.suffix == ".onnx" else sha256_of_file(path)


def _identify_engine(candidate: Candidate) -> Identity:
    """Of a TensorRT engine, after finding that it can run here; in the order in which loading it would complain."""
    from engines.library import load_runtime_for
    from engines.trt import check_gpu, check_version

    info = read_engine_info(candidate.path)
    library = load_runtime_for(info)
    check_version(candidate.path, info, library)
    for device in (candidate.device or "cuda").split(","):
        check_gpu(candidate.path, info, find_gpu(parse_gpu(device)))
    place = identify_place(candidate.device or "cuda")
    return {"runtime": library.name, "version": library.version} | place


def _describe_gpu(gpu: Gpu) -> dict[str, str]:
    return {"name": gpu.name, "sm": gpu.sm}


def _with_version(about: Identity, *distributions: str) -> Identity | None:
    """The identity with versions of those of the distributions that are installed; None where none is."""
    found = {name: number for name in distributions if (number := installed_version(name)) is not None}
    return about | {"version": found} if found else None
