"""ONNX Runtime on the CPU or on a CUDA device, and never anywhere else than asked."""

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.engine import check_images, fill_batch, split_batch, to_graph_input
from engines.ort_binding import BoundSession
from lfm_deploy.artifacts import InputForm, read_graph_info
from lfm_deploy.config import ModelConfig
from lfm_deploy.contract import Contract
from lfm_deploy.errors import ArtifactError, ConfigError, UnavailableError
from lfm_deploy.evidence import Evidence
from lfm_deploy.quantisation import Recipe

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
# The first convolution's output takes 17 MB a picture at 256x256 in float32: 32 pictures stay near 1 GB.
_LARGEST_BATCH = 32


class OrtEngine:
    """An ONNX file made by lfm-deploy, in ONNX Runtime. See ``Engine`` for the attributes."""

    runtime = "onnxruntime"

    def __init__(self, path: Path, *, device: str = "cpu", threads: int | None = None, spin: bool = True) -> None:
        """Open a session on exactly the asked device.

        Args:
            path: the ONNX file.
            device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
            threads: CPU threads for one operator; None is one for each core.
            spin: let idle threads wait for work at full speed; False where other engines work beside this one.

        Raises:
            ArtifactError: the file is damaged or not ours.
            UnavailableError: ONNX Runtime, or its provider for this device, is missing or fell back.
        """
        info = read_graph_info(path)
        self.precision = str(info.precision)
        self.device = device
        self.contract: Contract = info.contract
        self.config: ModelConfig = info.config
        self.batch_range = (1, _LARGEST_BATCH)
        self._form: InputForm = info.input
        self._evidence = info.evidence
        self._path = path
        for_tensorrt = info.quantisation is not None and info.quantisation.recipe is Recipe.TENSORRT
        self._session = open_session(
            path, str(path), device=device, threads=threads, spin=spin, fuse_integers=not for_tensorrt
        )
        self._bound = None if device == "cpu" else BoundSession(self._session, device)

    @property
    def name(self) -> str:
        """Name in reports."""
        place = "" if self.device == "cpu" else f" {self.device}"
        return f"onnxruntime {self.precision}{place}"

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits float32 ``(N,)`` of uint8 ``(N, H, W, 3)``."""
        (logits,) = self._run(images, ["logit"])
        return logits

    def evidence(self, images: NDArray[np.uint8]) -> Evidence:
        """Logits with the selected values and their positions.

        Raises:
            ArtifactError: the graph was exported without them.
        """
        if not self._evidence:
            raise ArtifactError(f"{self._path}: has no evidence outputs; make them with 'lfm-deploy export --evidence'")
        logits, values, positions = self._run(images, ["logit", "evidence_values", "evidence_positions"])
        return Evidence(logits=logits, values=values, positions=positions)

    def close(self) -> None:
        """Drop the session."""
        if self._bound is not None:
            self._bound.close()
        del self._session, self._bound

    def _run(self, images: NDArray[np.uint8], outputs: list[str]) -> list[NDArray[Any]]:
        check_images(images.shape, str(images.dtype), self.contract, self.config, self._path.name)
        results = []
        for part in split_batch(len(images), *self.batch_range):
            pixels = to_graph_input(fill_batch(images, part), self._form)
            if self._bound is not None:
                found = self._bound.run(outputs, pixels)
            else:
                found = self._session.run(outputs, {"image": pixels})
            results.append([output[: part.count] for output in found])
        return [np.concatenate(column) for column in zip(*results, strict=True)]


def open_session(
    source: Path | bytes,
    name: str,
    *,
    device: str = "cpu",
    threads: int | None = None,
    spin: bool = True,
    fuse_integers: bool = True,
    save_optimised: Path | None = None,
) -> Any:
    """An ONNX Runtime session on exactly the asked device.

    Args:
        source: an ONNX file, or its content.
        name: for messages.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        threads: CPU threads for one operator; None is one for each core.
        spin: let idle threads wait for work at full speed; False where other sessions work beside this one.
        fuse_integers: let it look for integer kernels; False for a graph that it has none for, where looking costs
            two fifths of the speed and changes no logit.
        save_optimised: where to write the graph as ONNX Runtime will run it.

    Raises:
        ArtifactError: it cannot be loaded.
        UnavailableError: ONNX Runtime, or its provider for this device, is missing or fell back.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UnavailableError(
            "ONNX Runtime: not run: it is not installed; run 'pip install lfm-deploy[cpu]' (or [gpu])"
        ) from None
    kind, _, index = device.partition(":")
    if kind not in _PROVIDERS or not (index.isdigit() or not index):
        raise ConfigError(f"device is {device!r}, expected cpu, cuda or cuda:N")
    provider = _PROVIDERS[kind]
    if provider not in onnxruntime.get_available_providers():
        raise UnavailableError(
            f"ONNX Runtime on {device}: not run: this build has no {provider}; "
            "install onnxruntime-gpu instead of onnxruntime ('pip install lfm-deploy[gpu]')"
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # its errors come back as exceptions; warnings are not for users
    if save_optimised is not None:
        options.optimized_model_filepath = str(save_optimised)
    if not fuse_integers:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    if not spin:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if threads is not None:
        options.intra_op_num_threads = threads
    # TF32 would round the inputs of float32 convolutions to 11 bits.
    settings = {"device_id": index or "0", "use_tf32": "0"} if kind == "cuda" else {}
    try:
        session = onnxruntime.InferenceSession(source, options, providers=[(provider, settings)])
    except Exception as error:  # onnxruntime's own classes are private to its binding
        if kind == "cuda":
            raise UnavailableError(f"ONNX Runtime on {device}: not run: {_first_line(error)}") from None
        raise ArtifactError(
            f"{name}: ONNX Runtime cannot load it ({_first_line(error)}); make it again with 'lfm-deploy export'"
        ) from None
    if session.get_providers()[0] != provider:
        raise UnavailableError(
            f"ONNX Runtime on {device}: not run: it fell back to {session.get_providers()[0]}; check the driver "
            "and the CUDA and cuDNN versions that this onnxruntime-gpu needs"
        )
    return session


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


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
