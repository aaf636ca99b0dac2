"""SNet with Top-K pooling on the matrix units of a CPU: the proved BF16 or INT8 graph, by kernels of our own."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.amx.graphs import read_layers
from engines.cpu_settings import CpuSettings
from engines.engine import check_images
from engines.guarded_run import check_logits, guard_run
from engines.streams import Runner, StreamPool
from lfm_deploy.errors import UnavailableError, missing_library
from lfm_deploy.machine import AMX, find_instruction_sets

_LARGEST_BATCH = 65535
_LEAST_WIDTH = 32


class AmxEngine:
    """An ONNX file made by lfm-deploy, on AMX. See ``Engine`` for the attributes."""

    runtime = "amx"
    device = "cpu"

    def __init__(self, path: Path, settings: CpuSettings) -> None:
        """Read the graph, and lay its weights out.

        Args:
            path: the ONNX file.
            settings: streams and pieces.

        Raises:
            ArtifactError: the file is damaged or not ours.
            UnavailableError: the processor or the system has no AMX, Numba is not installed, or the graph is of a kind
                that the kernels do not know.
        """
        _require_amx(path)
        from engines.amx.network import make_network

        network = make_network(read_layers(path))
        info = network.info
        self.precision = str(info.precision)
        self.contract, self.config, self.settings = info.contract, info.config, settings
        self.batch_range = (1, _LARGEST_BATCH)
        self._path = path
        runners = [make_runner(network) for _ in range(settings.streams)]
        self._pool = StreamPool(None, runners, piece=settings.piece)

    @property
    def name(self) -> str:
        """Name in reports."""
        return f"amx {self.precision}"

    def describe(self) -> str:
        """How it runs."""
        return str(self.settings)

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits of pictures; a logit above the contract's threshold is fake.

        Args:
            images: pictures, RGB, uint8 ``(N, H, W, 3)``; any number.

        Returns:
            float32 ``(N,)``, in the order of the pictures.

        Raises:
            ShapeError: the pictures are not what the contract says.
        """
        check_images(images.shape, str(images.dtype), self.contract, self.config, self._path.name)
        with guard_run(str(self._path)):
            (logits,) = self._pool.run(images)
        return check_logits(logits, len(images), str(self._path))

    def close(self) -> None:
        """Drop the weights."""
        self._pool.close()


def _require_amx(path: Path) -> None:
    """Refuse a machine that the kernels do not run on."""
    try:
        from engines.amx.units import request_tiles
    except ImportError as error:
        raise missing_library(error, "the kernels for AMX", "pip install lfm-deploy[amx]") from None
    missing = [name for name in AMX if name not in find_instruction_sets()]
    if not missing:
        _require_compiler(path)
    if missing or not request_tiles():
        reason = f"this processor has no {', '.join(missing)}" if missing else "the system gives no tile registers"
        raise UnavailableError(f"{path}: not run by the kernels for AMX: {reason}; run it in ONNX Runtime or OpenVINO")


def _require_compiler(path: Path) -> None:
    """Refuse settings of Numba with which it does not compile, or ends the process while it compiles."""
    from numba import config
    from numba.core.registry import cpu_target

    features = str(cpu_target.target_context.codegen().magic_tuple()[2]).split(",")
    fault = None
    if config.DISABLE_JIT:
        fault = "NUMBA_DISABLE_JIT is set, and Numba compiles nothing"
    elif any(f"+{name.replace('_', '-')}" not in features for name in AMX):
        fault = "Numba compiles for another processor, as NUMBA_CPU_NAME and NUMBA_CPU_FEATURES say"
    if fault:
        raise UnavailableError(f"{path}: not run by the kernels for AMX: {fault}; unset it, or run it in OpenVINO")


def make_runner(network: Any) -> Runner:
    """A way through a network; threads that share it wait for each other, since its memory is that of one.

    Args:
        network: the network, as ``engines.amx.network.make_network`` lays it out.
    """
    from engines.amx.forward import compile_judge
    from engines.amx.network import make_workspace

    judge = compile_judge()
    zero = network.dtype.type(0)
    lock = threading.Lock()
    kept: dict[tuple[int, int], Any] = {}

    def run(pixels: NDArray[Any]) -> list[NDArray[Any]]:
        count, height, width, _ = pixels.shape
        logits = np.empty(count, np.float32)
        held = _with_slack(pixels)
        with lock:
            if (height, width) not in kept:
                kept.clear()
                kept[height, width] = make_workspace(network, height, width)
            space = kept[height, width]
            places, room, largest = space.places, space.room, space.largest
            first = (zero, held.ctypes.data, height, width)
            judge(*first, network.ends, network.stages, places, room, network.linear, largest, logits)
        return [logits]

    return run


def _with_slack(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pictures whose rows are as long as the tiles that read them; the last row, which no block needs, is read too."""
    pixels = np.ascontiguousarray(pixels)
    if pixels.shape[2] >= _LEAST_WIDTH:
        return pixels
    memory = np.zeros(pixels.size + 6 * _LEAST_WIDTH, np.uint8)
    memory[: pixels.size] = pixels.reshape(-1)
    return memory[: pixels.size].reshape(pixels.shape)
