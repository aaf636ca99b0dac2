"""CUDA graphs: work that is captured once and launched again with one call, and which of them are kept.

A graph has the shape of its input and the addresses of its buffers baked in, so each of these combinations, a
``GraphKey``, has a graph of its own. Three slots of buffers therefore give three graphs for a batch size.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from engines.memory import CudaError, Stream, check, describe_error

Entry = TypeVar("Entry")

# Three slots for each of 10 batch sizes; a sweep over 1, 2, 4, ... 256 needs 9 of them.
LARGEST_CACHE = 32


@dataclass(frozen=True, slots=True)
class GraphKey:
    """What is baked into a graph: shape of the input, addresses of input and output in GPU memory.

    Attributes:
        shape: shape of the input.
        image_address: address of the input in GPU memory.
        logit_address: address of the output in GPU memory.
    """

    shape: tuple[int, ...]
    image_address: int
    logit_address: int


class GraphCache(Generic[Entry]):
    """The graphs that are kept, the least recently used one leaving first.

    A graph is worth capturing at the second use of its key: the tail of a folder, or a picture of a size of its own,
    runs once and would pay for nothing.
    """

    def __init__(self, largest: int, discard: Callable[[Entry], None]) -> None:
        """An empty cache.

        Args:
            largest: number of graphs that are kept at most, and of keys that are remembered without a graph.
            discard: function that is given each graph that leaves the cache.
        """
        self._largest = largest
        self._discard = discard
        self._kept: OrderedDict[GraphKey, Entry] = OrderedDict()
        self._seen: OrderedDict[GraphKey, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, key: GraphKey) -> Entry | None:
        """The graph of a key, which counts as used now; None where there is none."""
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def is_due(self, key: GraphKey) -> bool:
        """Whether a key without a graph was used before; it counts as used now."""
        due = key in self._seen
        self._seen[key] = None
        self._seen.move_to_end(key)
        if len(self._seen) > self._largest:
            self._seen.popitem(last=False)
        return due

    def put(self, key: GraphKey, graph: Entry) -> None:
        """Keep a graph; the least recently used one makes room."""
        self._seen.pop(key, None)
        if key in self._kept:
            self._discard(self._kept.pop(key))
        while len(self._kept) >= self._largest:
            self._discard(self._kept.popitem(last=False)[1])
        self._kept[key] = graph

    def drop_pointing_into(self, address: int, nbytes: int) -> None:
        """Drop every graph that reads or writes a piece of GPU memory, which is about to be freed."""
        piece = range(address, address + nbytes)
        for key in [key for key in self._kept if key.image_address in piece or key.logit_address in piece]:
            self._discard(self._kept.pop(key))
        for key in [key for key in self._seen if key.image_address in piece or key.logit_address in piece]:
            del self._seen[key]

    def clear(self) -> None:
        """Drop every graph."""
        while self._kept:
            self._discard(self._kept.popitem()[1])
        self._seen.clear()


class CaptureError(CudaError):
    """Work cannot be captured; it can still be run as it is."""


@dataclass(frozen=True, slots=True)
class CapturedGraph:
    """Captured work, ready to be launched.

    Attributes:
        runtime: cuda-python's runtime module.
        handle: CUDA's executable graph.
        owner: object that the graph was captured from; it must live, untouched, as long as the graph.
    """

    runtime: Any
    handle: Any
    owner: object

    def launch(self, stream: Stream) -> None:
        """Queue the captured work on a stream."""
        check(self.runtime, self.runtime.cudaGraphLaunch(self.handle, stream.handle), "launching a CUDA graph")

    def close(self) -> None:
        """Destroy the graph; nothing of it may still be running."""
        check(self.runtime, self.runtime.cudaGraphExecDestroy(self.handle), "closing a CUDA graph")


def capture_graph(runtime: Any, stream: Stream, work: Callable[[], bool], owner: object) -> CapturedGraph:
    """Capture what ``work`` queues on a stream, without running it.

    Args:
        runtime: cuda-python's runtime module, from ``load_runtime``.
        stream: CUDA stream with nothing left to do.
        work: function that queues work on that stream alone, and returns whether it could.
        owner: object whose memory ``work`` uses and changes; the graph keeps it alive.

    Raises:
        CaptureError: something in ``work`` cannot be captured; the stream is as before.
    """
    # Thread-local: what other threads do meanwhile, such as allocating for another GPU, does not end this capture.
    mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    _check_capture(runtime, runtime.cudaStreamBeginCapture(stream.handle, mode))
    queued = False
    try:
        queued = work()
    finally:
        # Also after a failure: a stream that is being captured can be used for nothing else.
        ended = runtime.cudaStreamEndCapture(stream.handle)
    if not queued:
        # What was recorded is empty or in part: launched, it would leave old logits where new ones are expected.
        error, unfinished = ended
        if error == runtime.cudaError_t.cudaSuccess:
            check(runtime, runtime.cudaGraphDestroy(unfinished), "closing a CUDA graph")
        _forget_failure(runtime)
        raise CaptureError("the library refuses to run while it is captured")
    graph = _check_capture(runtime, ended)
    try:
        return CapturedGraph(runtime, _check_capture(runtime, runtime.cudaGraphInstantiate(graph, 0)), owner)
    finally:
        check(runtime, runtime.cudaGraphDestroy(graph), "closing a CUDA graph")


def _check_capture(runtime: Any, result: tuple[Any, ...]) -> Any:
    error, *values = result
    if error != runtime.cudaError_t.cudaSuccess:
        _forget_failure(runtime)
        raise CaptureError(f"capturing a CUDA graph: {describe_error(runtime, error)}")
    return values[0] if values else None


def _forget_failure(runtime: Any) -> None:
    """CUDA would report it again at the next call, which is another matter."""
    runtime.cudaGetLastError()
