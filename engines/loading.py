"""From a file to a running engine, by its suffix."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from engines.engine import Engine
from lfm_deploy.artifacts import Precision, is_checkpoint, read_graph_info
from lfm_deploy.errors import ConfigError, InputError
from lfm_deploy.machine import count_cores

_RUNTIMES = ("onnxruntime", "fused", "amx")


def load_engine(
    path: Path | str,
    *,
    device: str | None = None,
    runtime: str | None = None,
    threads: int | None = None,
    spin: bool = True,
    precision: str | None = None,
    compiled: bool = False,
    cuda_graphs: bool = True,
) -> Engine:
    """Open a checkpoint (``.pth``), a graph (``.onnx``) or a TensorRT engine (``.engine``).

    Args:
        path: path of the checkpoint (.pth), graph (.onnx) or engine (.engine).
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``; None is the CPU for checkpoints and graphs, and the first
            GPU for TensorRT engines. An engine that cannot run there is an error, never moved elsewhere. With several,
            such as ``"cuda:0,cuda:1"``, each takes an equal share of every batch.
        runtime: runtime of a graph: ``"onnxruntime"``, or kernels of our own for SNet with Top-K pooling: ``"fused"``
            for FP16 graphs on a CUDA device, ``"amx"`` for BF16 and INT8 graphs on a CPU's matrix units; None takes
            what ``build --target cpu`` or ``--target cuda`` chose on this machine, which may be the checkpoint beside
            the graph, compiled, or else ONNX Runtime.
        threads: CPU threads for PyTorch (the whole process) and ONNX Runtime; None is one for each core.
        spin: whether idle threads of ONNX Runtime wait for work at full speed; False where several engines take turns.
        precision: arithmetic of a checkpoint in PyTorch: ``"fp32"``, which None is too, or ``"fp16"``. Graphs and
            engines have theirs built in.
        compiled: whether ``torch.compile`` makes the kernels; for checkpoints alone.
        cuda_graphs: whether work that runs more than once is captured into CUDA graphs; for TensorRT engines alone.

    Raises:
        InputError: the file is of no known kind, damaged or foreign.
        ConfigError: an option does not belong to this kind of file.
        UnavailableError: the file cannot run on this machine.
    """
    path = Path(path)
    if path.suffix not in (".onnx", ".engine") and not is_checkpoint(path):
        raise InputError(f"{path}: not an engine of a known kind; expected a .pth, .onnx or .engine file")
    if not is_checkpoint(path) and (precision is not None or compiled):
        raise ConfigError(f"{path}: precision and compiled are for a checkpoint in PyTorch; this file has its own")
    if runtime is not None and (path.suffix != ".onnx" or runtime not in _RUNTIMES):
        raise ConfigError(f"{path}: runtime is {runtime!r}, expected one of {', '.join(_RUNTIMES)}, and a .onnx file")
    opener = partial(
        _open,
        path,
        runtime=runtime,
        threads=threads,
        spin=spin,
        precision=Precision.FP32 if precision is None else precision,
        compiled=compiled,
        cuda_graphs=cuda_graphs,
    )
    device = device or ("cuda" if path.suffix == ".engine" or runtime == "fused" else "cpu")
    if "," not in device:
        return opener(device)
    from engines.devices import split_devices
    from engines.several import SeveralEngines

    return SeveralEngines([partial(opener, name, beside=True) for name in split_devices(device)])


def _open(
    path: Path,
    device: str,
    *,
    runtime: str | None,
    threads: int | None,
    spin: bool,
    precision: str,
    compiled: bool,
    cuda_graphs: bool,
    beside: bool = False,
) -> Engine:
    """One engine on one device; each runtime is imported only when a file asks for it.

    ``beside`` is whether engines on other GPUs work at the same time.
    """
    if is_checkpoint(path):
        import torch

        from engines.pytorch import PyTorchEngine

        if threads is not None:
            torch.set_num_threads(threads)
        return PyTorchEngine.from_file(path, device=device, precision=precision, compiled=compiled)
    if runtime == "fused":
        from engines.fused import FusedEngine

        return FusedEngine(path, device=device)
    if runtime == "amx":
        from engines.amx.engine import AmxEngine
        from engines.cpu_settings import CpuSettings

        if device != "cpu":
            raise ConfigError(f"{path}: runtime 'amx' is a CPU's, so it does not run on {device!r}; leave device out")
        return AmxEngine(path, CpuSettings(runtime="amx", streams=threads or count_cores(), threads=1, piece=1))
    if path.suffix == ".onnx":
        if device != "cpu":
            return _load_graph_on_gpu(path, device, chosen=runtime is None, beside=beside)
        return _load_graph(path, threads, spin, chosen=runtime is None)
    from engines.devices import parse_gpu
    from engines.trt import TensorRTEngine

    return TensorRTEngine(path, device=parse_gpu(device), cuda_graphs=cuda_graphs)


def _load_graph_on_gpu(path: Path, device: str, *, chosen: bool, beside: bool) -> Engine:
    """A graph on a GPU, as ``build --target cuda`` chose.

    ``chosen`` is False where ONNX Runtime was asked for by name; ``beside``, whether engines on other GPUs work at the
    same time.
    """
    from engines.gpu_choice import open_way
    from engines.gpu_settings import PLAIN, find_settings

    settings = (find_settings(path, device) if chosen else None) or PLAIN
    if beside:
        # What another thread does meanwhile would end a capture of ONNX Runtime's.
        settings = replace(settings, cuda_graph=False)
    return open_way(path, device, settings)


def _load_graph(path: Path, threads: int | None, spin: bool, *, chosen: bool) -> Engine:
    """A graph on the CPU, as ``build --target cpu`` chose where it did so for as many threads.

    ``chosen`` is False where ONNX Runtime was asked for by name.
    """
    from engines.cpu_settings import default_settings, find_settings

    settings = find_settings(path) if chosen else None
    if settings is None or threads not in (None, settings.streams * settings.threads):
        settings = default_settings(threads, read_graph_info(path).precision if chosen else "fp32")
    if settings.runtime == "amx":
        from engines.amx.engine import AmxEngine

        return AmxEngine(path, settings)
    if settings.runtime == "openvino":
        from engines.openvino import OpenVinoEngine

        return OpenVinoEngine(path, settings)
    from engines.ort import OrtEngine

    return OrtEngine(path, settings=settings, spin=spin)
