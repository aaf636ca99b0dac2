import numpy as np
import pytest

from calib.pictures import PictureStore, hash_pixels


@pytest.fixture
def store():
    with PictureStore() as pictures:
        yield pictures


def picture(seed, height=6, width=4):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_batches_give_back_what_was_put_in_in_the_order_asked_for(store):
    for seed in range(7):
        store.add(picture(seed))
    batches = list(store.batches([6, 0, 3, 3, 5], size=2))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert np.array_equal(np.concatenate(batches), np.stack([picture(seed) for seed in (6, 0, 3, 3, 5)]))
    assert len(store) == 7


def test_a_batch_ends_where_the_size_changes(store):
    for shape in ((6, 4), (6, 4), (4, 6), (6, 4)):
        store.add(picture(0, *shape))
    assert [batch.shape[:3] for batch in store.batches(range(4))] == [(2, 6, 4), (1, 4, 6), (1, 6, 4)]


def test_pixels_are_kept_on_disk_and_not_in_memory(store):
    import tracemalloc

    tracemalloc.start()
    for _ in range(200):
        store.add(np.zeros((128, 128, 3), np.uint8))
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held < 128 * 128 * 3 * 4  # less than four of 200 pictures: a file buffer and 200 places


def test_the_hash_knows_pixels_and_shape():
    flat = picture(0)
    assert hash_pixels(flat) == hash_pixels(flat.copy())
    assert hash_pixels(flat) != hash_pixels(picture(1))
    assert hash_pixels(flat) != hash_pixels(flat.reshape(4, 6, 3))  # the same bytes
    assert hash_pixels(flat[:, ::-1]) == hash_pixels(np.ascontiguousarray(flat[:, ::-1]))
