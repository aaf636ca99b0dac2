"""Batches of training pictures, read ahead by threads; what is in them depends on seed, epoch and position alone."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lfm_deploy.errors import ShapeError
from training.data import TrainingPictures

# The first of the numbers that a generator is seeded with, so that no two purposes share their draws.
_ORDER, _PICTURE = 0, 1
_AHEAD = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Pictures of one step, or this process's share of them.

    Attributes:
        images: uint8 ``(N, S, S, 3)``.
        labels: int64 ``(N,)``; 0 is real, 1 is fake.
        indices: int64 ``(N,)``; numbers of the pictures in the training data.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    indices: NDArray[np.int64]


def draw_order(labels: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.int64]:
    """The pictures of one epoch in random order, as many real ones as fake ones.

    Every picture of the larger class comes once; those of the smaller one are repeated evenly, and which of them come
    once more is drawn anew in each epoch.

    Args:
        labels: integers ``(N,)``; 0 is real, 1 is fake.
        seed: seed of the recipe.
        epoch: number of the epoch, from 0.
    """
    rng = np.random.default_rng([_ORDER, seed, epoch])
    classes = [np.flatnonzero(labels == label) for label in (0, 1)]
    size = max(len(members) for members in classes)
    drawn = []
    for members in classes:
        rounds, rest = divmod(size, len(members))
        drawn += [np.tile(members, rounds), rng.permutation(members)[:rest]]
    return rng.permutation(np.concatenate(drawn))


def count_steps(labels: NDArray[np.int64], batch: int) -> int:
    """Steps of an epoch; what is less than a batch at its end is left out, as each epoch leaves out others.

    Raises:
        ShapeError: a class has no picture, or there are too few for one batch.
    """
    counts = [int((labels == label).sum()) for label in (0, 1)]
    if not all(counts) or 2 * max(counts) < batch:
        raise ShapeError(
            f"got {counts[0]} real and {counts[1]} fake pictures, expected both, and a batch of {batch} or more"
        )
    return 2 * max(counts) // batch


def read_epoch(
    pictures: TrainingPictures,
    *,
    batch: int,
    rows: slice,
    seed: int,
    epoch: int,
    first_step: int,
    pool: ThreadPoolExecutor | None,
) -> Iterator[Batch]:
    """The batches of one epoch.

    Args:
        pictures: training pictures to read.
        batch: pictures in a step, over all processes.
        rows: rows of each batch that belong to this process.
        seed: seed of the recipe.
        epoch: number of the epoch, from 0.
        first_step: number of the first step to read, from 0; steps before it were done already.
        pool: threads that read ahead; None reads when it is asked.
    """
    order = draw_order(pictures.labels, seed, epoch)
    steps = count_steps(pictures.labels, batch)
    waiting: deque[tuple[NDArray[np.int64], list[Future[NDArray[np.uint8]]]]] = deque()

    def read(position: int) -> NDArray[np.uint8]:
        return pictures.read(int(order[position]), np.random.default_rng([_PICTURE, seed, epoch, position]))

    try:
        for step in range(first_step, steps):
            positions = range(step * batch, (step + 1) * batch)[rows]
            if pool is None:
                yield _collect(pictures, order[list(positions)], [read(position) for position in positions])
                continue
            waiting.append((order[list(positions)], [pool.submit(read, position) for position in positions]))
            if len(waiting) > _AHEAD:
                indices, futures = waiting.popleft()
                yield _collect(pictures, indices, [future.result() for future in futures])
        for indices, futures in waiting:
            yield _collect(pictures, indices, [future.result() for future in futures])
    finally:
        for _, futures in waiting:
            for future in futures:
                future.cancel()


def _collect(pictures: TrainingPictures, indices: NDArray[np.int64], images: list[NDArray[np.uint8]]) -> Batch:
    return Batch(images=np.stack(images), labels=pictures.labels[indices], indices=indices)
