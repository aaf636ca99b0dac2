"""OpenVINO on the CPU: for processors on which it is faster than ONNX Runtime."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.cpu_settings import CpuSettings
from engines.engine import check_images, to_graph_input
from engines.guarded_run import check_logits, guard_run
from engines.streams import Runner, StreamPool
from lfm_deploy.artifacts import GraphInfo, InputForm, Precision, read_graph_info
from lfm_deploy.config import ModelConfig
from lfm_deploy.contract import Contract
from lfm_deploy.errors import (
    ArtifactError,
    ConfigError,
    first_line,
    is_out_of_memory,
    missing_library,
)
from lfm_deploy.interrupts import keep_signal_stack
from lfm_deploy.machine import require_bfloat16
from lfm_deploy.quantisation import Recipe

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
        check_arithmetic(path, info.precision, settings)
        cores = settings.streams * settings.threads
        shape = _fixed_shape(info, settings.piece)
        source = _read(path, info)
        compiled = _compile(path, source, shape, streams=1, threads=cores, arithmetic=settings.arithmetic)
        narrow: list[Runner] = []
        if settings.streams > 1:
            several = _compile(
                path, source, shape, streams=settings.streams, threads=cores, arithmetic=settings.arithmetic
            )
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
    # The first array that it is given makes its binding look for NumPy, behind a lock and without Python's own: two
    # streams that give their first arrays at the same time may wait for each other for ever.
    openvino.Tensor(np.zeros(1, np.uint8), shared_memory=True)
    return openvino.Core()


def check_arithmetic(path: Path, precision: Precision, settings: CpuSettings) -> None:
    """Refuse bfloat16 where the processor has no units for it, and for graphs that promise more.

    Args:
        path: path of the graph, for messages.
        precision: precision that the graph states.
        settings: settings that the graph is to run with.

    Raises:
        ConfigError: the arithmetic is unknown, or less exact than the graph says.
        UnavailableError: the processor has no bfloat16.
    """
    if settings.arithmetic not in ("as written", "bf16"):
        raise ConfigError(f"arithmetic is {settings.arithmetic!r}, expected 'as written' or 'bf16'")
    if settings.arithmetic == "bf16" and precision in (Precision.FP32, Precision.FP16):
        raise ConfigError(
            f"{path}: says {precision}, so it is not run in bfloat16; 'lfm-deploy build --bf16' makes one"
        )
    if settings.arithmetic == "bf16" or precision is Precision.BF16:
        require_bfloat16()


def _fixed_shape(info: GraphInfo, piece: int) -> list[int] | None:
    """Shape of the input where every run has the same; OpenVINO then plans its memory once, which saves a fifth."""
    side = info.contract.size
    if piece != 1 or side == "native":
        return None
    return [1, side, side, 3] if info.input is InputForm.UINT8 else [1, 3, side, side]


def _read(path: Path, info: GraphInfo) -> Path | bytes:
    """A graph as OpenVINO is given it; see ``export.openvino_form``, without which INT8 is slower than float32."""
    if info.quantisation is None or info.quantisation.recipe is not Recipe.CPU:
        return path
    import onnx

    from export.openvino_form import write_for_openvino

    content: bytes = write_for_openvino(onnx.load(path)).SerializeToString()
    return content


def _compile(
    path: Path, source: Path | bytes, shape: list[int] | None, *, streams: int, threads: int, arithmetic: str
) -> Any:
    core = load_core()
    # Left alone, OpenVINO takes bfloat16 for float32 wherever the processor has it.
    settings = {
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "bf16" if arithmetic == "bf16" else "f32",
    }
    try:
        with keep_signal_stack():
            network = core.read_model(source)
            if shape is not None:
                network.reshape({"image": shape})
            return core.compile_model(network, "CPU", settings)
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
