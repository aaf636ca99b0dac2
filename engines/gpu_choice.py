"""``build --target cuda``: which way runs a graph fastest on the NVIDIA GPU in this machine, by measurement."""

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.engine import Engine
from engines.gpu_settings import CHOICES, PLAIN, GpuSettings, describe_card
from engines.way_choice import Choice, Contest
from lfm_deploy.artifacts import Precision, read_graph_info
from lfm_deploy.contract import usual_side
from lfm_deploy.pictures.photographs import sample_tiles
from lfm_deploy.progress import Progress, ignore_progress
from lfm_deploy.workdir import Workdir

# As many as a card is busy with, and no more than a second of ONNX Runtime at its slowest.
_PICTURES = 256
_JUDGED = 16
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
        UnavailableError: there is no GPU, or neither ONNX Runtime nor the fused kernels can run on it; or ONNX Runtime
            is not installed, whose logits on the CPU all ways must give.
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
    nhwc = [GpuSettings(runtime="onnxruntime", piece=piece, nhwc=True) for piece in (32, 128)]
    return [PLAIN, *nhwc, GpuSettings(runtime="fused")]


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
    from engines.ort import OrtEngine

    return OrtEngine(graph, device=device, on_gpu=settings, spin=False)
