"""Engines of tensorrt and tensorrt-rtx on a GPU.

Everything that can be refused without touching the GPU is refused first: a plan that its sidecar does not
describe, a library of another version, a GPU that the plan was not built for.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engines.engine import BatchSlice, check_images, fill_batch, split_batch, to_graph_input
from engines.gpus import Gpu, find_gpu
from engines.library import Library, load_library
from engines.memory import (
    CudaError,
    DeviceArray,
    DeviceBuffer,
    PinnedBuffer,
    Stream,
    check,
    load_runtime,
    view_device_array,
)
from lfm_deploy.artifacts import EngineInfo, InputForm, build_command, read_engine_info
from lfm_deploy.errors import ArtifactError, ConfigError, OtherGpuError, ShapeError

if TYPE_CHECKING:
    import tensorrt as trt  # for types alone: the library in use is the one that built the plan


def check_version(path: Path, info: EngineInfo, library: Library) -> None:
    """Refuse a plan of another version of its library; this needs no GPU.

    Raises:
        ArtifactError: the message has the remedy.
    """
    if info.library_version != library.version:
        raise ArtifactError(
            f"{path}: stale: built with {info.runtime} {info.library_version}, this machine has {library.version}, and "
            "plans load only in the version that built them; "
            f"run '{build_command(info.precision, info.gpu)}'"
        )


def check_gpu(path: Path, info: EngineInfo, gpu: Gpu) -> None:
    """Refuse a plan that was built for another GPU.

    Raises:
        OtherGpuError: the message has the remedy.
    """
    if info.gpu != gpu.sm:
        raise OtherGpuError(
            f"{path}: built for {info.gpu}, but {gpu.name} is {gpu.sm}; run '{build_command(info.precision, gpu.sm)}'"
        )


class TensorRTEngine:
    """A plan with its sidecar, ready on one GPU. See ``Engine`` for the attributes."""

    def __init__(self, path: Path, *, device: int = 0) -> None:
        """Load a plan.

        Args:
            path: the ``.engine`` file; its sidecar stands beside it.
            device: CUDA's index of the GPU.

        Raises:
            ArtifactError: engine or sidecar is damaged or foreign.
            UnavailableError: no driver, no GPU, or the library is not installed.
        """
        info = read_engine_info(path)
        library = load_library(info.runtime)
        check_version(path, info, library)
        check_gpu(path, info, find_gpu(device))
        self.info = info
        self.runtime = info.runtime
        self.precision = str(info.precision)
        self.device = f"cuda:{device}"
        self.batch_range = (info.batch[0], info.batch[2])
        self.contract = info.contract
        self.config = info.config
        self._path = path
        self._cuda = load_runtime()
        check(self._cuda, self._cuda.cudaSetDevice(device), f"choosing CUDA device {device}")
        self._engine = _deserialise(path, info, library)
        self._context: trt.IExecutionContext = self._engine.create_execution_context()
        if self._context is None:
            raise CudaError(f"{path}: no execution context: {_last_error(library)}; is the GPU's memory full?")
        self._stream = Stream(self._cuda)
        self._buffers: dict[str, tuple[PinnedBuffer, DeviceBuffer]] = {}

    @property
    def name(self) -> str:
        """Name in reports."""
        return f"{self.runtime} {self.precision} {self.info.gpu}"

    def logits(self, images: NDArray[np.uint8] | Any) -> NDArray[np.float32]:
        """Logits float32 ``(N,)`` of uint8 ``(N, H, W, 3)``.

        Args:
            images: a NumPy array, or any array with ``__cuda_array_interface__``, which is not copied (a graph
                made with ``--input float`` takes those as normalised float32 ``(N, 3, H, W)``).
        """
        if hasattr(images, "__cuda_array_interface__"):
            return self._logits_on_device(view_device_array(images))
        check_images(images.shape, str(images.dtype), self.contract, self.config, self._path.name)
        self._check_sides(images.shape[1:3])
        result = np.empty(len(images), dtype=np.float32)
        for part in split_batch(len(images), *self.batch_range):
            pixels = np.ascontiguousarray(to_graph_input(fill_batch(images, part), self.info.input))
            host, device = self._buffer("image", pixels.size, pixels.dtype)
            host.array[: pixels.size] = pixels.reshape(-1)
            device.copy_from_host(host.address, pixels.nbytes, self._stream)
            self._execute(device.address, pixels.shape, part, result)
        return result

    def close(self) -> None:
        """Free the GPU memory that this engine holds."""
        for host, device in self._buffers.values():
            host.close()
            device.close()
        self._buffers.clear()
        self._stream.close()
        del self._context, self._engine

    def _logits_on_device(self, array: DeviceArray) -> NDArray[np.float32]:
        if self.info.input is InputForm.UINT8:
            check_images(array.shape, array.dtype, self.contract, self.config, self._path.name)
            self._check_sides(array.shape[1:3])
            itemsize = 1
        else:
            if array.dtype != "float32" or len(array.shape) != 4 or array.shape[1] != 3:
                raise ShapeError(
                    f"{self._path.name}: the GPU array is {array.dtype} {array.shape}, expected normalised "
                    "float32 (N, 3, H, W)"
                )
            self._check_sides(array.shape[2:4])
            itemsize = 4
        if len(array.shape) and array.shape[0] < self.batch_range[0]:
            raise ShapeError(
                f"{self._path.name}: {array.shape[0]} pictures on the GPU, this engine runs at least "
                f"{self.batch_range[0]} at a time; build with --batch 1,OPT,MAX"
            )
        if array.stream is None:
            # PyTorch's tensors do not say on which stream they are written.
            check(self._cuda, self._cuda.cudaDeviceSynchronize(), "waiting for the array")
        else:
            check(self._cuda, self._cuda.cudaStreamSynchronize(array.stream), "waiting for the array's stream")
        picture_bytes = itemsize * int(np.prod(array.shape[1:]))
        result = np.empty(array.shape[0], dtype=np.float32)
        for part in split_batch(array.shape[0], *self.batch_range):
            address = array.address + part.start * picture_bytes
            self._execute(address, (part.count, *array.shape[1:]), part, result)
        return result

    def _execute(
        self, image_address: int, shape: tuple[int, ...], part: BatchSlice, result: NDArray[np.float32]
    ) -> None:
        """Run one part; its logits land in their place of ``result``."""
        if not self._context.set_input_shape("image", list(shape)):
            raise ShapeError(f"{self._path.name}: this engine does not take {shape}; build with a wider profile")
        self._context.set_tensor_address("image", image_address)
        host, device = self._buffer("logit", part.run_as, np.dtype(np.float32))
        self._context.set_tensor_address("logit", device.address)
        if self.info.evidence:
            self._bind_evidence(part.run_as)
        if not self._context.execute_async_v3(self._stream.handle):
            raise CudaError(f"{self._path}: the engine did not run; look at the GPU's log with dmesg")
        device.copy_to_host(host.address, part.run_as * 4, self._stream)
        self._stream.synchronize()
        result[part.start : part.start + part.count] = host.array[: part.count]

    def _bind_evidence(self, batch: int) -> None:
        """Give the evidence outputs a place; scoring does not read them."""
        count = batch * self.config.projection * self.config.k
        for name, dtype in (("evidence_values", np.float32), ("evidence_positions", np.int32)):
            _, device = self._buffer(name, count, np.dtype(dtype))
            self._context.set_tensor_address(name, device.address)

    def _buffer(self, name: str, count: int, dtype: np.dtype[Any]) -> tuple[PinnedBuffer, DeviceBuffer]:
        """Pinned and device memory for a tensor; grown when needed, never shrunk."""
        held = self._buffers.get(name)
        if held is None or held[0].array.size < count:
            if held is not None:
                held[0].close()
                held[1].close()
                del self._buffers[name]
            self._buffers[name] = (
                PinnedBuffer(self._cuda, count, dtype),
                DeviceBuffer(self._cuda, count * dtype.itemsize),
            )
        return self._buffers[name]

    def _check_sides(self, size: tuple[int, ...]) -> None:
        if self.info.sides is not None and max(size) > self.info.sides[2]:
            raise ShapeError(
                f"{self._path.name}: pictures are {size[1]}x{size[0]}, this engine takes sides up to "
                f"{self.info.sides[2]}; build with --max-side {max(size)}"
            )


def _deserialise(path: Path, info: EngineInfo, library: Library) -> "trt.ICudaEngine":
    api: Any = library.module
    library.sink.lines.clear()
    runtime: trt.Runtime = api.Runtime(library.logger)
    engine = runtime.deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        raise ArtifactError(
            f"{path}: {library.name} {library.version} cannot load it: {_last_error(library)}; "
            f"run '{build_command(info.precision, info.gpu)}' again"
        )
    return engine


def _last_error(library: Library) -> str:
    errors = [line.text for line in library.sink.lines if "ERROR" in line.severity]
    return errors[-1] if errors else "it gave no reason"


def parse_device(device: str) -> int:
    """The index in ``"cuda"`` or ``"cuda:N"``.

    Raises:
        ConfigError: it is neither.
    """
    kind, _, index = device.partition(":")
    if kind != "cuda" or (index and not index.isdigit()):
        raise ConfigError(f"device is {device!r}, expected cuda or cuda:N; a TensorRT engine runs on a GPU")
    return int(index or 0)
