"""Device memory through cuda-python: streams, events, pinned and device buffers, and arrays of other libraries.

Arrays of pycuda, CuPy and PyTorch are taken where they lie, through ``__cuda_array_interface__``.
"""

import ctypes
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lfm_deploy.errors import DeployError, ShapeError, UnavailableError


class CudaError(DeployError):
    """A CUDA call failed."""


def load_runtime() -> Any:
    """cuda-python's runtime module.

    Raises:
        UnavailableError: cuda-python is not installed.
    """
    try:
        from cuda.bindings import runtime
    except ImportError:
        raise UnavailableError(
            "no CUDA device can be used: cuda-python is not installed; run 'pip install lfm-deploy[rtx]' (or [gpu])"
        ) from None
    return runtime


def describe_error(runtime: Any, error: Any) -> str:
    """CUDA's own words and number for an error code."""
    _, text = runtime.cudaGetErrorString(error)
    return f"{text.decode() if isinstance(text, bytes) else text} (CUDA error {int(error)})"


def check(runtime: Any, result: tuple[Any, ...], doing: str) -> Any:
    """The values of a CUDA call, whose first item is its error code.

    Raises:
        CudaError: the call failed while ``doing`` what the message names.
    """
    error, *values = result
    if error != runtime.cudaError_t.cudaSuccess:
        raise CudaError(f"{doing}: {describe_error(runtime, error)}")
    return values[0] if len(values) == 1 else tuple(values)


def select_device(runtime: Any, index: int) -> None:
    """Make a GPU the calling thread's; CUDA keeps one for each thread.

    Raises:
        CudaError: there is no such GPU.
    """
    check(runtime, runtime.cudaSetDevice(index), f"choosing CUDA device {index}")


def free_memory(runtime: Any) -> tuple[int, int]:
    """Free and total bytes of the calling thread's GPU.

    Raises:
        CudaError: there is no GPU.
    """
    free, total = check(runtime, runtime.cudaMemGetInfo(), "asking how much GPU memory is free")
    return int(free), int(total)


class Event:
    """A point in a stream that the host or another stream can wait for."""

    def __init__(self, runtime: Any, *, timed: bool = False) -> None:
        self._runtime = runtime
        # An event that keeps no time is cheaper to record and to wait for.
        flags = runtime.cudaEventDefault if timed else runtime.cudaEventDisableTiming
        self.handle = check(runtime, runtime.cudaEventCreateWithFlags(flags), "creating a CUDA event")

    def record(self, stream: "Stream") -> None:
        """Mark what the stream holds up to now."""
        check(self._runtime, self._runtime.cudaEventRecord(self.handle, stream.handle), "recording a CUDA event")

    def synchronize(self) -> None:
        """Wait until what was marked is done; at once if nothing ever was."""
        check(self._runtime, self._runtime.cudaEventSynchronize(self.handle), "running on the GPU")

    def elapsed_ms(self, later: "Event") -> float:
        """Milliseconds of the GPU from this event to a later one; both timed and both done."""
        return float(
            check(self._runtime, self._runtime.cudaEventElapsedTime(self.handle, later.handle), "reading CUDA events")
        )

    def close(self) -> None:
        """Destroy the event."""
        check(self._runtime, self._runtime.cudaEventDestroy(self.handle), "closing a CUDA event")


class Stream:
    """A CUDA stream that waits for no other one unless told."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        # An ordinary stream would wait for the default stream, and could not be captured while that works.
        result = runtime.cudaStreamCreateWithFlags(runtime.cudaStreamNonBlocking)
        self._stream = check(runtime, result, "creating a CUDA stream")

    @property
    def handle(self) -> int:
        """The stream as an integer, as TensorRT takes it."""
        return int(self._stream)

    def wait_for(self, event: Event) -> None:
        """Let everything that is queued from now on wait for an event of another stream."""
        check(self._runtime, self._runtime.cudaStreamWaitEvent(self._stream, event.handle, 0), "ordering CUDA streams")

    def synchronize(self) -> None:
        """Wait until everything on the stream is done."""
        check(self._runtime, self._runtime.cudaStreamSynchronize(self._stream), "running on the GPU")

    def close(self) -> None:
        """Destroy the stream."""
        check(self._runtime, self._runtime.cudaStreamDestroy(self._stream), "closing a CUDA stream")


class PinnedBuffer:
    """Page-locked host memory, seen as a NumPy array of a given dtype."""

    def __init__(self, runtime: Any, count: int, dtype: np.dtype[Any]) -> None:
        self._runtime = runtime
        nbytes = count * dtype.itemsize
        self.address = int(check(runtime, runtime.cudaMallocHost(nbytes), f"pinning {nbytes >> 20} MiB of host memory"))
        memory = (ctypes.c_uint8 * nbytes).from_address(self.address)
        self.array: NDArray[Any] = np.ctypeslib.as_array(memory).view(dtype)

    def close(self) -> None:
        """Free the memory, once; the array must not be used afterwards."""
        address, self.address = self.address, 0
        if address:
            check(self._runtime, self._runtime.cudaFreeHost(address), "freeing pinned memory")


class DeviceBuffer:
    """Memory on the GPU."""

    def __init__(self, runtime: Any, nbytes: int) -> None:
        self._runtime = runtime
        self.nbytes = nbytes
        self.address = int(check(runtime, runtime.cudaMalloc(nbytes), f"allocating {nbytes >> 20} MiB of GPU memory"))

    def copy_from_host(self, address: int, nbytes: int, stream: Stream) -> None:
        """Queue a copy of pinned host memory to the start of this buffer."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        result = self._runtime.cudaMemcpyAsync(self.address, address, nbytes, kind, stream.handle)
        check(self._runtime, result, "copying to the GPU")

    def copy_to_host(self, address: int, nbytes: int, stream: Stream) -> None:
        """Queue a copy of the start of this buffer to pinned host memory."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        result = self._runtime.cudaMemcpyAsync(address, self.address, nbytes, kind, stream.handle)
        check(self._runtime, result, "copying from the GPU")

    def close(self) -> None:
        """Free the memory, once."""
        address, self.address, self.nbytes = self.address, 0, 0
        if address:
            check(self._runtime, self._runtime.cudaFree(address), "freeing GPU memory")


@dataclass(frozen=True, slots=True)
class DeviceArray:
    """An array of another library in GPU memory: address, shape, dtype name, and the stream that it is ready on.

    Attributes:
        address: address in GPU memory.
        shape: shape of the array.
        dtype: name of the dtype, such as ``"uint8"``.
        stream: handle of the CUDA stream that the array is ready on; None where there is none to wait for.
    """

    address: int
    shape: tuple[int, ...]
    dtype: str
    stream: int | None


def view_device_array(array: Any) -> DeviceArray:
    """Read ``__cuda_array_interface__`` (version 2 or 3).

    Raises:
        ShapeError: the array is not contiguous in C order, or is masked.
    """
    interface: dict[str, Any] = array.__cuda_array_interface__
    shape = tuple(int(side) for side in interface["shape"])
    dtype = np.dtype(interface["typestr"])
    strides = interface.get("strides")
    expected = tuple(dtype.itemsize * math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    if interface.get("mask") is not None or (strides is not None and tuple(strides) != expected):
        raise ShapeError(
            f"the GPU array {dtype} {shape} with strides {strides} is not contiguous, expected C order "
            "(N, H, W, 3); make it so first, for example with cupy.ascontiguousarray or tensor.contiguous()"
        )
    stream = interface.get("stream")
    return DeviceArray(int(interface["data"][0]), shape, dtype.name, None if stream is None else int(stream))
