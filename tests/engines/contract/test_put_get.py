"""Contract: what is put is got, whole, once, and in order."""

from __future__ import annotations

import asyncio
import queue as stdlib

import anyio
import anyio.lowlevel
import pytest

from aiomanager import ConfigurationError, DecodeError, QueueEmpty
from tests.engines.contract.foreign import Parcel, lose
from tests.engines.contract.states import came, has
from tests.support.waiting import wait_until, while_busy

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "item",
    [1, "text", b"bytes", None, {"a": [1, (2, 3)]}, Parcel("goods"), b"x" * 300_000],
    ids=lambda item: type(item).__name__ + ("" if item is None or len(repr(item)) < 99 else "+"),
)
async def test_an_item_arrives_as_it_was_put(queue, item):
    """Whatever can be pickled, large or small, None included."""
    await queue.put(item)
    assert await queue.get(timeout=5) == item


async def test_items_come_in_the_order_of_their_puts(queue):
    """First in, first out."""
    for number in range(20):
        await queue.put(number)
    assert [await queue.get(timeout=5) for _ in range(20)] == list(range(20))


async def test_get_waits_for_a_put(queue):
    """A get on an empty queue returns when there is something."""
    async with anyio.create_task_group() as group:

        async def put_later():
            await anyio.wait_all_tasks_blocked()
            await queue.put("late")

        group.start_soon(put_later)
        assert await queue.get() == "late"


async def test_get_nowait_on_an_empty_queue(queue):
    """It raises at once, what a caller of asyncio's or the standard library's queues expects."""
    for call in (queue.get_nowait, lambda: queue.get(False), lambda: queue.get(timeout=0)):
        with pytest.raises(QueueEmpty) as caught:
            await call()
        assert isinstance(caught.value, (asyncio.QueueEmpty, stdlib.Empty))


async def test_get_nowait_on_a_queue_with_items(queue, place):
    """It takes what is there."""
    await queue.put_many(["a", "b"])
    # A multiprocessing queue counts an item before its feeder thread has written it.
    assert await wait_until(lambda: _at_once(queue.get_nowait), description="the first") == "a"
    assert (
        await wait_until(lambda: _at_once(lambda: queue.get(block=False)), description="b") == "b"
    )


async def _at_once(get):
    try:
        return await get()
    except QueueEmpty:
        return None


async def test_get_nowait_by_many_at_once(queue):
    """Each item goes to one of them, and the others hear that there is none."""
    await queue.put_many(range(5))
    await wait_until(lambda: has(queue, 5), description="the items are in")
    got = []

    async def get():
        try:
            got.append(await queue.get_nowait())
        except QueueEmpty:
            got.append(None)

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(get)
    here = [item for item in got if item is not None]
    # What the feeder thread of a multiprocessing queue had not written yet was nobody's.
    here += [await queue.get(timeout=5) for _ in range(5 - len(here))]
    assert sorted(here) == [0, 1, 2, 3, 4]
    assert got.count(None) >= 3


async def test_get_gives_up_after_its_timeout(queue):
    """Not before, and not much later."""
    start = anyio.current_time()
    with pytest.raises(QueueEmpty):
        await queue.get(timeout=0.1)
    assert 0.09 < anyio.current_time() - start < while_busy(1)


async def test_a_get_that_gave_up_takes_nothing(queue):
    """What comes afterwards is for whoever asks next."""
    with pytest.raises(QueueEmpty):
        await queue.get(timeout=0.01)
    await queue.put("next")
    assert await queue.get(timeout=5) == "next"


@pytest.mark.parametrize("timeout", [-1, float("nan")])
async def test_a_timeout_that_is_none(queue, timeout):
    """It is refused as the standard library does; without waiting it does not matter."""
    with pytest.raises(ValueError, match="non-negative"):
        await queue.get(timeout=timeout)
    with pytest.raises(ValueError, match="non-negative"):
        await queue.put(1, timeout=timeout)
    with pytest.raises(QueueEmpty):
        await queue.get(False, timeout)


@pytest.mark.parametrize("timeout", [1e12, float("inf")])
async def test_a_timeout_of_any_length(queue, timeout):
    """A very long time is like for ever."""
    async with anyio.create_task_group() as group:

        async def put_later():
            await anyio.wait_all_tasks_blocked()
            await queue.put("late", timeout=timeout)

        group.start_soon(put_later)
        assert await queue.get(timeout=timeout) == "late"


async def test_waiting_gets_are_served_in_the_order_of_their_coming(queue):
    """First come, first served."""
    got = {}

    async def get(number):
        got[number] = await queue.get()

    async with anyio.create_task_group() as group:
        for number in range(10):
            group.start_soon(get, number)
            await anyio.wait_all_tasks_blocked()
        for item in range(10):
            await queue.put(item)
    assert got == {number: number for number in range(10)}


async def test_waiting_gets_hold_up_nobody(queue, manager, place):
    """With a hundred gets waiting, all other calls run."""
    other = manager.queue(place.host.name())
    got = []

    async def get():
        got.append(await queue.get())

    async with anyio.create_task_group() as group:
        for _ in range(100):
            group.start_soon(get)
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(5):
            await other.put(1)
            assert await other.get() == 1
            assert await queue.qsize() == 0
            await queue.put_many(range(100))
    assert sorted(got) == list(range(100))


async def test_put_many_and_get_many(queue, place):
    """Many items in few messages, in order, from any iterable."""
    count = 300 if place.host.is_stock else 1500  # more than go in one message
    await queue.put_many(number for number in range(count))
    got: list[int] = []
    while len(got) < count:
        some = await queue.get_many(count // 2, timeout=5)
        assert 1 <= len(some) <= count // 2
        got += some
    assert got == list(range(count))


async def test_put_many_of_nothing(queue):
    """It is no call at all."""
    await queue.put_many([])
    assert await queue.qsize() == 0


async def test_put_many_of_large_items(queue):
    """They need not fit into one message."""
    items = [bytes([number]) * 300_000 for number in range(5)]
    await queue.put_many(items)
    assert [await queue.get(timeout=5) for _ in items] == items


async def test_get_many_waits_for_the_first_item(queue):
    """And not for more than that."""
    async with anyio.create_task_group() as group:

        async def put_later():
            await anyio.wait_all_tasks_blocked()
            await queue.put("only")

        group.start_soon(put_later)
        assert await queue.get_many(10) == ["only"]
    with pytest.raises(QueueEmpty):
        await queue.get_many(10, timeout=0.01)


async def test_get_many_brings_what_can_be_unpickled_here(queue, place):
    """Up to the first item that cannot, which is for somebody who can."""
    await queue.put_many(["a", "b", Parcel("for others"), "c"])
    got: list[object] = []
    with pytest.MonkeyPatch.context() as patch:
        lose(patch)
        while len(got) < 2:
            got += await queue.get_many(9, timeout=5)
        with pytest.raises(DecodeError, match="Make its class importable"):
            await queue.get_many(9, timeout=5)
    while len(got) < 4:
        got += await queue.get_many(9, timeout=5)
    assert came(place, got, ["a", "b", Parcel("for others"), "c"])


async def test_a_cancelled_get_many_takes_nothing(queue, place):
    """Whenever that happens, and in front of an item that cannot be unpickled too."""
    await queue.put_many(["a", Parcel("for others")])
    got: list[object] = []
    with pytest.MonkeyPatch.context() as patch:
        lose(patch)

        async def get():
            got.extend(await queue.get_many(2))

        for turns in range(25):
            async with anyio.create_task_group() as group:
                if not got:
                    group.start_soon(get)
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
    while len(got) < 2:
        got += await queue.get_many(2, timeout=5)
    assert came(place, got, ["a", Parcel("for others")])


async def test_get_many_of_less_than_one(queue):
    """It is a mistake, and says so."""
    with pytest.raises(ConfigurationError, match="1 or more"):
        await queue.get_many(0)


async def test_looking_at_a_queue(queue, place):
    """Its size, and whether it is empty or full."""
    assert await queue.qsize() == 0
    assert await queue.empty()
    assert not await queue.full()
    await queue.put_many([1, 2, 3])
    assert await queue.qsize() == 3
    await wait_until(lambda: _is_filled(queue), description="it is not empty")
    assert not await queue.full()


async def _is_filled(queue):
    return not await queue.empty()


async def test_maxsize(manager, place):
    """A stock host does not tell. Where an engine has no bound, it is 0, whatever was wanted."""
    for maxsize in (0, 2):
        queue = manager.queue(place.host.name(maxsize))
        if "maxsize" in place.host.promises.counts:
            assert await queue.maxsize() == maxsize
        elif place.host.promises.bound is None:
            assert await queue.maxsize() == 0
        else:
            with pytest.raises(ConfigurationError, match="does not tell its maxsize"):
                await queue.maxsize()
