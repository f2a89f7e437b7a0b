"""Contract: whoever gives up, in whatever way and at whatever instant, has taken nothing and
keeps nobody from anything; nothing is lost, and nothing comes twice."""

from __future__ import annotations

import collections
import math
from functools import partial
from typing import Any

import anyio
import pytest

from aiomanager import AsyncQueue, QueueFull
from tests.engines.contract.giving_up import GAVE_UP, Impatience
from tests.engines.contract.hosts import Place
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

TASKS = 50
# Seconds, on a machine that is very busy with something else.
DEADLINE = 110.0


@pytest.fixture(
    scope="module",
    params=[("asyncio", {}), ("asyncio", {"use_uvloop": True}), ("trio", {})],
    ids=["asyncio", "asyncio+uvloop", "trio"],
)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Without asyncio's debug mode, in which a turn takes longer than these tasks wait."""
    if request.param[1]:
        pytest.importorskip("uvloop")
    return request.param


@pytest.fixture
def impatience(request: pytest.FixtureRequest, anyio_backend_name: str) -> Impatience:
    """Gives up calls in all the ways of the event loop."""
    return Impatience(anyio_backend_name, request.node.name)


async def produce(
    queue: AsyncQueue[int],
    count: int,
    impatience: Impatience,
    at_once: int = 20,
    seconds: float = math.inf,
) -> int:
    """Put numbers, a few at a time, so that others wait for them, and return how many."""
    number = 0
    end = anyio.current_time() + seconds
    while number < count and anyio.current_time() < end:
        few = min(impatience.chance.randint(1, at_once), count - number)
        await queue.put_many(range(number, number + few))
        number += few
        await anyio.sleep(impatience.chance.uniform(0, 0.002))
    return number


async def assert_settled(queue: AsyncQueue[Any]) -> None:
    """Nothing is in the queue, nothing is out, nothing was kept back."""
    with anyio.fail_after(10):
        await queue.join()
    assert await queue.qsize() == 0


async def test_gets_that_give_up(place: Place, impatience: Impatience):
    """Many tasks get and give up while thousands of items arrive: 0 lost, 0 doubled."""
    count = 5000
    got: list[int] = []
    all_put = False
    async with place.connect() as manager, place.connect() as other:
        queue = manager.queue(place.host.name())

        async def get() -> None:
            while not all_put:
                item = await impatience.call(queue.get)
                if item is GAVE_UP:
                    # Or else nothing but giving up would get a turn of the event loop.
                    await anyio.sleep(impatience.chance.uniform(0, 0.01))
                else:
                    got.append(item)

        with anyio.move_on_after(DEADLINE):
            async with anyio.create_task_group() as group:
                for _ in range(TASKS):
                    group.start_soon(get)
                # On a busy machine a get takes longer than their patience, and few get anything.
                count = await produce(
                    other.queue(queue.name), count, impatience, at_once=100, seconds=DEADLINE / 4
                )
                all_put = True
            # Somebody who does not give up gets the rest.
            while len(got) < count:
                got += await queue.get_many(count)
        times = collections.Counter(got)
        lost = [number for number in range(count) if not times[number]]
        doubled = [number for number in times if times[number] > 1]
        assert (lost, doubled) == ([], []), f"after {impatience.given_up} that gave up"
        assert impatience.given_up > TASKS
        assert await queue.qsize() == 0


async def test_order_of_gets_that_give_up(place: Place, impatience: Impatience):
    """What somebody has not taken stands where it stood, where that is promised; else nothing is
    lost, at least."""
    count = 300
    got: list[int] = []
    async with place.connect() as manager, place.connect() as other:
        queue = manager.queue(place.host.name())
        with anyio.fail_after(DEADLINE):
            async with anyio.create_task_group() as group:
                group.start_soon(produce, other.queue(queue.name), count, impatience)
                while len(got) < count:
                    item = await impatience.call(queue.get)
                    if item is not GAVE_UP:
                        got.append(item)
    in_order = place.host.promises.redelivered == "first"
    assert (got if in_order else sorted(got)) == list(range(count))


async def test_iterations_that_give_up(place: Place, impatience: Impatience):
    """Several tasks iterate, and give up while they wait for the next item. Each item is seen
    once, and done."""
    count = 500
    seen: list[int] = []
    async with place.connect() as manager:
        queue = manager.queue(place.host.name())

        async def iterate() -> None:
            iterator = aiter(queue)

            async def following() -> Any:
                return await anext(iterator, None)

            while (item := await impatience.call(following)) is not None:
                if item is not GAVE_UP:
                    seen.append(item)

        with anyio.fail_after(DEADLINE):
            async with anyio.create_task_group() as group:
                for _ in range(5):
                    group.start_soon(iterate)
                await produce(queue, count, impatience)
                # A stock host may bring a sentinel before an item that somebody gave back.
                await wait_until(lambda: len(seen) >= count, description="all were seen")
                await queue.put_many([None] * 5)
        assert sorted(seen) == list(range(count))
        await assert_settled(queue)


async def test_puts_that_give_up(place: Place, impatience: Impatience):
    """Many tasks put to a queue that is mostly full, and give up. Each item is there once at most,
    and is there where the put has returned."""
    count = 1000
    put: set[int] = set()
    got: list[int] = []
    numbers = iter(range(count))
    async with place.connect() as manager, place.connect() as other:
        queue = manager.queue(place.host.name(3))

        async def put_some() -> None:
            for number in numbers:
                if await impatience.call(partial(queue.put, number)) is not GAVE_UP:
                    put.add(number)

        async def get_all() -> None:
            while (item := await other.queue(queue.name).get()) is not None:
                got.append(item)

        with anyio.fail_after(DEADLINE):
            async with anyio.create_task_group() as group:
                group.start_soon(get_all)
                async with anyio.create_task_group() as putters:
                    for _ in range(TASKS):
                        putters.start_soon(put_some)
                await queue.put(None)
        # What was still on its way when it was given up may come behind the end.
        while rest := await _soon(queue):
            got += rest
    assert len(got) == len(set(got)), "none is there twice"
    assert put <= set(got), "none that was put is missing"
    assert len(put) < count, "some gave up"


async def _soon(queue: AsyncQueue[Any]) -> list[Any]:
    """What comes within a moment."""
    with anyio.move_on_after(0.2):
        return [await queue.get()]
    return []


async def test_settling_that_gives_up(place: Place, impatience: Impatience):
    """Every item is settled by somebody who does not wait to hear of it. What was asked for
    happens all the same."""
    async with place.connect() as manager:
        queue = manager.queue(place.host.name())
        await queue.put_many(range(60))
        nacked = set()
        async with anyio.create_task_group() as group:
            for _ in range(20):
                await queue.get(timeout=5)
                group.start_soon(impatience.begin, queue.task_done)
            for _ in range(20):
                [delivery] = await queue.get_deliveries(1)
                group.start_soon(impatience.begin, delivery.ack)
            for _ in range(20):
                [delivery] = await queue.get_deliveries(1)
                nacked.add(delivery.item)
                # By and by, so that none of them comes twice here.
                group.start_soon(impatience.begin, partial(delivery.nack, delay=0.5))
        with anyio.fail_after(10):
            assert {await queue.get() for _ in range(20)} == nacked
        for _ in range(20):
            await queue.task_done()
        await assert_settled(queue)


@pytest.mark.may_block(reason="the test looks at the host's process")
async def test_joins_that_give_up(place: Place, impatience: Impatience):
    """They change nothing, and do not pile up at the host."""
    process = place.host.process
    async with place.connect() as manager:
        queue = manager.queue(place.host.name())
        await queue.put("item")
        await queue.get(timeout=5)
        threads = process.num_threads() if process else 0
        async with anyio.create_task_group() as group:
            for _ in range(TASKS):
                group.start_soon(impatience.call, queue.join)
        if process:
            assert process.num_threads() <= threads + 3
        await queue.task_done()
        await assert_settled(queue)


async def test_a_task_that_is_cancelled_again_and_again(place: Place, impatience: Impatience):
    """Scopes inside scopes, with puts, gets and settlements in each: the books balance."""
    patience, chance = impatience.patience, impatience.chance
    async with place.connect() as manager:
        queue = manager.queue(place.host.name(3))

        async def step() -> None:
            with anyio.move_on_after(patience()):
                async with (await queue.get_deliveries(1))[0] as delivery:
                    await anyio.sleep(patience())
                    if chance.random() < 0.5:
                        await delivery.nack()
            with anyio.move_on_after(patience()):
                await queue.put(chance.random())

        with anyio.fail_after(DEADLINE):
            for _ in range(100):
                with anyio.move_on_after(patience()):
                    await step()
            # Nobody holds anything any more: all of it can be got, and then all is done.
            while await _soon(queue):
                await queue.task_done()
            try:
                await queue.put_nowait("room")
            except QueueFull:
                pytest.fail("somebody keeps room that he does not use")
            await queue.get(timeout=5)
            await queue.task_done()
        await assert_settled(queue)
