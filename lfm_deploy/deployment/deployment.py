"""Filling a workdir: export a checkpoint into it, build engines in it, each step whole or not at all."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from engines.build_progress import BuildProgress
from engines.builder import BuildConfig, BuildResult, build_engine
from engines.gpus import find_gpu
from engines.library import Library, load_library
from engines.targets import check_targets
from export.exporter import ProvedGraph, make_proved_graph
from export.graph import ExportConfig, is_made_as, library_versions
from lfm_deploy.artifacts import Precision, build_command, read_graph_info, read_graph_info_if_whole
from lfm_deploy.deployment.golden import make_golden
from lfm_deploy.errors import UnavailableError
from lfm_deploy.machine import require_bfloat16
from lfm_deploy.network.checkpoint import copy_as_own, read_checkpoint
from lfm_deploy.network.checkpoint_file import is_torch_file
from lfm_deploy.network.origin import read_origin
from lfm_deploy.quantisation import Recipe
from lfm_deploy.storage.atomic import write_atomically, write_together
from lfm_deploy.storage.overlap import refuse_input
from lfm_deploy.workdir import Workdir, check_origin

# Built ahead of time where no GPU says otherwise: the generations most in use (A10/A6000, L4/RTX 40, RTX 50).
DEFAULT_GPUS = ("sm86", "sm89", "sm120")


@dataclass(frozen=True, slots=True)
class BuildTarget:
    """A library and the GPUs that it builds for; ``reason`` says why it was these."""

    library: Library
    gpus: tuple[str, ...]
    reason: str


def export_into(
    workdir: Workdir,
    checkpoint: Path,
    config: ExportConfig,
    on_message: Callable[[str], None],
    *,
    ema: bool = False,
) -> ProvedGraph:
    """Export a checkpoint: ``lfm.pth``, its copy, ``lfm.onnx`` and ``golden.zip`` appear together, after the proof.

    Of a file that holds more than one plain network, ``lfm.pth`` holds what was taken, in our own layout.

    Args:
        workdir: folder of the deployment; made where it is missing.
        checkpoint: path of the file, as ``read_checkpoint`` takes it.
        config: size policy, input form and other choices of the export.
        on_message: function that is given each line of text for people, such as what was taken of the file.
        ema: whether to take the average of weights that the file holds beside them.

    Raises:
        CheckpointError: the file is not a checkpoint of LFM.
        BuildError, GateError: the graph is not what it must be; nothing is written.
        InputError: a file of the workdir that would be written is the checkpoint itself.
    """
    source, content = read_checkpoint(checkpoint, ema=ema), None
    refuse_input("--workdir", [workdir.graph(Precision.FP32)], [checkpoint])
    if source.taken or not is_torch_file(checkpoint):
        refuse_input("--workdir", [workdir.checkpoint], [checkpoint])  # a plain one is replaced by its own bytes
        on_message(f"{checkpoint}: took {source.taken or 'its tensors'}")
        source, content = copy_as_own(source)
    config = _keep_threshold(workdir, source.sha256, config, on_message)
    graph, golden = make_proved_graph(source, config), make_golden(source, config.size)
    with workdir.lock(on_message):
        content = checkpoint.read_bytes() if content is None else content
        contents = {workdir.checkpoint: content, workdir.golden: golden}
        write_together(contents | {workdir.graph(Precision.FP32): graph.content})
    return graph


def _keep_threshold(
    workdir: Workdir, sha256: str, config: ExportConfig, on_message: Callable[[str], None]
) -> ExportConfig:
    """The same with the threshold that was chosen here for the same checkpoint and the same size of pictures."""
    before = read_graph_info_if_whole(workdir.graph(Precision.FP32))
    if config.decided is not None or before is None or before.contract.chosen is None:
        return config
    if (before.checkpoint_sha256, before.contract.size) != (sha256, config.size):
        on_message(f"the threshold {before.contract.threshold:g} was of another graph and goes; the new one is 0")
        return config
    on_message(f"keeping the threshold {before.contract.threshold:g}, {before.contract.chosen}")
    return replace(config, decided=before.contract)


def choose_target(gpus: list[str] | None, library: str | None) -> BuildTarget:
    """Which library builds for which GPUs: what was asked for, else this machine's GPU, else ahead of time.

    Args:
        gpus: compute capabilities such as ``["sm86"]``; None to choose.
        library: ``"tensorrt"`` or ``"tensorrt-rtx"``; None to choose.

    Raises:
        UnavailableError: the GPU or the library that was asked for cannot be built for on this machine.
    """
    target = _choose_target(gpus, library)
    check_targets(target.library, target.gpus)
    return target


def _choose_target(gpus: list[str] | None, library: str | None) -> BuildTarget:
    try:
        here = find_gpu()
    except UnavailableError as error:
        if library == "tensorrt":
            raise UnavailableError(
                f"tensorrt builds only on the GPU that it builds for, and there is {error}"
            ) from None
        chosen = tuple(gpus or DEFAULT_GPUS)
        return BuildTarget(load_library("tensorrt-rtx"), chosen, f"{error}; building ahead of time")
    wanted = tuple(gpus or (here.sm,))
    elsewhere = [gpu for gpu in wanted if gpu != here.sm]
    if library == "tensorrt" and elsewhere:
        raise UnavailableError(
            f"tensorrt builds only for the GPU in this machine ({here.name}, {here.sm}), not for "
            f"{', '.join(elsewhere)}; use --library tensorrt-rtx"
        )
    if library is None:
        library = "tensorrt-rtx" if elsewhere or not _is_installed("tensorrt") else "tensorrt"
    return BuildTarget(load_library(library), wanted, f"this machine has {here.name} ({here.sm})")


def make_typed_graph(workdir: Workdir, precision: Precision, on_message: Callable[[str], None]) -> Path:
    """The typed ONNX of a precision in a workdir, made from its checkpoint where it is missing or stale.

    It is the variant that ``lfm.onnx`` is: same size policy, input form and evidence, which BF16 graphs alone never
    have. INT8 graphs are made by ``quantise_into``.

    Raises:
        ArtifactError: nothing was exported here, or ``lfm.onnx`` was made from another checkpoint.
        BuildError, GateError: the graph is not what it must be; nothing is written.
        UnavailableError: BF16 was asked for, and this processor or an installation without OpenVINO has none.
    """
    if precision is Precision.BF16:
        require_bfloat16()
    source, base = read_origin(workdir)
    path = workdir.graph(precision)
    evidence = base.evidence and precision is not Precision.BF16
    wanted = replace(base, precision=precision, evidence=evidence, versions=library_versions())
    found = read_graph_info_if_whole(path)
    if precision is Precision.FP32 or (found is not None and is_made_as(found, wanted)):
        return path
    config = ExportConfig(
        size=base.contract.size,
        input=base.input,
        evidence=evidence,
        precision=precision,
        decided=base.contract,
    )
    graph = make_proved_graph(source, config)
    with write_atomically(path) as temporary:
        temporary.write_bytes(graph.content)
    worst = max(graph.proof, key=lambda row: row.max_error)
    on_message(
        f"{path}: made from {workdir.checkpoint.name} and proved: |Δlogit| at most {worst.max_error:.2g}, "
        f"{worst.flips} flips on {worst.pictures} tiles"
    )
    return path


def build_into(
    workdir: Workdir,
    precision: Precision,
    target: BuildTarget,
    config: BuildConfig,
    *,
    on_message: Callable[[str], None],
    on_progress: Callable[[str, BuildProgress], None] | None = None,
) -> list[BuildResult]:
    """Build an engine for each GPU of a target, with the typed ONNX that it is made from.

    Args:
        workdir: a folder that a checkpoint was exported into.
        precision: precision of graph and engines; for INT8 the graph is there already, from ``quantise_into``.
        target: GPUs and library to build for, from ``choose_target``.
        config: batch profile and limits.
        on_message: function that is given each line of text for people.
        on_progress: function that is given the GPU and the step, as a build proceeds.
    """
    results = []
    workdir.require_checkpoint()
    with workdir.lock(on_message):
        graph = (
            _require_int8(workdir) if precision is Precision.INT8 else make_typed_graph(workdir, precision, on_message)
        )
        for gpu in target.gpus:

            def report(step: BuildProgress, gpu: str = gpu) -> None:
                if on_progress is not None:
                    on_progress(gpu, step)

            results.append(
                build_engine(
                    graph,
                    workdir.engine(precision, gpu),
                    target.library,
                    gpu,
                    config,
                    timing_cache=workdir.timing_cache,
                    on_progress=report,
                )
            )
    return results


def _require_int8(workdir: Workdir) -> Path:
    """The INT8 graph for TensorRT, of this checkpoint."""
    path = workdir.graph(Precision.INT8, Recipe.TENSORRT)
    check_origin(path, read_graph_info(path).checkpoint_sha256, workdir, build_command("int8"))
    return path


def _is_installed(library: str) -> bool:
    try:
        load_library(library)
    except UnavailableError:
        return False
    return True
