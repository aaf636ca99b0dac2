import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from own_loop import run_apart

from lfm_deploy.serving.batching import Batcher, QueueFullError


def run(test, **options):
    """Run a test against a batcher whose engine doubles numbers; gives the batches that the engine saw."""
    batches = []

    def double(items):
        batches.append(list(items))
        if any(item < 0 for item in items):
            raise ValueError("a negative number")
        return [2 * item for item in items]

    async def main():
        with ThreadPoolExecutor(1) as thread:
            batcher = Batcher(double, thread, **({"most": 4, "delay_s": 0.0, "capacity": 100} | options))
            batcher.start()
            await test(batcher)
            await batcher.close()
            assert batcher.reserved == 0

    run_apart(main())
    return batches


async def ask(batcher, items):
    batcher.reserve(len(items))
    return await asyncio.gather(*(batcher.submit(item) for item in items))


def test_each_caller_gets_its_own_answer_and_batches_are_full():
    async def test(batcher):
        assert await ask(batcher, range(10)) == [2 * item for item in range(10)]

    assert run(test, delay_s=0.5) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_a_full_batch_does_not_wait():
    async def test(batcher):
        await asyncio.wait_for(ask(batcher, range(4)), 30)

    assert run(test, delay_s=3600.0) == [[0, 1, 2, 3]]


def test_the_end_does_not_wait_either():
    async def test(batcher):
        batcher.reserve(2)
        waiting = [asyncio.create_task(batcher.submit(item)) for item in (1, 2)]
        await asyncio.sleep(0)
        await asyncio.wait_for(batcher.close(), 30)
        assert await asyncio.gather(*waiting) == [2, 4]

    assert run(test, delay_s=3600.0) == [[1, 2]]


@pytest.mark.parametrize("way", ["hurry", "shorten"])
def test_what_waits_already_need_not_wait_on(way):
    """As when a service is asked to end: others may still come, and wait no more."""

    async def test(batcher):
        batcher.reserve(2)
        waiting = [asyncio.create_task(batcher.submit(item)) for item in (1, 2)]
        while batcher._arrived.is_set() or not batcher._jobs:
            await asyncio.sleep(0)  # until it waits for others
        if way == "hurry":
            batcher.hurry()
        else:
            batcher.delay_s = 0.0
            batcher._arrived.set()  # as when another item arrives
        assert await asyncio.wait_for(asyncio.gather(*waiting), 30) == [2, 4]
        assert await asyncio.wait_for(ask(batcher, [3]), 30) == [6]

    assert run(test, delay_s=3600.0) == [[1, 2], [3]]


def test_what_arrives_while_the_engine_works_is_the_next_batch():
    began, go_on = threading.Event(), threading.Event()
    batches = []

    def work(items):
        batches.append(list(items))
        began.set()
        assert go_on.wait(30)
        return items

    async def main():
        with ThreadPoolExecutor(1) as thread:
            batcher = Batcher(work, thread, most=4, delay_s=0.0, capacity=100)
            batcher.start()
            first = asyncio.create_task(ask(batcher, [1]))
            await asyncio.get_running_loop().run_in_executor(None, began.wait, 30)
            others = [asyncio.create_task(ask(batcher, [item])) for item in (2, 3, 4)]
            await asyncio.sleep(0)
            go_on.set()
            assert await asyncio.gather(first, *others) == [[1], [2], [3], [4]]
            await batcher.close()

    run_apart(main())
    assert batches == [[1], [2, 3, 4]]


def test_an_error_belongs_to_its_batch_alone():
    async def test(batcher):
        bad, good = await asyncio.gather(ask(batcher, [1, 2, -3, 4]), ask(batcher, [5]), return_exceptions=True)
        assert str(bad) == "a negative number"
        assert good == [10]

    assert run(test, delay_s=0.5) == [[1, 2, -3, 4], [5]]


def test_one_who_went_away_takes_no_answer_from_others():
    async def test(batcher):
        batcher.reserve(2)
        gone, stays = (asyncio.create_task(batcher.submit(item)) for item in (1, 2))
        await asyncio.sleep(0)
        gone.cancel()
        assert await stays == 4

    run(test, delay_s=0.5)


def test_room_is_bounded_and_given_back():
    async def test(batcher):
        batcher.reserve(3)
        with pytest.raises(QueueFullError):
            batcher.reserve(1)
        batcher.release(3)
        assert await ask(batcher, [1, 2, 3]) == [2, 4, 6]
        batcher.reserve(3)
        batcher.release(3)

    run(test, capacity=3)


def test_the_wait_is_estimated_from_what_was_seen():
    async def test(batcher):
        assert batcher.estimate_wait_s() == 0
        await ask(batcher, [1])
        batcher.reserve(10)
        assert batcher.estimate_wait_s() > 0
        batcher.release(10)

    run(test)
