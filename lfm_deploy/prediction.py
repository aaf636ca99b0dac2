"""Verdicts on pictures: an engine over the groups that the picture pipeline decodes."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.engine import Engine
from engines.gpus import find_gpu
from engines.loading import load_engine
from lfm_deploy.artifacts import Precision, build_command, read_engine_info, read_graph_info
from lfm_deploy.contract import Contract, SizePolicy
from lfm_deploy.decoding import Source
from lfm_deploy.deployment import check_origin
from lfm_deploy.errors import ArtifactError, ConfigError, ImageError, InputError, OtherGpuError, UnavailableError
from lfm_deploy.overlays import OverlayWriter
from lfm_deploy.pipeline import PictureGroup, read_groups
from lfm_deploy.quantisation import Recipe
from lfm_deploy.rows import Prediction, judge
from lfm_deploy.sources import describe_nothing, find_sources
from lfm_deploy.workdir import Workdir

# Rows come early and caches stay warm with few pictures at a time; a GPU wants more to do at once.
_BATCH_ON_CPU, _BATCH_ON_GPU = 8, 64


@dataclass(frozen=True, kw_only=True)
class Judge:
    """An engine with what it takes to give verdicts.

    Attributes:
        engine: ready to run.
        path: of its file.
        size: side in pixels that pictures are resized to, or ``"native"``.
        threshold: a logit above it is fake.
        batch: most pictures at a time.
    """

    engine: Engine
    path: Path
    size: SizePolicy
    threshold: float
    batch: int


def predict(
    paths: Sequence[Path | str] | Path | str,
    *,
    engine: Path | str | None = None,
    workdir: Workdir | Path | str = "deploy",
    precision: Precision | str | None = None,
    device: str | None = None,
    threshold: float | None = None,
    batch: int | None = None,
    evidence: Path | None = None,
    strict: bool = False,
) -> Iterator[Prediction]:
    """Verdicts on pictures in their order, each as soon as its batch is judged; memory does not grow with the list.

    Args:
        paths: as of ``find_sources``: files, folders, patterns, lists and shards.
        engine: the file to run; None takes one of the workdir, see ``open_judge``.
        workdir: folder of the deployment.
        precision: of the workdir's engine; None is FP32.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``; None chooses.
        threshold: a logit above it is fake; None is the contract's.
        batch: most pictures at a time; None is 8 on a CPU and 64 on a GPU.
        evidence: folder for overlays, one PNG a picture, of where its verdict came from.
        strict: take a picture that cannot be judged for an error.

    Raises:
        ArtifactError: no engine is there, or it is damaged or foreign.
        ImageError: a picture cannot be judged, with ``strict``.
        InputError: there is nothing to read.
        UnavailableError: the engine cannot run on this machine.
    """
    named = [str(path) for path in ([paths] if isinstance(paths, (str, Path)) else paths)]
    folder = workdir if isinstance(workdir, Workdir) else Workdir(Path(workdir))
    sources = require_some(find_sources(named), named)
    judge = open_judge(folder, engine=engine, precision=precision, device=device, threshold=threshold, batch=batch)
    try:
        overlays = None if evidence is None else OverlayWriter(evidence, folder, judge.engine, judge.path)
        for group in predict_groups(judge, sources, overlays=overlays, strict=strict):
            yield from group
    finally:
        judge.engine.close()


def require_some(sources: Iterator[Source], named: Sequence[str]) -> Iterator[Source]:
    """The same sources, after making sure that there is one.

    Raises:
        InputError: there is none.
    """
    first = next(sources, None)
    if first is None:
        raise InputError(describe_nothing(named))
    return itertools.chain([first], sources)


def predict_groups(
    judge: Judge,
    sources: Iterable[Source],
    *,
    start: int = 0,
    overlays: OverlayWriter | None = None,
    strict: bool = False,
    workers: int | None = None,
) -> Iterator[list[Prediction]]:
    """Verdicts in groups that depend on the list alone, so that a run that goes on behind a group repeats another.

    Args:
        judge: from ``open_judge``.
        sources: what to read.
        start: index of the first of them in the whole list.
        overlays: where to draw evidence.
        strict: take a picture that cannot be judged for an error; the rows before it come out first.
        workers: decoding threads; None is one for each core.

    Raises:
        ImageError: a picture cannot be judged, with ``strict``.
    """
    config = judge.engine.config
    for group in read_groups(sources, judge.size, batch=judge.batch, config=config, workers=workers, start=start):
        rows = _judge_group(judge, group)
        if strict:
            bad = next((position for position, row in enumerate(rows) if row.error is not None), None)
            if bad is not None:
                yield rows[:bad]
                raise ImageError(f"{rows[bad].path}: {rows[bad].error} (picture {rows[bad].index + 1}; --strict)")
        if overlays is not None:
            for offsets, images in group.runs:
                overlays.write([rows[offset] for offset in offsets], images)
        yield rows


def open_judge(
    workdir: Workdir,
    *,
    engine: Path | str | None = None,
    precision: Precision | str | None = None,
    device: str | None = None,
    threshold: float | None = None,
    batch: int | None = None,
    on_message: Callable[[str], None] = lambda _: None,
) -> Judge:
    """Open an engine for verdicts: the file that was named, else the best of the workdir that runs here.

    Of the precision that was asked for, FP32 if none was: the TensorRT engine for the GPU of this machine, unless the
    device is ``"cpu"``; else the graph in ONNX Runtime, which for INT8 on the CPU is ``lfm.int8.cpu.onnx``.

    Args:
        workdir: as of ``predict``.
        engine: likewise.
        precision: likewise.
        device: likewise.
        threshold: likewise.
        batch: likewise.
        on_message: takes a line that says what was chosen, and what was not and why.

    Raises:
        ArtifactError: there is none, or it is damaged, stale or foreign.
        ConfigError: the threshold is no number, or the precision none of the three.
        UnavailableError: what was asked for cannot run on this machine.
    """
    if threshold is not None and not np.isfinite(threshold):
        raise ConfigError(f"threshold is {threshold}, expected a finite logit")
    if engine is not None:
        path = Path(engine)
        opened = load_engine(path, device=device, spin=False)
    else:
        path, opened = _open_best(workdir, _as_precision(precision), device, on_message)
    # The published network itself takes any size; its protocol is the default contract.
    contract = Contract() if opened.runtime == "pytorch" else opened.contract
    on_message(f"taking {path} ({opened.name} on {opened.device})")
    return Judge(
        engine=opened,
        path=path,
        size=contract.size,
        threshold=contract.threshold if threshold is None else threshold,
        batch=batch or (_BATCH_ON_CPU if opened.device == "cpu" else _BATCH_ON_GPU),
    )


def _as_precision(precision: Precision | str | None) -> Precision:
    try:
        return Precision(precision or Precision.FP32)
    except ValueError:
        raise ConfigError(f"precision is {precision!r}, expected {', '.join(Precision)}") from None


def _open_best(
    workdir: Workdir, precision: Precision, device: str | None, on_message: Callable[[str], None]
) -> tuple[Path, Engine]:
    plan = None if device == "cpu" else _find_plan(workdir, precision)
    if plan is not None:
        try:
            return plan, load_engine(plan, device=device)
        except (UnavailableError, OtherGpuError) as error:
            on_message(f"not taking {plan.name}: {error}")
    on_cpu = device in (None, "cpu")
    recipe = Recipe.CPU if on_cpu else Recipe.TENSORRT
    path = workdir.graph(precision, recipe)
    command = "lfm-deploy export CHECKPOINT.pth"
    if precision is not Precision.FP32:
        command = build_command(precision, recipe=recipe if precision is Precision.INT8 else None)
    if not path.is_file():
        raise ArtifactError(f"{path}: no such graph; make it with '{command} --workdir {workdir.path}'")
    if workdir.checkpoint.is_file():  # a folder that was copied to production may do without it
        check_origin(path, read_graph_info(path).checkpoint_sha256, workdir, command)
    return path, load_engine(path, device=device, spin=False)


def _find_plan(workdir: Workdir, precision: Precision) -> Path | None:
    """The TensorRT engine of a precision for the GPU in this machine."""
    plans = workdir.engines()
    if not plans:
        return None
    try:
        here = find_gpu().sm
    except UnavailableError:
        return None
    for path in plans:
        info = read_engine_info(path)
        if (info.precision, info.gpu) == (precision, here):
            if workdir.checkpoint.is_file():
                check_origin(path, info.checkpoint_sha256, workdir, build_command(precision, here))
            return path
    return None


def _judge_group(judging: Judge, group: PictureGroup) -> list[Prediction]:
    found: dict[int, np.float32] = {}
    for offsets, images in group.runs:
        logits: NDArray[np.float32] = judging.engine.logits(images)
        found.update(zip(offsets, logits, strict=True))
    return [
        Prediction(index=group.start + offset, path=name, error=group.reasons[offset])
        if offset in group.reasons
        else judge(group.start + offset, name, found[offset], judging.threshold)
        for offset, name in enumerate(group.names)
    ]
