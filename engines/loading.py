"""From a file to a running engine, by its suffix."""

from pathlib import Path

from engines.engine import Engine
from lfm_deploy.errors import InputError


def load_engine(
    path: Path | str, *, device: str | None = None, threads: int | None = None, spin: bool = True
) -> Engine:
    """Open a checkpoint (``.pth``), a graph (``.onnx``) or a TensorRT engine (``.engine``).

    Args:
        path: the file.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``; None is the CPU for checkpoints and graphs, and the first
            GPU for TensorRT engines. An engine that cannot run there is an error, never moved elsewhere.
        threads: CPU threads for PyTorch (the whole process) and ONNX Runtime; None is one for each core.
        spin: let idle threads of ONNX Runtime wait for work at full speed; False where several engines take turns.

    Raises:
        InputError: the file is of no known kind, damaged or foreign.
        UnavailableError: it cannot run on this machine.
    """
    path = Path(path)
    # Each runtime is imported only when a file asks for it.
    if path.suffix == ".pth":
        import torch

        from engines.pytorch import PyTorchEngine

        if threads is not None:
            torch.set_num_threads(threads)
        return PyTorchEngine.from_file(path, device=device or "cpu")
    if path.suffix == ".onnx":
        return _load_graph(path, device or "cpu", threads, spin)
    if path.suffix == ".engine":
        from engines.trt import TensorRTEngine, parse_device

        return TensorRTEngine(path, device=parse_device(device or "cuda"))
    raise InputError(f"{path}: not an engine of a known kind; expected a .pth, .onnx or .engine file")


def _load_graph(path: Path, device: str, threads: int | None, spin: bool) -> Engine:
    """A graph on the device; on the CPU as ``build --target cpu`` chose, where it did so for as many threads."""
    from engines.cpu_settings import default_settings, find_settings

    settings = find_settings(path) if device == "cpu" else None
    if settings is None or threads not in (None, settings.streams * settings.threads):
        settings = default_settings(threads)
    if settings.runtime == "openvino":
        from engines.openvino import OpenVinoEngine

        return OpenVinoEngine(path, settings)
    from engines.ort import OrtEngine

    return OrtEngine(path, device=device, settings=settings, spin=spin)
