"""Places for a part of a batch on its way through a GPU, taken in turns so that copies and compute overlap.

Part i + 2 is put into the memory of its slot while part i + 1 is copied to the GPU, part i is computed, and the logits
of part i - 1 come back. The buffers on the host are pinned: the GPU reads and writes them by itself.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from engines.engine import BatchSlice
from engines.memory import DeviceBuffer, Event, PinnedBuffer, Stream

SlotType = TypeVar("SlotType")


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps(Generic[SlotType]):
    """What is done with each part of a batch; each is given the slot and the part.

    Attributes:
        fill: function that begins to put a part's pictures into the slot's memory on the host; it returns a function
            that waits until they are there.
        send: function that queues the copy to the GPU, and does not wait for it.
        compute: function that queues computing a part and the way back of its logits.
        finish: function that waits for a part's logits and takes them out of the slot; called in the order of the
            parts.
    """

    fill: Callable[[SlotType, BatchSlice], Callable[[], None]]
    send: Callable[[SlotType, BatchSlice], None]
    compute: Callable[[SlotType, BatchSlice], None]
    finish: Callable[[SlotType, BatchSlice], None]


def run_ahead(
    parts: Sequence[BatchSlice],
    slots: Sequence[SlotType],
    steps: Steps[SlotType],
    *,
    ahead: int = 0,
    behind: int = 0,
) -> None:
    """Take parts of a batch through slots, each slot holding one part at a time.

    Args:
        parts: parts of a batch, in order.
        slots: slots, used in turns; more than ``ahead`` and ``behind`` together.
        steps: functions for each step of a part.
        ahead: number of parts that are filled while an earlier one is sent.
        behind: number of parts that are sent before an earlier one is computed: 1 where ``compute`` waits for what it
            queued, so that the next pictures are copied meanwhile.
    """
    filling: deque[Callable[[], None]] = deque()
    try:
        for index in range(len(parts) + ahead + behind):
            if index < len(parts):
                slot = slots[index % len(slots)]
                if index >= len(slots):
                    steps.finish(slot, parts[index - len(slots)])
                filling.append(steps.fill(slot, parts[index]))
            sent = index - ahead
            if 0 <= sent < len(parts):
                filling.popleft()()
                steps.send(slots[sent % len(slots)], parts[sent])
            computed = sent - behind
            if 0 <= computed < len(parts):
                steps.compute(slots[computed % len(slots)], parts[computed])
    finally:
        while filling:  # after a failure too: nobody may still write into a slot
            filling.popleft()()
    for index in range(max(0, len(parts) - len(slots)), len(parts)):
        steps.finish(slots[index % len(slots)], parts[index])


class Slot:
    """Pinned and device memory for one part of a batch, with events that say how far it is.

    ``image`` and ``logit`` hold the device memory; captured graphs point into it, so ``on_free`` hears of each piece
    before it goes.
    """

    def __init__(self, runtime: Any, nbytes: int, largest_batch: int, on_free: Callable[[DeviceBuffer], None]) -> None:
        """A slot with room for some pictures.

        Args:
            runtime: cuda-python's runtime module, from ``load_runtime``.
            nbytes: bytes of pictures that the slot has room for to begin with; see ``reserve``.
            largest_batch: number of logits that the slot must hold.
            on_free: function that is given each device buffer that is about to be freed.
        """
        self._runtime = runtime
        self._on_free = on_free
        self._pinned_image = PinnedBuffer(runtime, nbytes, np.dtype(np.uint8))
        self.image = DeviceBuffer(runtime, nbytes)
        self._pinned_logit = PinnedBuffer(runtime, largest_batch, np.dtype(np.float32))
        self.logit = DeviceBuffer(runtime, largest_batch * 4)
        self._copied = Event(runtime)
        self._computed = Event(runtime)
        self._returned = Event(runtime)

    def reserve(self, nbytes: int) -> None:
        """Make room for so many bytes of pictures; memory grows when needed and never shrinks.

        Nothing of this slot may be running.
        """
        if nbytes <= self.image.nbytes:
            return
        self._on_free(self.image)
        self._pinned_image.close()
        self.image.close()
        self._pinned_image = PinnedBuffer(self._runtime, nbytes, np.dtype(np.uint8))
        self.image = DeviceBuffer(self._runtime, nbytes)

    def view(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Pinned memory in the shape of pixels that fit, once the copy of what it held before is done.

        Args:
            pixels: pixels of which dtype and shape are taken: uint8 ``(N, H, W, 3)``, or float32 ``(N, 3, H, W)`` for a
                graph that takes floats.

        Returns:
            Memory of the slot, uint8 ``(N, H, W, 3)`` or float32 ``(N, 3, H, W)`` as the pixels are.
        """
        self._copied.synchronize()
        return self._pinned_image.array[: pixels.nbytes].view(pixels.dtype).reshape(pixels.shape)

    def send(self, nbytes: int, stream: Stream) -> None:
        """Queue the copy of the pixels to the GPU."""
        self.image.copy_from_host(self._pinned_image.address, nbytes, stream)
        self._copied.record(stream)

    def compute(self, work: Callable[[], None], stream: Stream) -> None:
        """Queue work that needs the pixels; ``work`` queues on the same stream."""
        stream.wait_for(self._copied)
        work()
        self._computed.record(stream)

    def fetch(self, count: int, stream: Stream) -> None:
        """Queue the copy of logits back, once they are computed."""
        stream.wait_for(self._computed)
        self.logit.copy_to_host(self._pinned_logit.address, count * 4, stream)
        self._returned.record(stream)

    def collect(self, into: NDArray[np.float32]) -> None:
        """Wait for the logits and copy as many as ``into`` takes.

        Args:
            into: array to copy the logits into, float32 ``(N,)``.
        """
        self._returned.synchronize()
        into[:] = self._pinned_logit.array[: len(into)]

    def close(self) -> None:
        """Free the memory; nothing of this slot may be running."""
        self._on_free(self.image)
        self._on_free(self.logit)
        for held in (self._pinned_image, self.image, self._pinned_logit, self.logit):
            held.close()
        for event in (self._copied, self._computed, self._returned):
            event.close()
