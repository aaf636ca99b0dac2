"""Pictures on their way through one GPU, the same for every engine that runs there.

From host memory they go by pinned memory, which several threads fill, in parts: while one part is computed, the next
is copied to the GPU and the one after it is put into pinned memory. Arrays on the GPU are read where they lie. Logits
come back in the order of the pictures.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.copying import Copier
from engines.engine import BatchSlice, PhaseTimes, to_graph_input
from engines.memory import CudaError, DeviceArray, DeviceBuffer, Event, Stream, check, select_device
from engines.slots import Slot, Steps, run_ahead
from lfm_deploy.artifacts import InputForm

Run = Callable[[Slot, BatchSlice, int], None]
"""Queues computing a part on the conveyor's stream: its pixels lie at an address in GPU memory, at least until the part
is finished, and its logits go into the slot's ``logit``. Where a part runs as more pictures than it has, those behind
them are anything."""


def _forget_nothing(_: DeviceBuffer) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Lanes:
    """How many parts are on their way at once.

    Attributes:
        slots: number of slots, each of which holds one part.
        ahead: number of parts that are filled while an earlier one is sent.
        behind: number of parts that are sent before an earlier one is computed; 1 where computing keeps the thread.
    """

    slots: int
    ahead: int = 1
    behind: int = 0


class Conveyor:
    """Slots, copying threads and streams of one engine. One thread at a time may use it."""

    def __init__(
        self,
        runtime: Any,
        index: int,
        stream: Stream,
        lanes: Lanes,
        *,
        room: int,
        largest_batch: int,
        on_free: Callable[[DeviceBuffer], None] = _forget_nothing,
    ) -> None:
        """Make slots on the calling thread's GPU.

        Args:
            runtime: cuda-python's runtime module, from ``load_runtime``.
            index: CUDA's index of the GPU, which the calling thread has selected.
            stream: stream on which the engine computes; it stays the engine's.
            lanes: number of slots, and how far copies go ahead.
            room: bytes of pictures that each slot has room for to begin with; they grow when needed.
            largest_batch: number of logits that a slot must hold.
            on_free: function that is given each device buffer that is about to be freed.

        Raises:
            CudaError: there is too little memory.
        """
        self._runtime, self._index, self._stream, self._lanes = runtime, index, stream, lanes
        self._copier = Copier()
        self._incoming, self._outgoing = Stream(runtime), Stream(runtime)
        self.slots = tuple(Slot(runtime, room, largest_batch, on_free) for _ in range(lanes.slots))

    @property
    def threads(self) -> int:
        """How many threads fill pinned memory."""
        return self._copier.threads

    def judge(
        self, images: NDArray[np.uint8], parts: Sequence[BatchSlice], run: Run, form: InputForm = InputForm.UINT8
    ) -> NDArray[np.float32]:
        """Logits of pictures in host memory.

        Args:
            images: pictures, RGB, uint8 ``(N, H, W, 3)``, checked.
            parts: parts of them, in order.
            run: function that queues computing a part.
            form: form of the engine's input.

        Returns:
            float32 ``(N,)``, in the order of the pictures.

        Raises:
            CudaError: the GPU failed, or has too little memory.
        """
        select_device(self._runtime, self._index)
        picture_bytes = count_bytes(images.shape[1:], form)
        largest = max(part.run_as for part in parts)
        for slot in self.slots[: len(parts)]:
            slot.reserve(largest * picture_bytes)
        result = np.empty(len(images), dtype=np.float32)

        def fill(slot: Slot, part: BatchSlice) -> Callable[[], None]:
            pixels = to_graph_input(images[part.start : part.start + part.count], form)
            return self._copier.start(slot.view(pixels), pixels)

        steps = Steps(
            fill=fill,
            send=lambda slot, part: slot.send(part.count * picture_bytes, self._incoming),
            compute=lambda slot, part: self._compute(slot, part, slot.image.address, run),
            finish=lambda slot, part: slot.collect(result[part.start : part.start + part.count]),
        )
        with self._draining():
            run_ahead(parts, self.slots, steps, ahead=self._lanes.ahead, behind=self._lanes.behind)
        return result

    def judge_there(self, array: DeviceArray, parts: Sequence[BatchSlice], run: Run) -> NDArray[np.float32]:
        """Logits of pictures on this GPU, which are not copied.

        Args:
            array: pictures in GPU memory, ``(N, ...)`` as the engine takes them, checked.
            parts: parts of them, in order; none may run as more pictures than it has, unless the engine itself
                leaves out what is behind them.
            run: function that queues computing a part.

        Returns:
            float32 ``(N,)``, in the order of the pictures.

        Raises:
            CudaError: the GPU failed.
        """
        select_device(self._runtime, self._index)
        self._wait_for(array)
        picture_bytes = np.dtype(array.dtype).itemsize * int(np.prod(array.shape[1:]))
        result = np.empty(array.shape[0], dtype=np.float32)
        steps: Steps[Slot] = Steps(
            fill=lambda *_: lambda: None,
            send=lambda *_: None,
            compute=lambda slot, part: self._compute(slot, part, array.address + part.start * picture_bytes, run),
            finish=lambda slot, part: slot.collect(result[part.start : part.start + part.count]),
        )
        with self._draining():
            run_ahead(parts, self.slots, steps)
        return result

    def time_phases(
        self, images: NDArray[np.uint8], part: BatchSlice, run: Run, form: InputForm = InputForm.UINT8
    ) -> PhaseTimes:
        """Run pictures once, with an event between the phases, nothing overlapped.

        Args:
            images: pictures, RGB, uint8 ``(N, H, W, 3)``, checked.
            part: part that holds all of them.
            run: function that queues computing it.
            form: form of the engine's input.

        Raises:
            CudaError: the GPU failed, or has too little memory.
        """
        select_device(self._runtime, self._index)
        slot, stream = self.slots[0], self._stream
        pixels = to_graph_input(images, form)
        slot.reserve(part.run_as * count_bytes(images.shape[1:], form))
        self._copier.start(slot.view(pixels), pixels)()
        events = [Event(self._runtime, timed=True) for _ in range(4)]
        try:
            with self._draining():
                events[0].record(stream)
                slot.send(pixels.nbytes, stream)
                events[1].record(stream)
                before = time.perf_counter()
                run(slot, part, slot.image.address)
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
        """Free the memory; nothing may be running."""
        select_device(self._runtime, self._index)
        self._copier.close()
        for slot in self.slots:
            slot.close()
        self._incoming.close()
        self._outgoing.close()

    def _compute(self, slot: Slot, part: BatchSlice, address: int, run: Run) -> None:
        """Queue a part whose pixels are on the GPU, or on their way, and the way back of its logits."""
        slot.compute(lambda: run(slot, part, address), self._stream)
        slot.fetch(part.count, self._outgoing)

    def _wait_for(self, array: DeviceArray) -> None:
        """Let the array be written; PyTorch's tensors do not say on which stream that happens."""
        if array.stream is None:
            check(self._runtime, self._runtime.cudaDeviceSynchronize(), "waiting for the array")
        else:
            check(self._runtime, self._runtime.cudaStreamSynchronize(array.stream), "waiting for the array's stream")

    @contextmanager
    def _draining(self) -> Iterator[None]:
        """After a failure, wait for what still runs: the caller may free its array, and slots must be idle."""
        try:
            yield
        except BaseException:
            for stream in (self._incoming, self._stream, self._outgoing):
                with suppress(CudaError):  # the failure itself is the one to report
                    stream.synchronize()
            raise


def count_bytes(picture: tuple[int, ...], form: InputForm) -> int:
    """Bytes of one picture ``(H, W, 3)`` in the form that an engine takes."""
    return int(np.prod(picture)) * (1 if form is InputForm.UINT8 else 4)
