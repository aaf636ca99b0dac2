"""OpenVINO on the CPU: for processors on which it is faster than ONNX Runtime."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.cpu_settings import CpuSettings
from engines.engine import check_images, to_graph_input
from engines.guarded_run import check_logits, guard_run
from engines.streams import Runner, StreamPool
from lfm_deploy.artifacts import InputForm, read_graph_info
from lfm_deploy.config import ModelConfig
from lfm_deploy.contract import Contract
from lfm_deploy.errors import (
    ArtifactError,
    ConfigError,
    UnavailableError,
    first_line,
    is_out_of_memory,
    missing_library,
)
from lfm_deploy.interrupts import keep_signal_stack

_LARGEST_BATCH = 65535


class OpenVinoEngine:
    """An ONNX file made by lfm-deploy, in OpenVINO. See ``Engine`` for the attributes."""

    runtime = "openvino"
    device = "cpu"

    def __init__(self, path: Path, settings: CpuSettings) -> None:
        """Compile the graph.

        Args:
            path: the ONNX file.
            settings: threads, streams and arithmetic.

        Raises:
            ArtifactError: the file is damaged or not ours.
            UnavailableError: OpenVINO is not installed, or the processor has no bfloat16.
        """
        info = read_graph_info(path)
        self.precision = str(info.precision)
        self.contract: Contract = info.contract
        self.config: ModelConfig = info.config
        self.settings = settings
        self.batch_range = (1, _LARGEST_BATCH)
        self._form: InputForm = info.input
        self._path = path
        cores = settings.streams * settings.threads
        compiled = _compile(path, streams=1, threads=cores, arithmetic=settings.arithmetic)
        narrow: list[Runner] = []
        if settings.streams > 1:
            several = _compile(path, streams=settings.streams, threads=cores, arithmetic=settings.arithmetic)
            narrow = [_make_runner(several) for _ in range(settings.streams)]
        self._pool = StreamPool(_make_runner(compiled), narrow, piece=settings.piece)

    @property
    def name(self) -> str:
        """Name in reports."""
        return f"openvino {self.precision}"

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
            RunFailedError: the graph fails when it runs.
            ShapeError: the pictures are not what the contract says.
        """
        check_images(images.shape, str(images.dtype), self.contract, self.config, self._path.name)
        with guard_run(str(self._path)):
            (logits,) = self._pool.run(to_graph_input(images, self._form))
        return check_logits(logits, len(images), str(self._path))

    def close(self) -> None:
        """Drop the compiled graph."""
        self._pool.close()


def load_core() -> Any:
    """OpenVINO's core object.

    Raises:
        UnavailableError: OpenVINO is not installed.
    """
    try:
        import openvino
    except ImportError as error:
        raise missing_library(error, "OpenVINO", "pip install lfm-deploy[openvino]") from None
    return openvino.Core()


def has_bfloat16() -> bool:
    """Whether OpenVINO multiplies in bfloat16 on this processor.

    Raises:
        UnavailableError: OpenVINO is not installed.
    """
    return "BF16" in load_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _compile(path: Path, *, streams: int, threads: int, arithmetic: str) -> Any:
    core = load_core()
    if arithmetic not in ("as written", "bf16"):
        raise ConfigError(f"arithmetic is {arithmetic!r}, expected 'as written' or 'bf16'")
    if arithmetic == "bf16" and not has_bfloat16():
        raise UnavailableError("OpenVINO in bfloat16: not run: this processor has none")
    # Left alone, OpenVINO takes bfloat16 for float32 wherever the processor has it.
    settings = {
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "bf16" if arithmetic == "bf16" else "f32",
    }
    try:
        with keep_signal_stack():
            return core.compile_model(core.read_model(path), "CPU", settings)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise MemoryError(first_line(error)) from None
        reason = str(error).strip().splitlines()[-1]
        raise ArtifactError(
            f"{path}: OpenVINO cannot load it ({reason}); make it again with 'lfm-deploy export'"
        ) from None


def _make_runner(compiled: Any) -> Runner:
    """One request of a compiled graph; the logits are copied, since the next run writes over them."""
    request = compiled.create_infer_request()

    def run(pixels: NDArray[Any]) -> list[NDArray[Any]]:
        return [np.array(request.infer({"image": np.ascontiguousarray(pixels)}, share_inputs=True)["logit"])]

    return run
