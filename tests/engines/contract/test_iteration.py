"""Contract: `async for item in queue` leases each item until the loop asks for the next."""

from __future__ import annotations

import itertools

import anyio
import pytest

from aiomanager import NO_SENTINEL, DecodeError
from tests.engines.contract.foreign import Parcel, lose
from tests.engines.contract.states import assert_all_done, came
from tests.support.waiting import wait_until

pytestmark = pytest.mark.anyio


async def test_iteration_ends_at_none(queue):
    """The sentinel ends the loop, is not given to its body, and is done."""
    await queue.put_many([1, 2, None])
    assert [item async for item in queue] == [1, 2]
    await assert_all_done(queue)


async def test_another_sentinel(manager, place):
    """Any value may be the one that ends the loop; None is an item like others then."""
    queue = manager.queue(place.host.name(), sentinel="stop")
    await queue.put_many([1, None, "stop"])
    assert [item async for item in queue] == [1, None]
    await assert_all_done(queue)


async def test_no_sentinel(manager, place):
    """With NO_SENTINEL no item ends the loop."""
    queue = manager.queue(place.host.name(), sentinel=NO_SENTINEL)
    await queue.put_many([None, "last"])
    seen = []
    async for item in queue:
        seen.append(item)
        if item == "last":
            await queue.task_done()
            break
    assert seen == [None, "last"]
    await assert_all_done(queue)


class NeverEqual:
    """Refuses to be compared, as arrays do."""

    def __eq__(self, other):
        raise ValueError("which element?")

    __hash__ = None  # type: ignore[assignment]


async def test_what_is_no_sentinel(manager, place):
    """An item of another type is not even compared: 0 is not False, and some refuse it."""
    queue = manager.queue(place.host.name(), sentinel=False)
    await queue.put_many([0, "", NeverEqual(), None, False])
    assert len([item async for item in queue]) == 4


async def test_an_item_is_done_when_the_next_is_asked_for(queue):
    """Until then `join` waits for it."""
    await queue.put_many(["a", "b"])
    iterator = aiter(queue)
    assert await anext(iterator) == "a"
    assert await anext(iterator) == "b"
    joined = anyio.Event()

    async def join():
        await queue.join()
        joined.set()

    async with anyio.create_task_group() as group:
        group.start_soon(join)
        await anyio.wait_all_tasks_blocked()
        assert not joined.is_set()
        await queue.put(None)
        with pytest.raises(StopAsyncIteration):
            await anext(iterator)


async def test_an_iteration_that_has_ended_stays_so(queue):
    """To ask again takes nothing."""
    await queue.put_many([None, "later"])
    iterator = aiter(queue)
    for _ in range(2):
        with pytest.raises(StopAsyncIteration):
            await anext(iterator)
    assert await queue.get(timeout=5) == "later"


async def test_break_hands_the_item_out_again(queue, place):
    """Before all others, where that is promised."""
    await queue.put_many([1, 2, 3])
    async for item in queue:
        if item == 2:
            break
    assert came(place, [await queue.get(timeout=5) for _ in range(2)], [2, 3])


async def test_an_error_in_the_body_hands_the_item_out_again(queue, place):
    """As for a break."""
    await queue.put_many(["a", "b"])

    async def work():
        async for item in queue:
            raise RuntimeError(item)

    with pytest.raises(RuntimeError, match="a"):
        await work()
    assert came(place, [await queue.get(timeout=5) for _ in range(2)], ["a", "b"])


async def test_a_body_that_is_cancelled_hands_the_item_out_again(queue, place):
    """As for a break."""
    await queue.put_many(["a", "b"])
    with anyio.CancelScope() as scope:
        async for _ in queue:
            scope.cancel()
            await anyio.sleep_forever()
    assert came(place, [await queue.get(timeout=5) for _ in range(2)], ["a", "b"])


async def test_task_done_before_a_break(queue):
    """It says that the item of this loop was done."""
    await queue.put_many(["a", "b"])
    async for _ in queue:
        await queue.task_done()
        break
    assert await queue.get(timeout=5) == "b"
    await queue.task_done()
    await assert_all_done(queue)


async def test_task_done_in_the_body_counts_once(queue):
    """The loop does not say again what the body has said."""
    await queue.put_many([1, 2, 3, None])
    async for _ in queue:
        await queue.task_done()
    await assert_all_done(queue)
    with pytest.raises(ValueError, match="too many times"):
        await queue.task_done()


async def test_loops_share_the_items_and_each_ends_at_its_own_sentinel(queue):
    """One sentinel for each loop, as in the standard library's idiom."""
    seen = []

    async def work():
        seen.extend([item async for item in queue])

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(work)
            await queue.put_many([*range(10), None, None, None])
    assert sorted(seen) == list(range(10))
    await assert_all_done(queue)


async def test_a_cancelled_anext_loses_nothing(queue, place):
    """Neither the item that was on its way, nor the done of the one before."""
    iterator = aiter(queue)
    seen: list[int] = []

    async def put_slowly():
        for number in range(30):
            await queue.put(number)
        if place.host.promises.redelivered == "last":
            # The sentinel would come before what was given back.
            await wait_until(lambda: len(seen) == 30, description="all were seen")
        await queue.put(None)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(put_slowly)
            for attempt in itertools.count():
                # Mostly in the first turns of the event loop; and now and then so late that an
                # answer comes first, however busy the machine is.
                with anyio.move_on_after(0.5 if attempt % 10 == 9 else attempt % 10 * 0.0003):
                    try:
                        seen.append(await anext(iterator))
                    except StopAsyncIteration:
                        break
    assert sorted(seen) == list(range(30))
    await assert_all_done(queue)


async def test_an_item_that_cannot_be_unpickled_here(queue, place):
    """The loop ends with the error, and the item is for somebody who can."""
    await queue.put(Parcel("for others"))
    with pytest.MonkeyPatch.context() as patch:
        lose(patch)
        with pytest.raises(DecodeError, match="Make its class importable"):
            async for _ in queue:
                pass
    assert await queue.get(timeout=5) == Parcel("for others")


async def test_a_quick_loop_that_prefetches(place):
    """It gets every item once and in order, up to the sentinel; what stands behind that is for
    others."""
    name = place.host.name()
    async with place.connect() as manager:
        queue = manager.queue(name, prefetch=32)
        await queue.put_many([*range(500), None, "behind"])
        assert [item async for item in queue] == list(range(500))
        assert await queue.get(timeout=5) == "behind"
        await queue.task_done()
        await queue.join()


async def test_what_a_loop_holds_ahead_goes_back(place):
    """Others get it while the loop works on an item for long, and when it has ended."""
    name = place.host.name()
    async with place.connect() as manager, place.connect() as other:
        queue, theirs = manager.queue(name, prefetch=32), other.queue(name)
        await queue.put_many(range(200))
        seen: list[int] = []
        got: list[int] = []
        async for item in queue:
            seen.append(item)
            if item == 20:
                while len(got) < 179:  # all but those that were seen
                    got += await theirs.get_many(200, timeout=5)
                await queue.task_done()
                break
        assert seen == list(range(21))
        assert sorted(got) == list(range(21, 200))
        for _ in got:
            await theirs.task_done()
        await queue.join()
