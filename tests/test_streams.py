import threading

import numpy as np
import pytest

from engines.streams import StreamPool


class Runner:
    """Doubles numbers; remembers the sizes of what it ran."""

    def __init__(self, barrier=None):
        self.sizes, self.barrier = [], barrier

    def __call__(self, pixels):
        self.sizes.append(len(pixels))
        if self.barrier is not None:
            self.barrier.wait(timeout=30)
        return [pixels * 2, pixels + 1]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 29])
@pytest.mark.parametrize("streams", [0, 1, 3])
def test_results_come_in_order_whatever_the_pieces(count, streams):
    wide, narrow = Runner(), [Runner() for _ in range(streams)]
    pool = StreamPool(wide, narrow, piece=3)
    pixels = np.arange(count)
    doubled, next_one = pool.run(pixels)
    pool.close()
    assert doubled.tolist() == (pixels * 2).tolist()
    assert next_one.tolist() == (pixels + 1).tolist()
    sizes = wide.sizes + [size for runner in narrow for size in runner.sizes]
    assert max(sizes) <= 3
    assert sum(sizes) == count


def test_streams_run_beside_each_other():
    barrier = threading.Barrier(2)  # breaks if one piece ends before the other starts
    wide, narrow = Runner(), [Runner(barrier), Runner(barrier)]
    pool = StreamPool(wide, narrow, piece=1)
    assert pool.run(np.arange(4))[0].tolist() == [0, 2, 4, 6]
    assert not wide.sizes
    pool.close()


def test_fewer_pieces_than_streams_go_to_the_one_with_all_threads():
    wide, narrow = Runner(), [Runner(), Runner()]
    pool = StreamPool(wide, narrow, piece=8)
    pool.run(np.arange(8))
    assert wide.sizes == [8]
    assert not any(runner.sizes for runner in narrow)
    pool.close()


def test_where_none_has_all_threads_a_small_batch_is_cut_finer():
    barrier = threading.Barrier(3)  # breaks unless three pieces run at the same time
    narrow = [Runner(barrier) for _ in range(3)]
    pool = StreamPool(None, narrow, piece=4)
    (doubled, _) = pool.run(np.arange(3))
    assert doubled.tolist() == [0, 2, 4]
    assert [size for runner in narrow for size in runner.sizes] == [1, 1, 1]
    barrier.reset()
    alone = Runner()
    assert StreamPool(None, [alone], piece=4).run(np.arange(9))[0].tolist() == list(range(0, 18, 2))
    assert max(alone.sizes) <= 4
    pool.close()


def test_an_error_in_a_stream_reaches_the_caller_and_the_pool_goes_on():
    def fail(pixels):
        if 3 in pixels:
            raise ValueError("three")
        return [pixels]

    pool = StreamPool(fail, [fail, fail], piece=1)
    with pytest.raises(ValueError, match="three"):
        pool.run(np.arange(5))
    assert pool.run(np.arange(3))[0].tolist() == [0, 1, 2]
    pool.close()
