"""``lfm-deploy triton OUT``: a model repository for Triton Inference Server, made of what a workdir holds.

    OUT/lfm_onnx/   the graph in Triton's ONNX Runtime
    OUT/lfm_trt/    TensorRT plans, one for each kind of card
    OUT/lfm_jpeg/   files in, rows of ``predict`` out, by the Python backend

It appears whole or not at all.
"""

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lfm_deploy.artifacts import GraphInfo, InputForm, Precision, build_command, read_graph_info
from lfm_deploy.deployment.golden import Golden, read_golden
from lfm_deploy.engine_info import EngineInfo, read_engine_info
from lfm_deploy.errors import ArtifactError, ConfigError, ImageError, InputError
from lfm_deploy.pictures.decoding import decode_picture
from lfm_deploy.quantisation import Recipe
from lfm_deploy.serving.text_format import write_text_format
from lfm_deploy.serving.triton_config import (
    JPEG_MODEL,
    ONNX_MODEL,
    TENSORRT_MODEL,
    WARM_UP_FILE,
    configure_jpeg,
    configure_onnx,
    configure_tensorrt,
)
from lfm_deploy.serving.triton_model import GRAPH
from lfm_deploy.serving.triton_readme import write_readme
from lfm_deploy.workdir import Workdir, check_origin

_README = "README.md"
_GRAPH_BATCHES = (8, 32, 64)
_MODEL_PY = '''"""The class that Triton runs is in lfm-deploy: installed, or on PYTHONPATH."""

import os
import sys

# Triton's Python leaves this variable alone.
sys.path[:0] = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path not in sys.path]

from lfm_deploy.serving.triton_model import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """What was written.

    Attributes:
        path: path of the repository.
        models: file that each model runs, by the model's name.
        left_out: reason why a file of the workdir is not in the repository, by the file's name.
        tensorrt: version of TensorRT that the plans need; None where there are no plans.
    """

    path: Path
    models: Mapping[str, str]
    left_out: Mapping[str, str]
    tensorrt: str | None


@dataclass(frozen=True, slots=True)
class _Plan:
    path: Path
    info: EngineInfo


def write_repository(
    workdir: Workdir,
    out: Path,
    *,
    precision: Precision = Precision.FP32,
    plan_precision: Precision | None = None,
    overwrite: bool = False,
    on_message: Callable[[str], None] = lambda _: None,
) -> Repository:
    """Write a model repository.

    Args:
        workdir: folder of the deployment.
        out: folder to write; it must not be there, or be empty, or be a repository that is replaced.
        precision: precision of the graph for ONNX Runtime.
        plan_precision: precision of the plans; None takes the only one that there is, FP16 where there are several.
        overwrite: whether a repository that is there is replaced.
        on_message: function that is given each line of text for people.

    Raises:
        ArtifactError: the graph is missing, stale or damaged, or has no golden pictures.
        ConfigError: the graph takes normalised pixels.
        InputError: the folder is there already, or cannot be written.
    """
    _check_place(out, overwrite=overwrite)
    path, info = _find_graph(workdir, precision)
    golden = read_golden(workdir.golden)
    if golden.checkpoint_sha256 != info.checkpoint_sha256:
        raise ArtifactError(f"{workdir.golden}: was made from another checkpoint than {path}; run 'lfm-deploy export'")
    if golden.size != info.contract.size:
        raise ArtifactError(
            f"{workdir.golden}: holds pictures at size {golden.size}, and {path} takes {info.contract.size}; run "
            "'lfm-deploy export'"
        )
    plans, left_out = _find_plans(workdir, info, plan_precision)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error.strerror}") from None
    try:
        found = _fill(beside, path, info, workdir.golden, golden, plans, left_out)
        beside.chmod(0o755)
        if out.exists():
            shutil.rmtree(out)
        beside.replace(out)
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    for name, reason in left_out.items():
        on_message(f"left out {name}: {reason}")
    version = plans[0].info.library_version if plans else None
    return Repository(path=out, models=found, left_out=left_out, tensorrt=version)


def _check_place(out: Path, *, overwrite: bool) -> None:
    """Refuse a place that is taken; only what is a repository of ours, and nothing else, is ever replaced."""
    if not out.exists():
        return
    ours = {ONNX_MODEL, TENSORRT_MODEL, JPEG_MODEL, _README}
    found = {path.name for path in out.iterdir()} if out.is_dir() else {out.name}
    if out.is_dir() and found <= ours and (overwrite or not found):
        return
    if found <= ours:
        raise InputError(f"{out}: is there already; use another name, or --overwrite to replace it")
    stranger = sorted(found - ours)[0]
    raise InputError(f"{out}: is there already, and holds more than a model repository ({stranger}); use another name")


def _find_graph(workdir: Workdir, precision: Precision) -> tuple[Path, GraphInfo]:
    """The graph of a precision; of INT8 the one for the CPU where it is the only one."""
    path = workdir.graph(precision)
    if precision is Precision.INT8 and not path.is_file():
        path = workdir.graph(precision, Recipe.CPU)
    command = "lfm-deploy export CHECKPOINT.pth" if precision is Precision.FP32 else build_command(precision)
    if not path.is_file():
        raise ArtifactError(f"{path}: no such graph; make it with '{command} --workdir {workdir.path}'")
    info = read_graph_info(path)
    check_origin(path, info.checkpoint_sha256, workdir, command)
    if info.input is not InputForm.UINT8:
        raise ConfigError(f"{path}: takes normalised pixels, and clients send bytes; export without --input float")
    return path, info


def _find_plans(workdir: Workdir, graph: GraphInfo, precision: Precision | None) -> tuple[list[_Plan], dict[str, str]]:
    """Plans that Triton can load together, and why others are left out."""
    plans, left_out = [], {}
    for path in workdir.engines():
        info = read_engine_info(path)
        check_origin(path, info.checkpoint_sha256, workdir, build_command(info.precision, info.gpu))
        if info.runtime != "tensorrt":
            left_out[path.name] = (
                f"it is an engine of {info.runtime}, which Triton's TensorRT backend cannot load; build one with "
                f"'lfm-deploy build --{info.precision} --library tensorrt' on a machine with that card"
            )
        elif info.checkpoint_sha256 != graph.checkpoint_sha256:
            left_out[path.name] = "it was made from another checkpoint than the graph"
        elif info.contract != graph.contract or info.input is not InputForm.UINT8:
            left_out[path.name] = "it takes other pictures than the graph"
        elif info.batch[0] != 1:
            left_out[path.name] = f"it takes no fewer than {info.batch[0]} pictures at a time, and clients send one"
        else:
            plans.append(_Plan(path, info))
    precisions = {plan.info.precision for plan in plans}
    wanted = precision or (Precision.FP16 if len(precisions) > 1 else next(iter(precisions), None))
    version = max((plan.info.library_version for plan in plans if plan.info.precision is wanted), default="")
    chosen: list[_Plan] = []
    for plan in plans:
        if plan.info.precision is not wanted:
            left_out[plan.path.name] = f"it is {plan.info.precision}, and lfm_trt is {wanted}; see --plans"
        elif plan.info.library_version != version:
            left_out[plan.path.name] = f"it needs TensorRT {plan.info.library_version}, and another plan {version}"
        elif plan.info.evidence != chosen[0].info.evidence if chosen else False:
            left_out[plan.path.name] = "its outputs are not those of the other plans"
        else:
            chosen.append(plan)
    return chosen, left_out


def _fill(
    root: Path,
    graph: Path,
    info: GraphInfo,
    golden_path: Path,
    golden: Golden,
    plans: list[_Plan],
    left_out: Mapping[str, str],
) -> dict[str, str]:
    sample = _decode_first(golden, golden_path, info)
    models = {ONNX_MODEL: graph.name}
    version = _write_model(root / ONNX_MODEL, configure_onnx(info, _GRAPH_BATCHES, sample.shape), sample)
    shutil.copyfile(graph, version / "model.onnx")
    if plans:
        first = plans[0].info
        largest = min(plan.info.batch[2] for plan in plans)
        preferred = sorted({min(plan.info.batch[1], largest) for plan in plans} | {largest})
        files = {_capability(plan.info.gpu): plan.path.with_suffix(".plan").name for plan in plans}
        config = configure_tensorrt(first, files, preferred, sample.shape)
        version = _write_model(root / TENSORRT_MODEL, config, sample)
        for plan in plans:
            shutil.copyfile(plan.path, version / plan.path.with_suffix(".plan").name)
        models[TENSORRT_MODEL] = ", ".join(plan.path.name for plan in plans)
    version = _write_model(root / JPEG_MODEL, configure_jpeg(info), None)
    (version / "model.py").write_text(_MODEL_PY)
    shutil.copyfile(graph, version / GRAPH)
    shutil.copyfile(golden_path, version / golden_path.name)
    models[JPEG_MODEL] = graph.name
    (root / _README).write_text(write_readme(info, [plan.info for plan in plans], left_out), encoding="utf-8")
    return models


def _decode_first(golden: Golden, where: Path, info: GraphInfo) -> NDArray[np.uint8]:
    try:
        return decode_picture(golden.pictures[0].content, golden.size, info.config)
    except ImageError as error:
        raise ArtifactError(f"{where}: {golden.pictures[0].name}: {error}; run 'lfm-deploy export'") from None


def _write_model(folder: Path, config: Mapping[str, Any], sample: NDArray[np.uint8] | None) -> Path:
    """Write configuration and sample of a model; the folder of its one version."""
    version = folder / "1"
    version.mkdir(parents=True)
    (folder / "config.pbtxt").write_text(write_text_format(config))
    if sample is not None:
        warm_up = folder / "warmup"
        warm_up.mkdir()
        (warm_up / WARM_UP_FILE).write_bytes(sample.tobytes())
    return version


def _capability(gpu: str) -> str:
    """``"8.6"`` of ``"sm86"``, ``"12.0"`` of ``"sm120"``."""
    digits = gpu.removeprefix("sm")
    return f"{digits[:-1]}.{digits[-1]}"
