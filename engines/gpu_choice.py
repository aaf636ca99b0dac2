"""``build --target cuda``: which way runs a graph fastest on the NVIDIA GPU in this machine, by measurement."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.contest import Contest
from engines.engine import Engine
from engines.gpu_settings import CHOICES, PLAIN, GpuSettings, describe_card
from engines.way_choice import Choice
from lfm_deploy.artifacts import InputForm, Precision, read_graph_info
from lfm_deploy.contract import usual_side
from lfm_deploy.errors import UnavailableError
from lfm_deploy.pictures.photographs import sample_tiles
from lfm_deploy.progress import Progress, ignore_progress
from lfm_deploy.storage.atomic import sha256_of_file
from lfm_deploy.workdir import Workdir

# As many as a card is busy with: parts of 128, which is as many as run at once, and no more than a second of ONNX
# Runtime at its slowest.
_PICTURES = 512
_JUDGED = 16
# The first run of a batch is made call by call, the second is captured, the third is a replay.
_REPEATS = 3
# Largest |Δlogit| to the same graph in ONNX Runtime on the CPU, which computes float16 graphs in float32. Float32: sums
# in another order. Float16: roundings of each map to 11 bits moved golden logits by 0.05. INT8: as between ways on a
# CPU.
TOLERANCES = {Precision.FP32: 2e-3, Precision.FP16: 0.2, Precision.INT8: 1.0}


def choose_gpu_settings(
    workdir: Workdir,
    graph: Path,
    *,
    device: str = "cuda",
    rounds: int = 5,
    seconds: float = 0.3,
    on_progress: Progress = ignore_progress,
) -> Choice[GpuSettings]:
    """Measure the ways to run a graph on a GPU and write the choice into ``gpu.json`` of the workdir.

    Args:
        workdir: workdir that holds the graph; nobody else may write there meanwhile (``Workdir.lock``).
        graph: an ONNX file of this project.
        device: ``"cuda"`` or ``"cuda:N"``.
        rounds: number of turns that each way has.
        seconds: least time of a turn, in seconds.
        on_progress: function that is given the name of a step, how much of it is done, and of how much.

    Raises:
        ArtifactError: the graph is damaged.
        GateError: no way gives the graph's logits.
        UnavailableError: there is no GPU, or no way can run on it; or ONNX Runtime is not installed, whose logits on
            the CPU all ways must give.
    """
    place = describe_card(device)
    info = read_graph_info(graph)
    side = usual_side(info.contract.size)
    images = sample_tiles(side, side, _PICTURES)
    contest = Contest(
        graph=graph,
        images=images,
        open_way=partial(open_way, graph, device),
        reference=_judge_on_cpu(graph, images[:_JUDGED]),
        tolerance=TOLERANCES[info.precision],
        margin=TOLERANCES[info.precision],
        threshold=info.contract.threshold,
        repeats=_REPEATS,
    )
    choice = contest.run(list_ways(), rounds, seconds, on_progress)
    CHOICES.write(workdir.path, choice, place)
    return choice


def _judge_on_cpu(graph: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    from engines.ort import OrtEngine

    engine = OrtEngine(graph)
    try:
        return engine.logits(images)
    finally:
        engine.close()


def list_ways() -> list[GpuSettings]:
    """Ways to run a graph on a GPU; the first that runs is the plain one."""
    large = GpuSettings(runtime="onnxruntime", piece=128)
    wide = replace(large, nhwc=True)
    return [
        PLAIN,
        replace(large, search="heuristic"),
        replace(large, cuda_graph=True),
        replace(wide, piece=PLAIN.piece),
        wide,
        replace(wide, search="heuristic"),
        replace(wide, cuda_graph=True),
        GpuSettings(runtime="pytorch"),
        GpuSettings(runtime="fused"),
    ]


def open_way(graph: Path, device: str, settings: GpuSettings) -> Engine:
    """The engine that runs a graph on a GPU in a way.

    Args:
        graph: path of the graph.
        device: ``"cuda"`` or ``"cuda:N"``.
        settings: the way.

    Raises:
        ArtifactError: the graph is damaged or not ours.
        UnavailableError: the graph cannot run in this way on this machine.
    """
    if settings.runtime == "fused":
        from engines.fused import FusedEngine

        return FusedEngine(graph, device=device)
    if settings.runtime == "pytorch":
        return open_compiled(graph, device)
    from engines.ort_cuda import OrtCudaEngine

    return OrtCudaEngine(graph, device=device, settings=settings)


def open_compiled(graph: Path, device: str) -> Engine:
    """The checkpoint that a graph was made from, which lies beside it, compiled and in the graph's precision.

    Args:
        graph: path of the graph.
        device: ``"cuda"`` or ``"cuda:N"``.

    Raises:
        ArtifactError: the graph is damaged or not ours.
        UnavailableError: PyTorch does not run what the graph computes, the checkpoint is missing or another one, or it
            cannot be compiled on this machine.
    """
    info = read_graph_info(graph)
    if info.precision not in (Precision.FP32, Precision.FP16):
        raise UnavailableError(
            f"{graph}: not run by PyTorch: it runs a checkpoint in fp32 or fp16, not {info.precision}"
        )
    if info.contract.size == "native" or info.input is not InputForm.UINT8:
        raise UnavailableError(f"{graph}: not run by PyTorch: it is compiled for uint8 pictures of one size")
    path = Workdir(graph.parent).checkpoint
    if not path.is_file() or sha256_of_file(path) != info.checkpoint_sha256:
        raise UnavailableError(
            f"{graph}: not run by PyTorch: the checkpoint that it was made from is not beside it as {path.name}; "
            "run 'lfm-deploy export CHECKPOINT.pth'"
        )
    from engines.pytorch import PyTorchEngine

    return PyTorchEngine.from_file(path, device=device, precision=info.precision, compiled=True, contract=info.contract)
