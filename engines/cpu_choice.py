"""``build --target cpu``: which runtime, threads and streams run a graph fastest on this machine, by measurement."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from engines.amx.engine import AmxEngine
from engines.amx.layers import explain_misfit
from engines.contest import Contest
from engines.cpu_settings import CHOICES, CpuSettings, Runtime, default_settings, describe_place
from engines.engine import Engine
from engines.openvino import OpenVinoEngine
from engines.ort import OrtEngine
from engines.way_choice import Choice
from lfm_deploy.artifacts import GraphInfo, Precision, read_graph_info
from lfm_deploy.contract import usual_side
from lfm_deploy.machine import count_cores, has_amx, has_bfloat16
from lfm_deploy.pictures.photographs import sample_tiles
from lfm_deploy.progress import Progress, ignore_progress
from lfm_deploy.workdir import Workdir

_PICTURES = 16
# Largest |Δlogit| to ONNX Runtime. Float32: sums in another order, with the margin of the export's proof. Weights of
# float16 are multiplied in float32 by both. INT8: runtimes round and saturate differently between layers; seen 0.09
# where the same graph is up to 5 away from float32. BF16: sums in another order are rounded to eight bits after each
# layer; seen 0.1 where the graph is up to 0.5 away from float32.
TOLERANCES = {Precision.FP32: 1e-3, Precision.FP16: 1e-3, Precision.BF16: 1.0, Precision.INT8: 1.0}


def choose_cpu_settings(
    workdir: Workdir, graph: Path, *, rounds: int = 5, seconds: float = 0.3, on_progress: Progress = ignore_progress
) -> Choice[CpuSettings]:
    """Measure the candidates for a graph and write the choice into ``cpu.json`` of the workdir.

    Args:
        workdir: workdir that holds the graph; nobody else may write there meanwhile (``Workdir.lock``).
        graph: an ONNX file of this project.
        rounds: number of turns that each candidate has.
        seconds: least time of a turn, in seconds.
        on_progress: function that is given the name of a step, how much of it is done, and of how much.

    Raises:
        ArtifactError: the graph is damaged.
        UnavailableError: ONNX Runtime is not installed.
    """
    info = read_graph_info(graph)
    side = usual_side(info.contract.size)
    contest = Contest(
        graph=graph,
        images=sample_tiles(side, side, max(_PICTURES, 2 * count_cores())),  # some for each stream
        open_way=partial(_open, graph),
        tolerance=TOLERANCES[info.precision],
        margin=0.0,
        threshold=info.contract.threshold,
    )
    ways = list_ways(info, count_cores(), bfloat16=has_bfloat16(), amx=has_amx())
    choice = contest.run(ways, rounds, seconds, on_progress)
    CHOICES.write(workdir.path, choice, describe_place())
    return choice


def list_candidates(cores: int, *, evidence: bool = False) -> list[CpuSettings]:
    """Ways to run a graph on so many cores; the first is the default.

    With evidence outputs only ONNX Runtime's, since OpenVINO's engine gives logits alone.
    """
    shapes = [(1, cores, 8), (1, cores, 1)]
    shapes += [(cores, 1, 1), (cores, 1, 4)] if cores > 1 else []
    shapes += [(cores // 4, 4, 4)] if cores >= 8 else []
    runtimes: tuple[Runtime, ...] = ("onnxruntime",) if evidence else ("onnxruntime", "openvino")
    found = [
        CpuSettings(runtime=runtime, streams=streams, threads=threads, piece=piece)
        for runtime in runtimes
        for streams, threads, piece in shapes
    ]
    return [default_settings(cores), *(settings for settings in found if settings != default_settings(cores))]


def list_ways(info: GraphInfo, cores: int, *, bfloat16: bool, amx: bool) -> list[CpuSettings]:
    """Ways to run a graph: bfloat16 where it says so, and for what an INT8 graph leaves in floating point.

    Args:
        info: contract and precision that the graph states.
        cores: number of cores.
        bfloat16: whether the processor has units for it.
        amx: whether it has those that our own kernels take.
    """
    own: list[CpuSettings] = []
    if amx and explain_misfit(info) is None:
        own = [CpuSettings(runtime="amx", streams=cores, threads=1, piece=piece) for piece in (1, 4)]
    found = list_candidates(cores, evidence=info.evidence)
    mixed = info.quantisation is not None and set(info.quantisation.layers.values()) != {"int8"}
    if mixed and bfloat16:
        found += [replace(way, arithmetic="bf16") for way in found if way.runtime == "openvino" and way.piece == 1]
    if info.precision is not Precision.BF16:
        return [*found, *own]
    plain = default_settings(cores, info.precision)
    return [plain, *(way for way in found if way.runtime == plain.runtime and way != plain), *own]


def _open(graph: Path, settings: CpuSettings) -> Engine:
    # Threads that spin while others have their turn would slow those down.
    if settings.runtime == "onnxruntime":
        return OrtEngine(graph, settings=settings, spin=False)
    return AmxEngine(graph, settings) if settings.runtime == "amx" else OpenVinoEngine(graph, settings)
