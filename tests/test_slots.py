import threading
import time
from functools import partial

import numpy as np
import pytest
from simulated_cuda import SimulatedRuntime

from engines.engine import split_batch
from engines.memory import Stream
from engines.slots import Slot, Steps, run_ahead


def make_steps(note, wait=lambda slot, part: None):
    def fill(slot, part):
        note("fill", slot, part)
        return lambda: wait(slot, part)

    return Steps(fill=fill, **{step: partial(note, step) for step in ("send", "compute", "finish")})


@pytest.mark.parametrize(
    ("behind", "expected"),
    [
        (0, "fA0 fB1 sA0 cA0 fC2 sB1 cB1 rA0 fA3 sC2 cC2 sA3 cA3 rB1 rC2 rA3"),
        (1, "fA0 fB1 sA0 fC2 sB1 cA0 rA0 fA3 sC2 cB1 sA3 cC2 cA3 rB1 rC2 rA3"),
    ],
)
def test_the_order_of_steps_with_three_slots(behind, expected):
    steps = []
    letters = {"fill": "f", "send": "s", "compute": "c", "finish": "r"}
    note = lambda step, slot, part: steps.append(f"{letters[step]}{slot}{part.start}")  # noqa: E731
    run_ahead(split_batch(4, 1, 1), "ABC", make_steps(note), ahead=1, behind=behind)
    assert " ".join(steps) == expected


@pytest.mark.parametrize("pictures", [1, 2, 3, 4, 7, 12])
@pytest.mark.parametrize(("slots", "ahead", "behind"), [(1, 0, 0), (2, 1, 0), (3, 1, 1), (5, 2, 0), (3, 2, 0)])
def test_every_part_goes_through_all_steps_in_order_and_a_slot_holds_one_at_a_time(pictures, slots, ahead, behind):
    holding, filled, done = {}, set(), {"send": [], "compute": [], "finish": []}

    def note(step, slot, part):
        if step == "fill":
            assert slot not in holding
            holding[slot] = part
            assert len(holding) - len(filled & set(holding.values())) <= ahead + 1
            return
        assert holding[slot] is part
        assert part in filled
        done[step].append(part.start)
        assert done["compute"] == done["send"][: len(done["compute"])]
        if step == "finish":
            assert part.start in done["compute"]
            del holding[slot]

    steps = make_steps(note, lambda slot, part: filled.add(part))
    run_ahead(split_batch(pictures, 1, 1), range(slots), steps, ahead=ahead, behind=behind)
    assert list(done.values()) == [list(range(pictures))] * 3
    assert holding == {}


def test_after_a_failure_nobody_still_fills_a_slot():
    waited = []

    def note(step, slot, part):
        if step == "send":
            raise RuntimeError("no GPU")

    steps = make_steps(note, lambda slot, part: waited.append(part.start))
    with pytest.raises(RuntimeError, match="no GPU"):
        run_ahead(split_batch(9, 1, 1), range(5), steps, ahead=2)
    assert waited == [0, 1, 2]


def make_slot(runtime, on_free=lambda _: None):
    return Slot(runtime, 4, 4, on_free), Stream(runtime), Stream(runtime), Stream(runtime)


def fill(slot, pixels):
    np.copyto(slot.view(pixels), pixels)


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
    fill(slot, np.array([1, 2, 3, 4], np.uint8))
    slot.send(4, incoming)
    fill(slot, np.array([9, 9, 9, 9], np.uint8))  # waits for the copy of 1, 2, 3, 4, which has not begun
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
    fill(slot, np.array([1, 2, 3, 4], np.uint8))
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
    fill(slot, pixels)
    slot.send(64, incoming)
    incoming.synchronize()
    import ctypes

    found = np.ctypeslib.as_array((ctypes.c_uint8 * 64).from_address(slot.image.address)).view(np.float32)
    assert found.tolist() == pixels.ravel().tolist()
