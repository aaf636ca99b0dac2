from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from lfm_deploy.errors import ShapeError
from training.batches import count_steps, draw_order, read_epoch

LABELS = np.repeat([0, 1], [5, 12]).astype(np.int64)


class Numbers:
    """Pictures whose pixels are their number and a draw."""

    labels = LABELS
    unreadable: dict[str, str] = {}  # noqa: RUF012  # never written to

    def read(self, index, rng):
        return np.array([[[index, rng.integers(256), 0]]], dtype=np.uint8)


def read_all(workers=0, rows=slice(0, 4), **changes):
    settings = {"batch": 4, "rows": rows, "seed": 3, "epoch": 0, "first_step": 0} | changes
    if not workers:
        return list(read_epoch(Numbers(), pool=None, **settings))
    with ThreadPoolExecutor(workers) as pool:
        return list(read_epoch(Numbers(), pool=pool, **settings))


def pixels(batches):
    return np.concatenate([batch.images for batch in batches])[:, 0, 0]


def test_both_classes_are_drawn_equally_often_and_the_larger_one_whole():
    order = draw_order(LABELS, 0, 0)
    counts = np.bincount(order, minlength=17)
    assert (counts[5:] == 1).all()
    # 12 draws of 5 pictures: each twice, two of them once more.
    assert sorted(counts[:5]) == [2, 2, 2, 3, 3]
    others = [draw_order(LABELS, *numbers) for numbers in ((0, 1), (1, 0))]
    assert not any((order == other).all() for other in others)
    assert (order == draw_order(LABELS, 0, 0)).all()


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_batches_do_not_depend_on_the_number_of_workers(workers):
    expected, found = read_all(), read_all(workers)
    assert len(expected) == count_steps(LABELS, 4) == 6
    for one, other in zip(expected, found, strict=True):
        assert (one.images == other.images).all()
        assert (one.labels == other.labels).all()
        assert (one.indices == other.indices).all()
        assert (one.images[:, 0, 0, 0] == one.indices).all()
        assert (LABELS[one.indices] == one.labels).all()


def test_an_epoch_can_be_gone_on_with_at_any_step():
    whole = pixels(read_all())
    for first in range(7):
        rest = read_all(2, first_step=first)
        assert (pixels(rest) == whole[4 * first :]).all() if rest else first == 6


def test_processes_read_the_rows_of_one_batch():
    whole = pixels(read_all()).reshape(6, 4, 3)
    parts = [pixels(read_all(rows=rows)).reshape(6, 2, 3) for rows in (slice(0, 2), slice(2, 4))]
    assert (np.concatenate(parts, axis=1) == whole).all()


def test_draws_differ_between_pictures_and_epochs():
    first, second = pixels(read_all()), pixels(read_all(epoch=1))
    # 24 draws of 256 values: all equal to one another, or to those of the next epoch, only if they were not drawn.
    assert len(set(first[:, 1])) > 10
    assert (first[:, 1] != second[:, 1]).sum() > 10


def test_too_few_pictures():
    with pytest.raises(ShapeError, match="0 real and 3 fake"):
        count_steps(np.ones(3, dtype=np.int64), 2)
    with pytest.raises(ShapeError, match="a batch of 64 or more"):
        count_steps(LABELS, 64)
