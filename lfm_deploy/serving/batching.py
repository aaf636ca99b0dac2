"""Single items become batches: at most so many, and none waits longer than so long for others to come.

    submit ─▶ queue of bounded length ─▶ batch ─▶ one thread that runs the engine ─▶ answers, each to its caller

While the engine works, what arrives waits; a batch that is full, or whose first item has waited long enough, starts as
soon as the engine is free.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class QueueFullError(Exception):
    """There is no room for more items now."""


@dataclass(slots=True)
class _Job(Generic[Item, Answer]):
    item: Item
    answer: asyncio.Future[Answer]
    since: float


class Batcher(Generic[Item, Answer]):
    """Collects items into batches and runs them one batch after the other.

    Attributes:
        delay_s: seconds that an item waits at most for others; may be changed at any time.
        reserved: number of items that are on their way or wait.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Answer]],
        executor: Executor,
        *,
        most: int,
        delay_s: float,
        capacity: int,
        on_batch: Callable[[int, float], None] = lambda *_: None,
    ) -> None:
        """Prepare; ``start`` begins.

        Args:
            run: function that answers a batch, called in the executor, one call at a time.
            executor: executor of the engine's thread.
            most: number of items in a batch at most.
            delay_s: seconds that an item waits at most for others.
            capacity: number of items that are on their way or wait at most.
            on_batch: function that is given the number of items and the seconds of each batch.
        """
        self._run, self._executor, self._on_batch = run, executor, on_batch
        self._most, self.delay_s, self._capacity = most, delay_s, capacity
        self._jobs: deque[_Job[Item, Answer]] = deque()
        self._arrived = asyncio.Event()
        self._hurried = self._closing = False
        self._task: asyncio.Task[None] | None = None
        self.reserved = 0
        self._seconds_an_item = 0.0

    def start(self) -> None:
        """Begin to run batches, in the loop that runs now."""
        self._task = asyncio.create_task(self._work())

    def hurry(self) -> None:
        """From now on nothing waits for others, nor does what waits already."""
        self._hurried = True
        self._arrived.set()

    async def close(self) -> None:
        """Answer what is there, and end."""
        self._closing = True
        self.hurry()
        if self._task is not None:
            await self._task

    def reserve(self, count: int = 1) -> None:
        """Take room for items before they are ready.

        Raises:
            QueueFullError: there is no room for as many.
        """
        if self.reserved + count > self._capacity:
            raise QueueFullError
        self.reserved += count

    def release(self, count: int = 1) -> None:
        """Give room back for items that will not come."""
        self.reserved -= count

    def estimate_wait_s(self) -> float:
        """Seconds until what waits now will be done, as the last batches went."""
        return self.reserved * self._seconds_an_item

    async def submit(self, item: Item) -> Answer:
        """Wait for the answer to an item whose room was reserved, which is free again when its batch begins."""
        job: _Job[Item, Answer] = _Job(item, asyncio.get_running_loop().create_future(), time.monotonic())
        self._jobs.append(job)
        self._arrived.set()
        return await job.answer

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while jobs := await self._collect():
            self.release(len(jobs))
            started = time.monotonic()
            try:
                answers = await loop.run_in_executor(self._executor, self._run, [job.item for job in jobs])
                for job, answer in zip(jobs, answers, strict=True):
                    if not job.answer.done():  # whoever asked may have gone
                        job.answer.set_result(answer)
            except Exception as error:  # it belongs to those who asked; the next batch may fare better
                for job in jobs:
                    if not job.answer.done():
                        job.answer.set_exception(error)
            seconds = time.monotonic() - started
            self._seconds_an_item = seconds / len(jobs)
            self._on_batch(len(jobs), seconds)

    async def _collect(self) -> list[_Job[Item, Answer]]:
        """The next batch; empty when all is done."""
        while not self._jobs:
            if self._closing:
                return []
            self._arrived.clear()
            await self._arrived.wait()
        while len(self._jobs) < self._most and not self._hurried:
            # The delay may have been changed meanwhile.
            left = self._jobs[0].since + self.delay_s - time.monotonic()
            if left <= 0:
                break
            self._arrived.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), left)
        return [self._jobs.popleft() for _ in range(min(self._most, len(self._jobs)))]
