"""ONNX Runtime: sessions on the CPU or on a CUDA device, never anywhere else than asked, and the engine on the CPU."""

import io
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.cpu_settings import CpuSettings, default_settings
from engines.devices import parse_device
from engines.engine import check_images, to_graph_input
from engines.guarded_run import GuardedSession, check_logits
from engines.streams import Runner, StreamPool
from lfm_deploy.artifacts import GraphInfo, InputForm, Precision, read_graph_info
from lfm_deploy.config import ModelConfig
from lfm_deploy.contract import Contract
from lfm_deploy.errors import ArtifactError, UnavailableError, first_line, is_out_of_memory, missing_library
from lfm_deploy.network.evidence import Evidence
from lfm_deploy.quantisation import Recipe

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_LARGEST_BATCH = 65535


class OrtEngine:
    """An ONNX file made by lfm-deploy, in ONNX Runtime on the CPU. See ``Engine`` for the attributes."""

    runtime = "onnxruntime"
    device = "cpu"

    def __init__(self, path: Path, *, settings: CpuSettings | None = None, spin: bool = True) -> None:
        """Open sessions.

        Args:
            path: the ONNX file.
            settings: threads and streams; None is one stream with a thread for each core.
            spin: whether idle threads wait for work at full speed; False where other engines work beside this one.

        Raises:
            ArtifactError: the file is damaged or not ours.
            UnavailableError: ONNX Runtime is missing; or the graph is BF16.
        """
        info = read_runnable_info(path)
        self.precision = str(info.precision)
        self.contract: Contract = info.contract
        self.config: ModelConfig = info.config
        self.batch_range = (1, _LARGEST_BATCH)
        self._form: InputForm = info.input
        self._path = path
        self.settings = settings or default_settings()
        self._outputs = ["logit", "evidence_values", "evidence_positions"] if info.evidence else ["logit"]
        for_tensorrt = info.quantisation is not None and info.quantisation.recipe is Recipe.TENSORRT

        def open_runner(threads: int, spin: bool) -> Runner:
            session = open_session(path, str(path), threads=threads, spin=spin, fuse_integers=not for_tensorrt)
            return lambda pixels: list(session.run(self._outputs, {"image": pixels}))

        streams = self.settings.streams
        # Threads that spin in one stream would take the cores of the others.
        wide = open_runner(streams * self.settings.threads, spin and streams == 1)
        narrow = [open_runner(self.settings.threads, False) for _ in range(streams if streams > 1 else 0)]
        self._pool = StreamPool(wide, narrow, piece=self.settings.piece)

    @property
    def name(self) -> str:
        """Name in reports."""
        return f"onnxruntime {self.precision}"

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
        return self._run(images)[0]

    def evidence(self, images: NDArray[np.uint8]) -> Evidence:
        """Logits with the selected values and their positions.

        Args:
            images: pictures, RGB, uint8 ``(N, H, W, 3)``; any number.

        Raises:
            ArtifactError: the graph was exported without evidence outputs.
            ShapeError: the pictures are not what the contract says.
        """
        refuse_evidence(self._path, self._outputs)
        logits, values, positions = self._run(images)
        return Evidence(logits=logits, values=values, positions=positions)

    def close(self) -> None:
        """Drop the sessions."""
        self._pool.close()

    def _run(self, images: NDArray[np.uint8]) -> list[NDArray[Any]]:
        check_images(images.shape, str(images.dtype), self.contract, self.config, self._path.name)
        logits, *others = self._pool.run(to_graph_input(images, self._form))
        return [check_logits(logits, len(images), str(self._path)), *others]


def read_runnable_info(path: Path) -> GraphInfo:
    """What a graph says of itself.

    Raises:
        ArtifactError: the file is damaged or not ours.
        UnavailableError: the graph is BF16.
    """
    info = read_graph_info(path)
    if info.precision is Precision.BF16:
        raise UnavailableError(
            f"{path}: not run: BF16 is for OpenVINO on a CPU; ONNX Runtime has no convolution in "
            "bfloat16 there. Use FP32 or INT8"
        )
    return info


def refuse_evidence(path: Path, outputs: Sequence[str]) -> None:
    """Refuse to give evidence where a graph has the logit alone.

    Raises:
        ArtifactError: the graph was exported without evidence outputs.
    """
    if len(outputs) == 1:
        raise ArtifactError(f"{path}: has no evidence outputs; make them with 'lfm-deploy export --evidence'")


def open_session(
    source: Path | bytes,
    name: str,
    *,
    device: str = "cpu",
    threads: int | None = None,
    spin: bool = True,
    fuse_integers: bool = True,
    exact_integers: bool = False,
    save_optimised: Path | None = None,
    cuda_options: Mapping[str, str] = MappingProxyType({}),
    remedy: str = "make it again with 'lfm-deploy export'",
) -> Any:
    """An ONNX Runtime session on exactly the asked device, whose runs fail in one line.

    Args:
        source: an ONNX file, or its content.
        name: name of the graph, for messages.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        threads: CPU threads for one operator; None is one for each core.
        spin: whether idle threads wait for work at full speed; False where other sessions work beside this one.
        fuse_integers: whether ONNX Runtime looks for integer kernels; False for a graph that it has none for, where
            looking costs two fifths of the speed and changes no logit.
        exact_integers: whether products of integers are added in 32 bits on every processor. Without VNNI, ONNX Runtime
            adds pairs of them in 16 bits, which is faster and saturates; the published checkpoint's INT8 logits move by
            0.035 on average there, a tenth of what INT8 does to them.
        save_optimised: path of an ONNX file to write, which holds the graph as ONNX Runtime will run it.
        cuda_options: options of the CUDA provider beside the device.
        remedy: advice for the message where the graph cannot be loaded.

    Raises:
        ArtifactError: the graph cannot be loaded.
        UnavailableError: ONNX Runtime, or its provider for this device, is missing or fell back.
    """
    kind, index = parse_device(device)
    provider = _PROVIDERS[kind]
    onnxruntime = _import_with(provider, device)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # its errors come back as exceptions; warnings are not for users
    if save_optimised is not None:
        options.optimized_model_filepath = str(save_optimised)
    if threads is not None:
        options.intra_op_num_threads = threads
    for key, value, wanted in (
        ("session.disable_quant_qdq", "1", not fuse_integers),
        ("session.x64quantprecision", "1", exact_integers),
        ("session.intra_op.allow_spinning", "0", not spin),
    ):
        if wanted:
            options.add_session_config_entry(key, value)
    # TF32 would round the inputs of float32 convolutions to 11 bits.
    settings = {"device_id": str(index), "use_tf32": "0", **cuda_options} if kind == "cuda" else {}
    try:
        # Its own fall-back would print into the user's terminal, run on the CPU, and hide the reason.
        session = onnxruntime.InferenceSession(source, options, providers=[(provider, settings)], enable_fallback=0)
    except Exception as error:  # onnxruntime's own classes are private to its binding
        if is_out_of_memory(error):
            raise MemoryError(first_line(error)) from None
        if kind == "cuda":
            raise UnavailableError(f"ONNX Runtime on {device}: not run: {first_line(error)}") from None
        raise ArtifactError(f"{name}: ONNX Runtime cannot load it ({first_line(error)}); {remedy}") from None
    if session.get_providers()[0] != provider:
        raise UnavailableError(
            f"ONNX Runtime on {device}: not run: it fell back to {session.get_providers()[0]}; check the driver "
            "and the CUDA and cuDNN versions that this onnxruntime-gpu needs"
        )
    return GuardedSession(session, name, device, remedy)


def _import_with(provider: str, device: str) -> Any:
    """ONNX Runtime, after making sure that it has a provider."""
    try:
        import onnxruntime
    except ImportError as error:
        raise missing_library(error, "ONNX Runtime", "pip install lfm-deploy[cpu]") from None
    # What it prints by itself would stand in the user's terminal; errors come back as exceptions.
    onnxruntime.set_default_logger_severity(4)
    if provider not in onnxruntime.get_available_providers():
        raise UnavailableError(
            f"ONNX Runtime on {device}: not run: this build has no {provider}; "
            "install onnxruntime-gpu instead of onnxruntime ('pip install lfm-deploy[gpu]')"
        )
    if provider == _PROVIDERS["cuda"] and hasattr(onnxruntime, "preload_dlls"):
        load_cuda_libraries(onnxruntime)
    return onnxruntime


def load_cuda_libraries(onnxruntime: Any) -> None:
    """CUDA and cuDNN as pip installed them.

    ONNX Runtime looks for them in the folder that it was installed into. Where that one has none, they may lie in
    another folder of ``sys.path``: below an environment, or behind a ``pip install --target``.

    Args:
        onnxruntime: ONNX Runtime's module, 1.21 or newer.
    """
    beside = Path(onnxruntime.__file__).parents[1].glob("nvidia/*/lib/libcublas.*")
    elsewhere = [] if any(beside) else sorted(lib for entry in sys.path for lib in Path(entry).glob("nvidia/*/lib"))
    # It prints what it does not find, which the session says better.
    with redirect_stdout(io.StringIO()):
        for folder in elsewhere:
            onnxruntime.preload_dlls(directory=str(folder.resolve()))
        if not elsewhere:
            onnxruntime.preload_dlls()


def count_kernels(model: Any) -> Counter[str]:
    """How many operators of each type ONNX Runtime's CPU provider runs, after its own optimisations.

    Args:
        model: an ``onnx.ModelProto``.

    Raises:
        UnavailableError: ONNX Runtime is not installed.
    """
    import onnx

    with tempfile.TemporaryDirectory(prefix="lfm-kernels-") as folder:
        optimised = Path(folder) / "optimised.onnx"
        open_session(model.SerializeToString(), "a graph being optimised", save_optimised=optimised)
        return Counter(node.op_type for node in onnx.load(optimised).graph.node)
