"""Which engine gives the verdicts: the one that was named, else the best of a workdir that runs here."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.card_choice import open_card_reader, takes_device_arrays
from engines.cpu_settings import CpuSettings
from engines.engine import Engine
from engines.gpus import find_gpu
from engines.loading import load_engine
from lfm_deploy.artifacts import Precision, build_command, read_graph_info
from lfm_deploy.contract import Contract, SizePolicy
from lfm_deploy.deployment.lineup import find_contract
from lfm_deploy.engine_info import read_engine_info
from lfm_deploy.environment import RUNTIME_LIBRARIES, installed_version
from lfm_deploy.errors import ArtifactError, ConfigError, DecoderError, OtherGpuError, UnavailableError
from lfm_deploy.machine import identify_processor
from lfm_deploy.pictures.decoders import PILLOW, PictureDecoder, choose_decoder
from lfm_deploy.pictures.pixel_limit import most_pixels
from lfm_deploy.pictures.provenance import require_c2pa
from lfm_deploy.prediction.proved_range import ProvedRange, read_proved_range
from lfm_deploy.quantisation import Recipe
from lfm_deploy.storage.atomic import sha256_of_file
from lfm_deploy.version import __version__
from lfm_deploy.workdir import Workdir, check_origin

if TYPE_CHECKING:
    from engines.card_reading import CardReader

# Rows come early and caches stay warm with few pictures at a time; a GPU wants more to do at once.
_BATCH_ON_CPU, _BATCH_ON_GPU = 8, 64


@dataclass(frozen=True, kw_only=True)
class Judge:
    """An engine with what it takes to give verdicts.

    Attributes:
        engine: engine that is ready to run.
        path: path of the engine's file.
        size: side in pixels that pictures are resized to, or ``"native"``.
        threshold: logit above which a picture is fake.
        uncertain_above: logit above which, up to the threshold, there is no verdict; None where there is no such band.
        batch: number of pictures in a batch at most.
        decoder: decoder of the pictures.
        card: reader that decodes and resizes on the engine's card; None where the host does.
        proved: range that the detector was proved on, by the workdir's ``envelope.json``; None where there is none.
        provenance: whether rows say what pictures state of their origin.
    """

    engine: Engine
    path: Path
    size: SizePolicy
    threshold: float
    uncertain_above: float | None
    batch: int
    decoder: PictureDecoder = PILLOW
    card: "CardReader | None" = None
    proved: ProvedRange | None = None
    provenance: bool = False


def open_judge(
    workdir: Workdir,
    *,
    engine: Path | str | None = None,
    precision: Precision | str | None = None,
    device: str | None = None,
    threshold: float | None = None,
    batch: int | None = None,
    decoder: str | None = None,
    provenance: bool = False,
    on_message: Callable[[str], None] = lambda _: None,
) -> Judge:
    """Open an engine for verdicts: the file that was named, else the best of the workdir that runs here.

    Of the precision that was asked for, FP32 if none was: the TensorRT engine for the GPU of this machine, unless the
    device is ``"cpu"``; else the graph in ONNX Runtime, which for INT8 on the CPU is ``lfm.int8.cpu.onnx``.

    Args:
        workdir: folder of the deployment.
        engine: path of the file to run; None takes one of the workdir.
        precision: precision of the workdir's engine; None is FP32.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``; None chooses.
        threshold: logit above which a picture is fake, without a band of uncertainty; None is the contract's, with its
            band.
        batch: number of pictures in a batch at most; None is 8 on a CPU and 64 on a GPU.
        decoder: name of the decoder, one of ``DECODERS``; None takes the fastest whose pixels are the contract's.
        provenance: whether to read what pictures state of their origin.
        on_message: function that is given a line on what was chosen, and on what was not and why.

    Raises:
        ArtifactError: no engine is there, or it is damaged, stale or foreign.
        ConfigError: the threshold is no number, or the precision none of the three.
        DecoderError: the decoder that was asked for gives other pixels than the contract's.
        UnavailableError: the engine or device that was asked for cannot run on this machine, or provenance was asked
            for and manifests cannot be read here.
    """
    if provenance:
        require_c2pa()
    if threshold is not None and not np.isfinite(threshold):
        raise ConfigError(f"threshold is {threshold}, expected a finite logit")
    if engine is not None:
        path = Path(engine)
        opened = load_engine(path, device=device, spin=False)
    else:
        path, opened = _open_best(workdir, _as_precision(precision), device, on_message)
    contract = _read_contract(workdir, path) if opened.runtime == "pytorch" else opened.contract
    try:
        chosen, card = choose_engine_decoder(opened, contract.size, decoder, on_message)
    except BaseException:
        opened.close()
        raise
    place = "" if card is None else " on the card"
    on_message(f"taking {path} ({opened.name} on {opened.device}); pictures by {chosen.name}{place}")
    if threshold is None and contract.chosen is not None:
        on_message(f"threshold {contract.threshold:g}, {contract.chosen}")
    return Judge(
        engine=opened,
        path=path,
        size=contract.size,
        threshold=contract.threshold if threshold is None else threshold,
        uncertain_above=contract.uncertain_above if threshold is None else None,
        batch=batch or _choose_batch(opened),
        decoder=chosen,
        card=card,
        proved=_find_proved_range(workdir, path, on_message),
        provenance=provenance,
    )


def _choose_batch(engine: Engine) -> int:
    """Pictures that are judged together: on a CPU, enough for each stream of the way that was chosen."""
    if engine.device != "cpu":
        return _BATCH_ON_GPU
    settings = getattr(engine, "settings", None)
    return max(_BATCH_ON_CPU, settings.streams * settings.piece) if isinstance(settings, CpuSettings) else _BATCH_ON_CPU


def describe_run(judge: Judge) -> dict[str, Any]:
    """All that rows depend on apart from the pictures, as values for JSON; the last bits also on the last three."""
    return {
        "engine": sha256_of_file(judge.path),
        "device": judge.engine.device,
        "contract": judge.engine.contract.as_dict(),
        "decoder": judge.decoder.describe(),
        "threshold": judge.threshold,
        "uncertain_above": judge.uncertain_above,
        "batch": judge.batch,
        "max_pixels": most_pixels(),
        "proved": None if judge.proved is None else asdict(judge.proved),
        "provenance": judge.provenance,
        "lfm-deploy": __version__,
        "libraries": {name: found for name in RUNTIME_LIBRARIES if (found := installed_version(name)) is not None},
        "processor": identify_processor(),
    }


def choose_engine_decoder(
    engine: Engine, size: SizePolicy, name: str | None, on_message: Callable[[str], None]
) -> "tuple[PictureDecoder, CardReader | None]":
    """The decoder for an engine, and the reader that has it on the engine's card, where there is one.

    Args:
        engine: engine that is ready to run.
        size: side in pixels that pictures are resized to, or ``"native"``, which the host decodes.
        name: one of ``DECODERS``; None takes the fastest whose pixels are the contract's.
        on_message: function that is given a line on what was not taken and why.

    Raises:
        ConfigError: there is no decoder of this name.
        DecoderError: the named decoder gives other pixels than the contract's.
        UnavailableError: the named decoder is not installed, or cannot run here.
    """
    if name in (None, "nvimagecodec") and size != "native" and takes_device_arrays(engine):
        try:
            return open_card_reader(engine, size, on_message, named=name is not None)
        except DecoderError as error:
            if name is not None:
                raise
            on_message(f"not taking nvimagecodec: {error}")
        except UnavailableError:
            if name is not None:
                raise
    return choose_decoder(name, on_message), None


def _find_proved_range(workdir: Workdir, path: Path, on_message: Callable[[str], None]) -> ProvedRange | None:
    """What the workdir's envelope says of pictures, where it is of the same checkpoint."""
    proved = read_proved_range(workdir.envelope)
    if proved is None:
        return None
    if path.suffix == ".onnx":
        sha256 = read_graph_info(path).checkpoint_sha256
    else:
        sha256 = read_engine_info(path).checkpoint_sha256 if path.suffix == ".engine" else sha256_of_file(path)
    if sha256 == proved.checkpoint_sha256:
        return proved
    on_message(f"{workdir.envelope}: of another checkpoint, so that notes state facts alone")
    return None


def _read_contract(workdir: Workdir, path: Path) -> Contract:
    """The contract of a checkpoint, which takes any size: that of its workdir, else that of the authors' protocol."""
    if path.resolve() == workdir.checkpoint.resolve():
        return replace(find_contract(workdir), size=Contract().size)
    return Contract()


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
            check_origin(path, info.checkpoint_sha256, workdir, build_command(precision, here))
            return path
    return None
