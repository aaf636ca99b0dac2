import ctypes
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from simulated_cuda import SimulatedRuntime

from engines.batch_parts import split_exactly, split_into_powers
from engines.conveyor import Conveyor, Lanes, count_bytes
from engines.engine import BatchSlice, normalise_pixels, split_batch
from engines.memory import CudaError, DeviceBuffer, Stream, view_device_array
from lfm_deploy.artifacts import InputForm

LANES = [Lanes(slots=3), Lanes(slots=5, ahead=2), Lanes(slots=3, behind=1)]


class Belt:
    """A conveyor on the simulated device; a picture's logit is the sum of its values."""

    def __init__(self, lanes=LANES[0], **device):
        self.runtime = SimulatedRuntime(**device)
        self.stream = Stream(self.runtime)
        self.conveyor = Conveyor(self.runtime, 0, self.stream, lanes, room=1, largest_batch=64)
        self.waits, self.ran = lanes.behind > 0, []

    def run(self, shape, dtype=np.uint8):
        """What queues a part, or waits for it where the conveyor is told so."""

        def run(slot, part, address):
            self.ran.append(part)
            nbytes = part.run_as * int(np.prod(shape)) * np.dtype(dtype).itemsize

            def compute():
                assert self.runtime.owns("device", address, nbytes)
                assert self.runtime.owns("device", slot.logit.address, part.run_as * 4)
                memory = (ctypes.c_uint8 * nbytes).from_address(address)
                pixels = np.ctypeslib.as_array(memory).view(dtype).reshape(part.run_as, -1)
                logits = pixels.sum(axis=1, dtype=np.float32)
                ctypes.memmove(slot.logit.address, logits.ctypes.data, logits.nbytes)

            self.runtime.streams[self.stream.handle].put(compute)
            if self.waits:
                self.stream.synchronize()

        return run


def make_pictures(count, side=4):
    return np.random.default_rng(count).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def sums(pixels):
    return pixels.reshape(len(pixels), -1).sum(axis=1, dtype=np.float32)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("count", [1, 7, 8, 9, 41])
def test_every_picture_gets_its_logit_in_order(lanes, count):
    belt = Belt(lanes, copy_seconds=0.001)
    for turn in range(3):
        images = make_pictures(count + turn)[turn:]
        found = belt.conveyor.judge(images, split_into_powers(count, 8), belt.run((4, 4, 3)))
        np.testing.assert_array_equal(found, sums(images))
    assert belt.runtime.failures == []


@pytest.mark.parametrize("threads", [1, 4])
def test_pictures_that_several_threads_copy_arrive_whole(threads, monkeypatch):
    monkeypatch.setattr("engines.copying.count_cores", lambda: threads)
    belt = Belt(copy_seconds=0.001)
    images = make_pictures(22, 512)[::2]  # 8 MiB, not contiguous
    assert belt.conveyor.threads == threads
    found = belt.conveyor.judge(images, split_batch(11, 1, 4), belt.run((512, 512, 3)))
    np.testing.assert_array_equal(found, sums(images))
    belt.conveyor.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("lfm-copy")]


def test_an_engine_that_takes_floats_gets_normalised_pictures():
    belt, images = Belt(), make_pictures(5)
    run = belt.run((3, 4, 4), np.float32)
    found = belt.conveyor.judge(images, split_batch(5, 1, 2), run, InputForm.FLOAT)
    np.testing.assert_allclose(found, sums(normalise_pixels(images)), rtol=0, atol=1e-4)  # sums of 48 in two orders
    assert (count_bytes((4, 4, 3), InputForm.UINT8), count_bytes((3, 4, 4), InputForm.FLOAT)) == (48, 192)


def test_batches_and_sizes_may_grow_and_shrink():
    belt = Belt()
    for count, side in ((2, 4), (8, 16), (3, 4), (8, 2), (16, 16)):
        images = make_pictures(count, side)
        found = belt.conveyor.judge(images, split_into_powers(count, 4), belt.run((side, side, 3)))
        np.testing.assert_array_equal(found, sums(images))
    assert belt.runtime.failures == []


def test_pictures_on_the_device_are_read_where_they_lie():
    belt, images = Belt(), make_pictures(13)
    there = DeviceBuffer(belt.runtime, images.nbytes)
    np.ctypeslib.as_array(belt.runtime.memory[there.address][2])[:] = images.reshape(-1)
    shown = {"shape": images.shape, "typestr": "|u1", "data": (there.address, False), "version": 3, "stream": None}
    array = view_device_array(SimpleNamespace(__cuda_array_interface__=shown))
    held = belt.runtime.held
    found = belt.conveyor.judge_there(array, split_exactly(13, 4), belt.run((4, 4, 3)))
    np.testing.assert_array_equal(found, sums(images))
    assert belt.runtime.held == held
    assert [part.count for part in belt.ran] == [4, 4, 4, 1]


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("failing", [0, 2, 4])
def test_after_a_failure_nothing_runs_and_the_next_pictures_are_judged_rightly(lanes, failing):
    belt, images = Belt(lanes, copy_seconds=0.002), make_pictures(20)
    run = belt.run((4, 4, 3))

    def fail_once(slot, part, address):
        if len(belt.ran) == failing:
            belt.ran.append(part)
            raise CudaError("a launch that failed")
        run(slot, part, address)

    with pytest.raises(CudaError, match="a launch that failed"):
        belt.conveyor.judge(images, split_batch(20, 1, 4), fail_once)
    assert [stream.tasks.unfinished_tasks for stream in belt.runtime.streams.values()] == [0, 0, 0]
    np.testing.assert_array_equal(belt.conveyor.judge(images[::-1], split_batch(20, 1, 4), run), sums(images[::-1]))


def test_where_computing_keeps_the_thread_the_next_pictures_are_on_their_way_before_it_begins():
    belt, images = Belt(LANES[2]), make_pictures(12)
    sent, run, before = [], belt.run((4, 4, 3)), []
    for slot in belt.conveyor.slots:
        send = slot.send
        slot.send = lambda nbytes, stream, send=send: (sent.append(nbytes), send(nbytes, stream))
    belt.conveyor.judge(
        images, split_batch(12, 1, 4), lambda slot, part, at: (before.append(len(sent)), run(slot, part, at))
    )
    assert before == [2, 3, 3]


def test_phases_are_timed_apart_and_closing_gives_everything_back():
    belt, images = Belt(copy_seconds=0.002), make_pictures(3)
    times = belt.conveyor.time_phases(images, BatchSlice(0, 3, 4), belt.run((4, 4, 3)))
    assert (times.host_to_device_ms, times.device_to_host_ms) == pytest.approx((2, 2))  # by the device's own clock
    assert times.compute_ms == 0  # the simulated work does not move that clock
    belt.conveyor.close()
    belt.stream.close()
    assert (belt.runtime.memory, belt.runtime.events, belt.runtime.streams) == ({}, {}, {})


def test_after_too_little_memory_smaller_batches_run_and_all_is_given_back():
    belt, large, small = Belt(total=1 << 15), make_pictures(16, 64), make_pictures(16)
    for _ in range(2):
        with pytest.raises(CudaError, match="allocating"):
            belt.conveyor.judge(large, split_batch(16, 1, 4), belt.run((64, 64, 3)))
        found = belt.conveyor.judge(small, split_batch(16, 1, 4), belt.run((4, 4, 3)))
        np.testing.assert_array_equal(found, sums(small))
    with pytest.raises(CudaError, match="allocating"):
        belt.conveyor.judge(large, split_batch(16, 1, 4), belt.run((64, 64, 3)))
    belt.conveyor.close()
    assert belt.runtime.memory == {}
