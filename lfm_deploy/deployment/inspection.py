"""What an artifact is, what made it, and whether it can run on this machine."""

from pathlib import Path
from typing import Any

from engines.gpus import find_gpu
from engines.library import load_runtime_for
from engines.trt import check_gpu, check_version
from lfm_deploy.artifacts import Precision, build_command, is_checkpoint, read_graph_info
from lfm_deploy.contract import describe_threshold
from lfm_deploy.deployment.kernel_table import describe_kernels
from lfm_deploy.engine_info import EngineInfo, read_engine_info
from lfm_deploy.errors import ArtifactError, InputError, UnavailableError
from lfm_deploy.network.checkpoint import read_checkpoint
from lfm_deploy.quantisation import Quantisation
from lfm_deploy.storage.atomic import sha256_of_file


def inspect_artifact(path: Path) -> dict[str, Any]:
    """A checkpoint, ONNX file or engine as plain values, in the order in which people ask.

    Raises:
        InputError: the file is missing, damaged, or of no known kind.
    """
    readers = {".onnx": _graph, ".engine": _engine}
    if path.suffix not in readers and not is_checkpoint(path):
        raise InputError(f"{path}: not an artifact of a known kind; expected a .pth, .onnx or .engine file")
    return {"file": str(path)} | readers.get(path.suffix, _checkpoint)(path)


def _checkpoint(path: Path) -> dict[str, Any]:
    checkpoint = read_checkpoint(path)
    parameters = sum(parameter.numel() for parameter in checkpoint.build_model().parameters())
    return {
        "kind": f"checkpoint, {checkpoint.layout} layout",
        **({"taken": checkpoint.taken} if checkpoint.taken else {}),
        "parameters": parameters,
        "config": checkpoint.config.as_dict(),
        "recipe": checkpoint.recipe,
        "metrics": checkpoint.metrics,
        "bytes": path.stat().st_size,
        "sha256": checkpoint.sha256,
        "runs here": "yes, in PyTorch",
    }


def _graph(path: Path) -> dict[str, Any]:
    info = read_graph_info(path)
    return {
        "kind": f"ONNX graph, {info.precision}, {info.input} input" + (", with evidence" if info.evidence else ""),
        **_quantisation(info.quantisation),
        "threshold": describe_threshold(info.contract),
        "contract": info.contract.as_dict(),
        "config": info.config.as_dict(),
        "made from checkpoint": info.checkpoint_sha256,
        "made with": info.versions,
        "bytes": path.stat().st_size,
        "sha256": sha256_of_file(path),
        "runs here": _graph_runs(path, info.precision),
    }


def _quantisation(made: Quantisation | None) -> dict[str, Any]:
    """What INT8 means for this file; nothing for other precisions."""
    if made is None:
        return {}
    budget = f"{'within' if made.within_budget else 'OUTSIDE'} its budget {made.budget}"
    return {
        "INT8 for": f"{made.recipe}, {100 * made.int8_share:.1f} % of the multiply-adds, {budget}",
        "layers": made.layers,
        "made with ranges": made.ranges_sha256,
    }


def _graph_runs(path: Path, precision: Precision) -> str:
    from engines.cpu_settings import default_settings, find_settings
    from engines.loading import load_engine

    try:
        load_engine(path).close()
    except UnavailableError as error:
        return f"no: {error}"
    chosen = find_settings(path)
    if chosen is None:
        return (
            f"yes, on the CPU: {default_settings(precision=precision)} (not measured; '{build_command(precision)} "
            "--target cpu' finds the fastest)"
        )
    return f"yes, on the CPU: {chosen} (the fastest that was measured here)"


def _engine(path: Path) -> dict[str, Any]:
    info = read_engine_info(path)
    return {
        "kind": f"engine of {info.runtime} {info.library_version}, {info.precision}, {info.input} input",
        "built for": info.gpu,
        "batch (min, opt, max)": info.batch,
        **_quantisation(info.quantisation),
        "threshold": describe_threshold(info.contract),
        "contract": info.contract.as_dict(),
        "config": info.config.as_dict(),
        "made from checkpoint": info.checkpoint_sha256,
        "made from ONNX": info.onnx_sha256,
        "fingerprint": info.fingerprint,
        "bytes": info.plan_bytes,
        "weights in bytes": info.weights_bytes,
        "activations in bytes at the largest batch": info.activation_bytes,
        "graph form": info.form,
        "loads in": _runtimes(info),
        "sha256": info.plan_sha256,
        "kernels": describe_kernels(info),
        "runs here": _engine_runs(path, info),
    }


def _runtimes(info: EngineInfo) -> str:
    unproved = " (version-compatible: not run on a GPU when this version was tested)" if info.version_compatible else ""
    return f"{', '.join(info.loads_in)}{unproved}"


def _engine_runs(path: Path, info: EngineInfo) -> str:
    try:
        check_version(path, info, load_runtime_for(info))
        check_gpu(path, info, find_gpu())
    except (UnavailableError, ArtifactError) as error:
        return f"no: {error}"
    return "yes"
