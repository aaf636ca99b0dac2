import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from simulated_cuda import SimulatedRuntime

from engines.cpu_settings import default_settings
from engines.engine import BatchSlice, split_batch
from engines.memory import Stream
from engines.ort import OrtEngine
from engines.slots import Slot, run_ahead, take_turns
from lfm_deploy.pictures.photographs import sample_tiles


def test_the_order_of_steps_with_two_slots():
    steps = []

    def note(step):
        return lambda slot, part: steps.append((step, slot, part.start))

    take_turns(split_batch(4, 1, 1), "AB", note("fill"), note("start"), note("finish"))
    assert steps == [
        ("fill", "A", 0),
        ("start", "A", 0),
        ("fill", "B", 1),
        ("start", "B", 1),
        ("fill", "A", 2),
        ("finish", "A", 0),
        ("start", "A", 2),
        ("fill", "B", 3),
        ("finish", "B", 1),
        ("start", "B", 3),
        ("finish", "A", 2),
        ("finish", "B", 3),
    ]


@pytest.mark.parametrize("pictures", [1, 2, 3, 7, 8])
@pytest.mark.parametrize("slots", [1, 2, 3])
def test_every_part_is_finished_once_in_order_and_a_slot_holds_one_at_a_time(pictures, slots):
    finished, holding = [], {}

    def start(slot, part):
        assert slot not in holding
        holding[slot] = part

    def finish(slot, part):
        assert holding.pop(slot) is part
        finished.append(part.start)

    take_turns(split_batch(pictures, 1, 1), range(slots), lambda *_: None, start, finish)
    assert finished == list(range(pictures))
    assert holding == {}


@pytest.mark.parametrize("pictures", [1, 2, 3, 7, 12])
@pytest.mark.parametrize(("slots", "ahead"), [(2, 1), (5, 2), (3, 2)])
def test_filling_ahead_keeps_the_order_and_a_slot_holds_one_part_at_a_time(pictures, slots, ahead):
    holding, filled, finished = {}, set(), []

    def fill(slot, part):
        assert slot not in holding
        holding[slot] = part
        assert len(holding) - len(filled & set(holding.values())) <= ahead + 1
        return lambda: filled.add(part)

    def start(slot, part):
        assert holding[slot] is part
        assert part in filled

    def finish(slot, part):
        assert holding.pop(slot) is part
        finished.append(part.start)

    run_ahead(split_batch(pictures, 1, 1), range(slots), ahead, fill, start, finish)
    assert finished == list(range(pictures))
    assert holding == {}


def test_after_a_failure_nobody_still_fills_a_slot():
    waited = []

    def fail(slot, part):
        raise RuntimeError("no GPU")

    with pytest.raises(RuntimeError, match="no GPU"):
        run_ahead(split_batch(9, 1, 1), range(5), 2, lambda slot, part: lambda: waited.append(part.start), fail, fail)
    assert waited == [0, 1, 2]


def test_a_real_engine_behind_slots_gives_the_same_logits(small_graph):
    """Slots of a CPU: a thread computes what the other one has filled."""
    engine, images = OrtEngine(small_graph, settings=default_settings(1)), sample_tiles(256, 256, 9)
    result = np.empty(9, np.float32)
    places = [{"pixels": np.empty((2, 256, 256, 3), np.uint8)} for _ in range(2)]
    with ThreadPoolExecutor(1) as worker:

        def fill(place, part):
            if "logits" in place:  # as a slot waits for its copy
                place["logits"].result()
            place["pixels"][: part.count] = images[part.start : part.start + part.count]

        def start(place, part):
            place["logits"] = worker.submit(lambda: engine.logits(place["pixels"][: part.count]))

        def finish(place, part):
            result[part.start : part.start + part.count] = place["logits"].result()

        take_turns(split_batch(9, 1, 2), places, fill, start, finish)
    # The parts are of other sizes, so float32 sums may run in another order.
    np.testing.assert_allclose(result, engine.logits(images), rtol=0, atol=1e-4)


def make_slot(runtime, on_free=lambda _: None):
    return Slot(runtime, 4, 4, on_free), Stream(runtime), Stream(runtime), Stream(runtime)


def double(runtime, slot, stream):
    """Queue logits = 2 x pixels."""
    import ctypes

    def compute():
        pixels = np.ctypeslib.as_array((ctypes.c_uint8 * 4).from_address(slot.image.address))
        logits = pixels.astype(np.float32) * 2
        ctypes.memmove(slot.logit.address, logits.ctypes.data, 16)

    runtime.streams[stream.handle].put(compute)


def test_pinned_memory_is_not_rewritten_before_its_copy_is_done():
    runtime = SimulatedRuntime(copy_seconds=0.02)
    slot, incoming, computing, outgoing = make_slot(runtime)
    result = np.empty(4, np.float32)
    slot.fill(np.array([1, 2, 3, 4], np.uint8))
    slot.send(4, incoming)
    slot.fill(np.array([9, 9, 9, 9], np.uint8))  # waits for the copy of 1, 2, 3, 4, which has not begun
    slot.compute(lambda: double(runtime, slot, computing), computing)
    slot.fetch(4, outgoing)
    slot.collect(result)
    assert result.tolist() == [2, 4, 6, 8]
    assert runtime.failures == []


def test_computing_waits_for_the_pixels_and_the_copy_back_waits_for_the_logits():
    runtime = SimulatedRuntime(copy_seconds=0.02)
    slot, incoming, computing, outgoing = make_slot(runtime)
    blocked = threading.Event()
    runtime.streams[incoming.handle].put(blocked.wait)  # nothing arrives until it is let through
    slot.fill(np.array([1, 2, 3, 4], np.uint8))
    slot.send(4, incoming)
    slot.compute(lambda: double(runtime, slot, computing), computing)
    slot.fetch(4, outgoing)
    time.sleep(0.02)
    blocked.set()
    result = np.empty(3, np.float32)  # logits of filling stay behind
    slot.collect(result)
    assert result.tolist() == [2, 4, 6]


def test_memory_grows_after_a_word_to_those_who_point_into_it_and_never_shrinks():
    freed = []
    slot, *_ = make_slot(SimulatedRuntime(), lambda buffer: freed.append((buffer.address, buffer.nbytes)))
    first = slot.image.address
    slot.reserve(4)
    assert freed == []
    slot.reserve(64)
    assert freed == [(first, 4)]
    assert slot.image.nbytes == 64
    slot.reserve(8)
    assert slot.image.nbytes == 64


def test_closing_frees_everything():
    runtime, freed = SimulatedRuntime(), []
    slot, *_ = make_slot(runtime, freed.append)
    image, logit = slot.image, slot.logit
    slot.close()
    assert freed == [image, logit]
    assert (runtime.memory, runtime.events) == ({}, {})


def test_pixels_of_any_layout_and_dtype_are_taken():
    runtime = SimulatedRuntime()
    slot, incoming, *_ = make_slot(runtime)
    slot.reserve(64)
    pixels = np.arange(32, dtype=np.float32).reshape(4, 8)[:, ::2]
    slot.fill(pixels)
    slot.send(64, incoming)
    incoming.synchronize()
    import ctypes

    found = np.ctypeslib.as_array((ctypes.c_uint8 * 64).from_address(slot.image.address)).view(np.float32)
    assert found.tolist() == pixels.ravel().tolist()


def test_one_part_takes_one_slot():
    steps = []
    part = BatchSlice(0, 3, 3)
    take_turns([part], "AB", lambda s, p: steps.append(s), lambda s, p: steps.append(s), lambda s, p: steps.append(s))
    assert steps == ["A", "A", "A"]
