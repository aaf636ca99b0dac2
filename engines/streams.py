"""A batch in pieces that run at the same time: what many cores do better than all of them on one piece.

Threads on one small convolution wait for each other; a session with one or a few threads for each piece does not. A
batch with fewer pieces than streams would leave cores idle, so that one goes to a session that has all of them.
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

    def __init__(self, wide: Runner, narrow: Sequence[Runner], *, piece: int) -> None:
        """Take runners.

        Args:
            wide: uses all threads; runs piece after piece where there are fewer pieces than streams.
            narrow: one for each stream, which run beside each other; empty for none.
            piece: most pictures that run in one go.
        """
        self._wide, self._piece = wide, piece
        self._streams = len(narrow)
        self._idle: SimpleQueue[Runner] = SimpleQueue()
        for runner in narrow:
            self._idle.put(runner)
        self._workers = ThreadPoolExecutor(self._streams, thread_name_prefix="stream") if narrow else None

    def run(self, images: NDArray[Any]) -> list[NDArray[Any]]:
        """Each output over all pictures ``(N, ...)``, in their order."""
        pieces = [images[part.start : part.start + part.count] for part in split_batch(len(images), 1, self._piece)]
        if self._workers is None or len(pieces) < self._streams:
            found = [self._wide(piece) for piece in pieces]
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
