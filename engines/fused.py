"""Kernels of our own for a proved FP16 graph on an NVIDIA GPU: the fastest way to run it there."""

import importlib.util
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.copying import Copier
from engines.devices import parse_device
from engines.engine import BatchSlice, PhaseTimes, check_images
from engines.fused_graph import read_weights
from engines.memory import (
    CudaError,
    DeviceArray,
    Event,
    PinnedBuffer,
    Stream,
    check,
    load_runtime,
    select_device,
    view_device_array,
)
from engines.slots import Slot, run_ahead, take_turns
from lfm_deploy.errors import ConfigError, ShapeError, UnavailableError

_OLDEST = (8, 0)
# At 256x256 pixels; of larger pictures fewer run at once, so that as many pixels do.
_LARGEST_BATCH = 256
# A batch from host memory runs in four parts or more, so that copies overlap with compute, but not in small ones.
_PARTS, _SMALLEST_PART, _LARGEST_PART = 4, 32, 128
_PIXELS = 256 * 256
# Two parts are being filled, one is copied, and two are computed or wait for it.
_SLOTS, _AHEAD = 5, 2


def check_kernels(device: str) -> int:
    """Whether the kernels can run on a device; CUDA's index of it.

    Args:
        device: ``"cuda"`` or ``"cuda:N"``.

    Raises:
        ConfigError: the device is no CUDA device.
        UnavailableError: there is no such device, it is too old, or a library is missing.
    """
    kind, number = parse_device(device)
    if kind != "cuda":
        raise ConfigError(f"device is {device!r}, the fused kernels run on cuda or cuda:N")
    if importlib.util.find_spec("triton") is None:
        raise UnavailableError(
            "fused kernels: not run: the package triton is not installed; run 'pip install lfm-deploy[kernels]'"
        )
    import torch

    if not torch.cuda.is_available():
        why = "this PyTorch is for the CPU alone" if torch.version.cuda is None else "no CUDA device"
        raise UnavailableError(f"fused kernels on the GPU: not run: {why}; run the graph in ONNX Runtime on the CPU")
    if number >= torch.cuda.device_count():
        raise UnavailableError(f"no CUDA device {number}: this machine has {torch.cuda.device_count()}")
    capability = torch.cuda.get_device_capability(number)
    if capability < _OLDEST:
        name = torch.cuda.get_device_name(number)
        raise UnavailableError(
            f"fused kernels: not run: {name} has compute capability {capability[0]}.{capability[1]}, they need 8.0 or "
            "newer; run the graph in ONNX Runtime"
        )
    return number


@dataclass(frozen=True, slots=True)
class Lane:
    """A slot, and the job of the part that is in it."""

    slot: Slot
    job: PinnedBuffer


class FusedEngine:
    """A typed FP16 graph by kernels of our own. See ``Engine`` for the attributes.

    Pictures in host memory go through pinned memory, which several threads fill while the GPU copies and computes; an
    array on the GPU is read where it lies. Batch sizes that return are CUDA graphs, one for each power of two; others
    run as the next larger one. One thread at a time may use it.
    """

    runtime = "fused"
    precision = "fp16"

    def __init__(self, path: Path, *, device: str = "cuda") -> None:
        """Read a graph and put it on a GPU.

        Args:
            path: an FP16 graph of SNet with Top-K pooling, raw pixels in and logits out.
            device: ``"cuda"`` or ``"cuda:N"``.

        Raises:
            ArtifactError: the graph is damaged, not ours, or holds NaN or Inf.
            UnavailableError: the kernels do not know its network, or cannot run on this machine.
            ConfigError: the device is no CUDA device.
        """
        weights = read_weights(path)
        self._index = check_kernels(device)
        self.device = f"cuda:{self._index}"
        self.contract, self.config = weights.info.contract, weights.info.config
        self.batch_range = (1, _LARGEST_BATCH)
        self._path = path
        self._cuda = load_runtime()
        select_device(self._cuda, self._index)
        from engines.fused_runner import FusedRunner

        same_size = self.contract.size != "native"
        self._runner = FusedRunner(weights, self.device, self._cuda, same_size=same_size)
        self._copier = Copier()
        self._incoming, self._outgoing = Stream(self._cuda), Stream(self._cuda)
        self._lanes = [
            Lane(Slot(self._cuda, 1, _LARGEST_BATCH, lambda _: None), PinnedBuffer(self._cuda, 3, np.dtype(np.int64)))
            for _ in range(_SLOTS)
        ]

    @property
    def name(self) -> str:
        """Name in reports."""
        return f"fused {self.precision} {self.device}"

    def describe(self) -> str:
        """How it runs."""
        own = sum(way != 0 for way in self._runner.network.ways)
        return (
            f"{own} of {len(self._runner.network.ways)} inner convolutions with their pooling in one kernel, "
            f"{self._runner.graphs} CUDA graphs, {self._copier.threads} copying threads"
        )

    def logits(self, images: NDArray[np.uint8] | Any) -> NDArray[np.float32]:
        """Logits float32 ``(N,)`` of uint8 ``(N, H, W, 3)``.

        Args:
            images: pictures, RGB, uint8 ``(N, H, W, 3)``; a NumPy array, or any array with
                ``__cuda_array_interface__``, which is not copied.

        Raises:
            ShapeError: the pictures are not what the contract says.
            UnavailableError: the GPU has too little memory.
            CudaError: the GPU failed.
        """
        select_device(self._cuda, self._index)
        if hasattr(images, "__cuda_array_interface__"):
            return self._logits_on_device(view_device_array(images))
        check_images(images.shape, str(images.dtype), self.contract, self.config, self._path.name)
        size = images.shape[1:3]
        parts = split_into_powers(len(images), limit_batch(choose_part(len(images)), size))
        picture_bytes = size[0] * size[1] * 3
        for lane in self._lanes[: len(parts)]:
            lane.slot.reserve(parts[0].count * picture_bytes)
        result = np.empty(len(images), dtype=np.float32)

        def fill(lane: Lane, part: BatchSlice) -> Callable[[], None]:
            pixels = images[part.start : part.start + part.count]
            return self._copier.start(lane.slot.view(pixels), pixels)

        def start(lane: Lane, part: BatchSlice) -> None:
            lane.slot.send(part.count * picture_bytes, self._incoming)
            self._compute(lane, part, lane.slot.image.address, size)

        with self._draining():
            run_ahead(parts, self._lanes, _AHEAD, fill, start, lambda lane, part: _collect(lane, part, result))
        return result

    def time_phases(self, images: NDArray[np.uint8]) -> PhaseTimes:
        """Run pictures that fit one run, once, with an event between the phases.

        The first two runs of a batch size warm up and capture: call ``logits`` with it first, three times.

        Args:
            images: pictures, RGB, uint8 ``(N, H, W, 3)``; no more than run at once.

        Raises:
            ShapeError: there are more pictures than run at once, or they are not what the contract says.
            CudaError: the GPU failed.
        """
        select_device(self._cuda, self._index)
        check_images(images.shape, str(images.dtype), self.contract, self.config, self._path.name)
        size = images.shape[1:3]
        largest = limit_batch(_LARGEST_BATCH, size)
        if len(images) > largest:
            raise ShapeError(
                f"{self._path.name}: {len(images)} pictures do not run in one go, expected at most {largest}; "
                "time a smaller batch"
            )
        (part,), lane, stream = split_into_powers(len(images), largest), self._lanes[0], self._runner.stream
        lane.slot.reserve(images.nbytes)
        lane.slot.fill(images)
        events = [Event(self._cuda, timed=True) for _ in range(4)]
        try:
            with self._draining():
                events[0].record(stream)
                lane.slot.send(images.nbytes, stream)
                events[1].record(stream)
                before = time.perf_counter()
                self._run(lane, part, lane.slot.image.address, size)
                enqueue_ms = (time.perf_counter() - before) * 1e3
                events[2].record(stream)
                lane.slot.fetch(part.count, stream)
                events[3].record(stream)
                stream.synchronize()
            copy_in, compute, copy_out = (first.elapsed_ms(second) for first, second in itertools.pairwise(events))
        finally:
            for event in events:
                event.close()
        return PhaseTimes(
            host_to_device_ms=copy_in, compute_ms=compute, device_to_host_ms=copy_out, enqueue_ms=enqueue_ms
        )

    def close(self) -> None:
        """Free the GPU memory that this engine holds."""
        select_device(self._cuda, self._index)
        self._copier.close()
        for lane in self._lanes:
            lane.slot.close()
            lane.job.close()
        self._runner.close()
        self._incoming.close()
        self._outgoing.close()

    def _logits_on_device(self, array: DeviceArray) -> NDArray[np.float32]:
        check_images(array.shape, array.dtype, self.contract, self.config, self._path.name)
        if array.stream is None:
            # PyTorch's tensors do not say on which stream they are written.
            check(self._cuda, self._cuda.cudaDeviceSynchronize(), "waiting for the array")
        else:
            check(self._cuda, self._cuda.cudaStreamSynchronize(array.stream), "waiting for the array's stream")
        count, size = array.shape[0], (array.shape[1], array.shape[2])
        picture_bytes = size[0] * size[1] * 3
        result = np.empty(count, dtype=np.float32)

        def start(lane: Lane, part: BatchSlice) -> None:
            self._compute(lane, part, array.address + part.start * picture_bytes, size)

        with self._draining():
            parts = split_into_powers(count, limit_batch(_LARGEST_BATCH, size))
            take_turns(parts, self._lanes, lambda *_: None, start, lambda lane, part: _collect(lane, part, result))
        return result

    def _compute(self, lane: Lane, part: BatchSlice, address: int, size: tuple[int, int]) -> None:
        """Queue a part whose pixels are on the GPU, or on their way, and the way back of its logits."""
        lane.slot.compute(lambda: self._run(lane, part, address, size), self._runner.stream)
        lane.slot.fetch(part.count, self._outgoing)

    def _run(self, lane: Lane, part: BatchSlice, address: int, size: tuple[int, int]) -> None:
        lane.job.array[:] = address, part.count, lane.slot.logit.address
        self._runner.run(lane.job, part.run_as, size)

    @contextmanager
    def _draining(self) -> Iterator[None]:
        """After a failure, wait for what still runs: the caller may free its array, and slots must be idle."""
        try:
            yield
        except BaseException:
            for stream in (self._incoming, self._runner.stream, self._outgoing):
                with suppress(CudaError):  # the failure itself is the one to report
                    stream.synchronize()
            raise


def _collect(lane: Lane, part: BatchSlice, result: NDArray[np.float32]) -> None:
    lane.slot.collect(result[part.start : part.start + part.count])


def choose_part(pictures: int) -> int:
    """How many pictures from host memory run at once: a power of two."""
    share = -(-pictures // _PARTS)
    return min(max(1 << (share - 1).bit_length(), _SMALLEST_PART), _LARGEST_PART)


def limit_batch(largest: int, size: tuple[int, int]) -> int:
    """The largest power of two of pictures of a size that holds no more pixels than ``largest`` of 256x256."""
    fitting = max(largest * _PIXELS // (size[0] * size[1]), 1)
    return min(largest, 1 << (fitting.bit_length() - 1))


def split_into_powers(pictures: int, largest: int) -> list[BatchSlice]:
    """Split pictures into runs of ``largest``, a power of two; the rest runs as the next power of two."""
    starts = range(0, pictures, largest)
    counts = [min(largest, pictures - start) for start in starts]
    return [
        BatchSlice(start, count, 1 << (count - 1).bit_length()) for start, count in zip(starts, counts, strict=True)
    ]
