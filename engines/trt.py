"""TensorRT engines on a GPU, of ``tensorrt`` and of ``tensorrt-rtx``.

Everything that can be refused without touching the GPU is refused first: a plan that its sidecar does not
describe, a library of another version, a GPU that the plan was not built for.
"""

import itertools
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.cuda_graphs import GraphKey
from engines.device_plan import SLOTS, image_shape
from engines.engine import BatchSlice, PhaseTimes, check_images, fill_batch, split_batch, to_graph_input
from engines.gpus import Gpu, find_gpu
from engines.library import Library, load_runtime_for, parse_version
from engines.memory import (
    CudaError,
    DeviceArray,
    Event,
    Stream,
    check,
    load_runtime,
    select_device,
    view_device_array,
)
from engines.runner import Runner
from engines.slots import Slot, take_turns
from lfm_deploy.artifacts import EngineInfo, InputForm, build_command, read_engine_info
from lfm_deploy.errors import ArtifactError, OtherGpuError, ShapeError


def check_version(path: Path, info: EngineInfo, library: Library) -> None:
    """Refuse a plan of another version of its library; this needs no GPU.

    A version-compatible plan loads in the version that built it, and in every newer one.

    Raises:
        ArtifactError: the engine was built by another version of the library, or by a newer one where it is
            version-compatible; the message has the remedy.
    """
    built, here = (parse_version(version) for version in (info.library_version, library.version))
    if built == here or (info.version_compatible and built < here):
        return
    rule = (
        "version-compatible plans load in the version that built them and in newer ones"
        if info.version_compatible
        else "plans load only in the version that built them"
    )
    raise ArtifactError(
        f"{path}: stale: built with {info.runtime} {info.library_version}, this machine has {library.name} "
        f"{library.version}, and {rule}; run '{build_command(info.precision, info.gpu)}'"
    )


def check_gpu(path: Path, info: EngineInfo, gpu: Gpu) -> None:
    """Refuse a plan that was built for another GPU.

    Raises:
        OtherGpuError: the engine was built for another GPU; the message has the remedy.
    """
    if info.gpu != gpu.sm:
        raise OtherGpuError(
            f"{path}: built for {info.gpu}, but {gpu.name} is {gpu.sm}; run '{build_command(info.precision, gpu.sm)}'"
        )


class TensorRTEngine:
    """A plan with its sidecar, ready on one GPU. See ``Engine`` for the attributes.

    Pictures go through two slots of pinned memory, so that copies overlap with compute where a batch is split; work
    that returns is captured into CUDA graphs, one for each batch size and slot. One thread at a time may use it.
    """

    def __init__(self, path: Path, *, device: int = 0, cuda_graphs: bool = True) -> None:
        """Load a plan.

        Args:
            path: the ``.engine`` file; its sidecar stands beside it.
            device: CUDA's index of the GPU.
            cuda_graphs: whether work that runs more than once is captured into CUDA graphs; False runs everything call
                by call.

        Raises:
            ArtifactError: engine or sidecar is damaged or foreign.
            UnavailableError: there is no driver, no GPU or too little free memory, or the library is not installed.
        """
        info = read_engine_info(path)
        library = load_runtime_for(info)
        check_version(path, info, library)
        gpu = find_gpu(device)
        check_gpu(path, info, gpu)
        self.info = info
        self.runtime = info.runtime
        self.precision = str(info.precision)
        self.device = f"cuda:{device}"
        self.batch_range = (info.batch[0], info.batch[2])
        self.contract = info.contract
        self.config = info.config
        self._path = path
        self._index = device
        self._cuda = load_runtime()
        select_device(self._cuda, device)
        self._runner = Runner(path, info, library, self._cuda, gpu, cuda_graphs=cuda_graphs)
        self.memory = self._runner.memory  # what it takes of the GPU at its largest batch
        self._incoming, self._outgoing = Stream(self._cuda), Stream(self._cuda)
        room = self._input_bytes(image_shape(info, info.batch[0]))
        self._slots = [Slot(self._cuda, room, info.batch[2], self._runner.forget) for _ in range(SLOTS)]

    @property
    def name(self) -> str:
        """Name in reports."""
        return f"{self.runtime} {self.precision} {self.info.gpu}"

    @property
    def uses_cuda_graphs(self) -> bool:
        """Whether work that returns is captured; if not, ``why_no_cuda_graphs`` has the reason."""
        return self._runner.why_no_graphs is None

    @property
    def why_no_cuda_graphs(self) -> str | None:
        """Why nothing is captured; None where it is. A failure is noticed at the first capture."""
        return self._runner.why_no_graphs

    @property
    def captured_graphs(self) -> int:
        """How many CUDA graphs are held at present."""
        return self._runner.graphs

    def logits(self, images: NDArray[np.uint8] | Any) -> NDArray[np.float32]:
        """Logits of pictures; a logit above the contract's threshold is fake.

        Args:
            images: pictures, uint8 ``(N, H, W, 3)``: a NumPy array, or any array with ``__cuda_array_interface__``,
                which is not copied. A graph made with ``--input float`` takes the latter as normalised float32
                ``(N, 3, H, W)``.

        Returns:
            float32 ``(N,)``, in the order of the pictures.

        Raises:
            ShapeError: the pictures are not what the contract says.
            CudaError: the GPU failed.
        """
        select_device(self._cuda, self._index)
        if hasattr(images, "__cuda_array_interface__"):
            return self._logits_on_device(view_device_array(images))
        parts = self._split(images)
        result = np.empty(len(images), dtype=np.float32)

        def fill(slot: Slot, part: BatchSlice) -> None:
            slot.fill(to_graph_input(fill_batch(images, part), self.info.input))

        def start(slot: Slot, part: BatchSlice) -> None:
            shape = self._input_shape(images.shape, part)
            slot.send(self._input_bytes(shape), self._incoming)
            slot.compute(lambda: self._run(slot, shape, slot.image.address), self._runner.stream)
            slot.fetch(part.count, self._outgoing)

        def finish(slot: Slot, part: BatchSlice) -> None:
            slot.collect(result[part.start : part.start + part.count])

        with self._draining():
            take_turns(parts, self._slots, fill, start, finish)
        return result

    def time_phases(self, images: NDArray[np.uint8]) -> PhaseTimes:
        """Run pictures uint8 ``(N, H, W, 3)`` that fit one run, once, with an event between the phases.

        The first two runs of a batch size warm up and capture: call ``logits`` with it first, three times.

        Args:
            images: pictures, RGB, uint8 ``(N, H, W, 3)``; N must fit one run.

        Raises:
            ShapeError: there are more pictures than the largest batch, or they are not what the contract says.
            CudaError: the GPU failed.
        """
        select_device(self._cuda, self._index)
        parts = self._split(images)
        if len(parts) > 1:
            raise ShapeError(
                f"{self._path.name}: {len(images)} pictures do not run in one go, expected at most "
                f"{self.batch_range[1]}; time a smaller batch"
            )
        (part,), slot, stream = parts, self._slots[0], self._runner.stream
        shape = self._input_shape(images.shape, part)
        slot.fill(to_graph_input(fill_batch(images, part), self.info.input))
        events = [Event(self._cuda, timed=True) for _ in range(4)]
        try:
            with self._draining():
                events[0].record(stream)
                slot.send(self._input_bytes(shape), stream)
                events[1].record(stream)
                before = time.perf_counter()
                self._run(slot, shape, slot.image.address)
                enqueue_ms = (time.perf_counter() - before) * 1e3
                events[2].record(stream)
                slot.fetch(part.count, stream)
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
        for slot in self._slots:
            slot.close()
        self._runner.close()
        self._incoming.close()
        self._outgoing.close()

    def _logits_on_device(self, array: DeviceArray) -> NDArray[np.float32]:
        self._check_device_array(array)
        if array.stream is None:
            # PyTorch's tensors do not say on which stream they are written.
            check(self._cuda, self._cuda.cudaDeviceSynchronize(), "waiting for the array")
        else:
            check(self._cuda, self._cuda.cudaStreamSynchronize(array.stream), "waiting for the array's stream")
        picture_bytes = self._input_bytes((1, *array.shape[1:]))
        result = np.empty(array.shape[0], dtype=np.float32)

        def start(slot: Slot, part: BatchSlice) -> None:
            address = array.address + part.start * picture_bytes
            slot.compute(lambda: self._run(slot, (part.count, *array.shape[1:]), address), self._runner.stream)
            slot.fetch(part.count, self._outgoing)

        def finish(slot: Slot, part: BatchSlice) -> None:
            slot.collect(result[part.start : part.start + part.count])

        with self._draining():
            parts = split_batch(array.shape[0], *self.batch_range)
            take_turns(parts, self._slots, lambda *_: None, start, finish)
        return result

    def _check_device_array(self, array: DeviceArray) -> None:
        if self.info.input is InputForm.UINT8:
            check_images(array.shape, array.dtype, self.contract, self.config, self._path.name)
            self._check_sides(array.shape[1:3])
        else:
            if array.dtype != "float32" or len(array.shape) != 4 or array.shape[1] != 3:
                raise ShapeError(
                    f"{self._path.name}: the GPU array is {array.dtype} {array.shape}, expected normalised "
                    "float32 (N, 3, H, W)"
                )
            self._check_sides(array.shape[2:4])
        if array.shape[0] < self.batch_range[0]:
            raise ShapeError(
                f"{self._path.name}: {array.shape[0]} pictures on the GPU, this engine runs at least "
                f"{self.batch_range[0]} at a time; build with --batch 1,OPT,MAX"
            )

    def _split(self, images: NDArray[np.uint8]) -> list[BatchSlice]:
        """Check pictures, split them, and make room for the parts while nothing runs."""
        check_images(images.shape, str(images.dtype), self.contract, self.config, self._path.name)
        self._check_sides(images.shape[1:3])
        parts = split_batch(len(images), *self.batch_range)
        needed = max(self._input_bytes(self._input_shape(images.shape, part)) for part in parts)
        for slot in self._slots[: len(parts)]:
            slot.reserve(needed)
        return parts

    def _input_shape(self, shape: tuple[int, ...], part: BatchSlice) -> tuple[int, ...]:
        """Of the graph's input, for a part of pictures ``(N, H, W, 3)``."""
        height, width = shape[1:3]
        return (
            (part.run_as, height, width, 3) if self.info.input is InputForm.UINT8 else (part.run_as, 3, height, width)
        )

    def _input_bytes(self, shape: tuple[int, ...]) -> int:
        return math.prod(shape) * (1 if self.info.input is InputForm.UINT8 else 4)

    def _run(self, slot: Slot, shape: tuple[int, ...], image_address: int) -> None:
        self._runner.run(GraphKey(shape, image_address, slot.logit.address))

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

    def _check_sides(self, size: tuple[int, ...]) -> None:
        if self.info.sides is not None and max(size) > self.info.sides[2]:
            raise ShapeError(
                f"{self._path.name}: pictures are {size[1]}x{size[0]}, this engine takes sides up to "
                f"{self.info.sides[2]}; build with --max-side {max(size)}"
            )
