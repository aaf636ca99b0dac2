import pytest
from simulated_cuda import SimulatedRuntime

from engines.cuda_graphs import CaptureError, GraphCache, GraphKey, capture_graph
from engines.memory import Stream


def key(number, image=0x1000, logit=0x2000):
    return GraphKey((number, 256, 256, 3), image, logit)


@pytest.fixture
def discarded():
    return []


def make_cache(discarded, largest=3):
    return GraphCache(largest, discarded.append)


def test_a_graph_is_due_at_the_second_use_and_found_from_then_on(discarded):
    cache = make_cache(discarded)
    assert cache.find(key(1)) is None
    assert not cache.is_due(key(1))
    assert cache.is_due(key(1))
    cache.put(key(1), "one")
    assert cache.find(key(1)) == "one"
    assert cache.find(key(2)) is None
    assert discarded == []


def test_shape_and_both_addresses_tell_graphs_apart(discarded):
    cache = make_cache(discarded)
    cache.put(key(1), "one")
    assert cache.find(key(1, image=0x1001)) is None
    assert cache.find(key(1, logit=0x2001)) is None
    assert cache.find(GraphKey((1, 128, 512, 3), 0x1000, 0x2000)) is None


def test_the_least_recently_used_graph_makes_room(discarded):
    cache = make_cache(discarded)
    for number in (1, 2, 3):
        cache.put(key(number), number)
    cache.find(key(1))
    cache.put(key(4), 4)
    assert discarded == [2]
    assert [cache.find(key(number)) for number in (1, 2, 3, 4)] == [1, None, 3, 4]
    assert len(cache) == 3


def test_a_graph_that_is_replaced_is_discarded(discarded):
    cache = make_cache(discarded)
    cache.put(key(1), "old")
    cache.put(key(1), "new")
    assert discarded == ["old"]
    assert cache.find(key(1)) == "new"


def test_more_sizes_in_turn_than_are_kept_are_never_captured(discarded):
    cache = make_cache(discarded)
    assert not any(cache.is_due(key(number)) for _ in range(3) for number in range(4))


def test_an_evicted_size_is_captured_again_at_its_second_use(discarded):
    cache = make_cache(discarded, largest=1)
    cache.put(key(1), 1)
    cache.put(key(2), 2)
    assert discarded == [1]
    assert not cache.is_due(key(1))
    assert cache.is_due(key(1))


def test_graphs_that_point_into_freed_memory_are_dropped_and_no_others(discarded):
    cache = make_cache(discarded, largest=9)
    # Memory from 0x1000 up to, but not including, 0x1100.
    for number, image, logit in [(1, 0x1000, 0), (2, 0x10FF, 0), (3, 0, 0x1080), (4, 0x1100, 0), (5, 0xFFF, 0)]:
        cache.put(key(number, image, logit), number)
    cache.is_due(key(6, 0x1010, 0))
    cache.is_due(key(7, 0x1100, 0))
    cache.drop_pointing_into(0x1000, 0x100)
    assert sorted(discarded) == [1, 2, 3]
    assert len(cache) == 2
    # What is seen at an address that was freed is not the same buffer.
    assert not cache.is_due(key(6, 0x1010, 0))
    assert cache.is_due(key(7, 0x1100, 0))


def test_clear_discards_everything_once(discarded):
    cache = make_cache(discarded)
    cache.put(key(1), 1)
    cache.put(key(2), 2)
    cache.clear()
    cache.clear()
    assert sorted(discarded) == [1, 2]
    assert len(cache) == 0


def test_captured_work_runs_when_it_is_launched_and_not_before():
    runtime, done = SimulatedRuntime(), []
    stream = Stream(runtime)
    graph = capture_graph(
        runtime, stream, lambda: runtime.streams[stream.handle].put(lambda: done.append(1)) or True, 0
    )
    stream.synchronize()
    assert done == []
    graph.launch(stream)
    graph.launch(stream)
    stream.synchronize()
    assert done == [1, 1]
    graph.close()
    assert runtime.graphs == {}


@pytest.mark.parametrize(
    ("can_capture", "queued", "words"), [(False, True, "CUDA error 901"), (True, False, "refuses to run")]
)
def test_a_failed_capture_leaves_the_stream_usable(can_capture, queued, words):
    runtime, done = SimulatedRuntime(can_capture=can_capture), []
    stream = Stream(runtime)
    with pytest.raises(CaptureError, match=words):
        capture_graph(runtime, stream, lambda: queued, 0)
    runtime.streams[stream.handle].put(lambda: done.append(1))
    stream.synchronize()
    assert done == [1]


def test_work_that_fails_while_it_is_captured_ends_the_capture():
    runtime = SimulatedRuntime()
    stream = Stream(runtime)
    with pytest.raises(ZeroDivisionError):
        capture_graph(runtime, stream, lambda: bool(1 / 0), 0)
    stream.synchronize()  # the simulated stream refuses this while it is captured
