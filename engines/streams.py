"""A batch cut into pieces that run at the same time on a CPU, which is faster than all cores on one piece.

Threads on one small convolution wait for each other; a session with one or a few threads for each piece does not. A
batch with fewer pieces than streams would leave cores idle, so that one goes to a session that has all of them; where
there is none, it is cut into smaller pieces.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.engine import split_batch

Runner = Callable[[NDArray[Any]], list[NDArray[Any]]]
"""Runs pictures and gives each output, pictures first."""


class StreamPool:
    """Shares batches out over runners of one graph, results in order."""

    def __init__(self, wide: Runner | None, narrow: Sequence[Runner], *, piece: int) -> None:
        """Take runners.

        Args:
            wide: runner that uses all threads; it runs piece after piece where there are fewer pieces than streams.
                None where there is none; there must be narrow ones then.
            narrow: runners that work beside each other, one for each stream; empty for none.
            piece: number of pictures that run in one go at most.
        """
        self._wide, self._piece = wide, piece
        self._streams = len(narrow)
        self._idle: SimpleQueue[Runner] = SimpleQueue()
        for runner in narrow:
            self._idle.put(runner)
        self._workers = ThreadPoolExecutor(self._streams, thread_name_prefix="stream") if narrow else None

    def run(self, images: NDArray[Any]) -> list[NDArray[Any]]:
        """Each output over all pictures ``(N, ...)``, in their order.

        Args:
            images: input of the graph: uint8 ``(N, H, W, 3)``, or float32 ``(N, 3, H, W)`` for a graph that takes
                floats.

        Returns:
            Each output of the graph over all pictures, float32 or int32 ``(N, ...)``, in their order.
        """
        piece = self._piece if self._wide is not None else min(self._piece, -(-len(images) // self._streams))
        pieces = [images[part.start : part.start + part.count] for part in split_batch(len(images), 1, piece)]
        if self._wide is not None and (self._workers is None or len(pieces) < self._streams):
            found = [self._wide(part) for part in pieces]
        elif self._workers is None or len(pieces) == 1:
            found = [self._run_narrow(part) for part in pieces]
        else:
            found = list(self._workers.map(self._run_narrow, pieces))
        return found[0] if len(found) == 1 else [np.concatenate(column) for column in zip(*found, strict=True)]

    def close(self) -> None:
        """End the threads and drop the runners."""
        if self._workers is not None:
            self._workers.shutdown()
        while not self._idle.empty():
            self._idle.get()
        del self._wide

    def _run_narrow(self, piece: NDArray[Any]) -> list[NDArray[Any]]:
        runner = self._idle.get()
        try:
            return runner(piece)
        finally:
            self._idle.put(runner)
