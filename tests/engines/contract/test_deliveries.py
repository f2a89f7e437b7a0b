"""Contract: a delivery is the caller's until it is settled, once, by whoever has it."""

from __future__ import annotations

import anyio
import pytest

from aiomanager import (
    NO_SENTINEL,
    ConfigurationError,
    DecodeError,
    Delivery,
    EncodeError,
    QueueFull,
    QueueShutDown,
)
from tests.engines.contract.foreign import Parcel, lose
from tests.engines.contract.states import assert_all_done, came, has
from tests.support.waiting import wait_until

pytestmark = pytest.mark.anyio


async def next_of(queue):
    """The next delivery."""
    with anyio.fail_after(5):
        return await anext(queue.deliveries())


async def test_ack(queue):
    """The item is done and gone."""
    await queue.put("item")
    delivery = await next_of(queue)
    assert delivery.item == "item"
    assert delivery.attempt == 1
    assert not delivery.redelivered
    assert not delivery.settled
    await delivery.ack()
    assert delivery.settled
    await assert_all_done(queue)


async def test_nack(queue, place):
    """The item is handed out again, before all others where that is promised, and says so."""
    await queue.put_many(["a", "b"])
    await (await next_of(queue)).nack()
    found = []
    for _ in range(2):
        delivery = await next_of(queue)
        found.append((delivery.item, delivery.attempt, delivery.redelivered))
        await delivery.ack()
    assert came(place, found, [("a", 2, True), ("b", 1, False)])
    await assert_all_done(queue)


async def test_nack_with_a_delay(queue):
    """The item waits, and others do not wait for it."""
    await queue.put_many(["a", "b"])
    start = anyio.current_time()
    await (await next_of(queue)).nack(delay=0.2)
    assert await queue.get(timeout=5) == "b"
    assert (await next_of(queue)).item == "a"
    assert anyio.current_time() - start >= 0.2


@pytest.mark.parametrize("delay", [-1, float("inf"), float("nan")])
async def test_a_delay_that_is_none(queue, delay):
    """It is refused, and the delivery is open still."""
    await queue.put("item")
    delivery = await next_of(queue)
    with pytest.raises(ConfigurationError, match="delay"):
        await delivery.nack(delay=delay)
    await delivery.ack()


async def test_a_delivery_as_a_context_manager(queue, place):
    """It acks where the block ends, and nacks where it raises."""
    await queue.put_many(["a", "b"])
    with pytest.raises(RuntimeError):
        async with await next_of(queue):
            raise RuntimeError
    found = []
    for _ in range(2):
        async with await next_of(queue) as delivery:
            found.append(delivery.item)
    assert came(place, found, ["a", "b"])
    await assert_all_done(queue)


async def test_a_delivery_that_its_block_has_settled(queue):
    """The end of the block adds nothing."""
    await queue.put("item")
    async with await next_of(queue) as delivery:
        await delivery.nack()
    async with await next_of(queue) as delivery:
        await delivery.ack()
    await assert_all_done(queue)


async def test_a_block_that_is_cancelled(queue):
    """It hands the item out again."""
    await queue.put("item")
    with anyio.CancelScope() as scope:
        async with await next_of(queue):
            scope.cancel()
            await anyio.sleep_forever()
    assert (await next_of(queue)).attempt == 2


async def test_a_nack_of_what_nobody_has_seen(queue, place):
    """It goes back to its place, and does not count as an attempt; there is no delay for it."""
    await queue.put_many(["a", "b"])
    delivery = await next_of(queue)
    with pytest.raises(ConfigurationError, match="without a delay"):
        await delivery.nack(delay=1, unseen=True)
    assert not delivery.settled
    await delivery.nack(unseen=True)
    found = []
    for _ in range(2):
        delivery = await next_of(queue)
        found.append((delivery.item, delivery.attempt))
        await delivery.ack()
    assert came(place, found, [("a", 1), ("b", 1)])
    await assert_all_done(queue)


async def test_settling_twice(queue):
    """It is a mistake, and says so."""
    await queue.put("item")
    delivery = await next_of(queue)
    await delivery.ack()
    for settle in (delivery.ack, delivery.nack):
        with pytest.raises(ConfigurationError, match="settled already, by ack"):
            await settle()


async def test_what_a_closed_client_has_not_settled(queue, place):
    """It goes to somebody else."""
    await queue.put("item")
    async with place.connect() as other:
        delivery = await next_of(other.queue(queue.name))
        assert delivery.item == "item"
    assert await queue.get(timeout=5) == "item"
    await queue.task_done()
    await assert_all_done(queue)


async def test_deliveries_end_at_a_sentinel(queue):
    """At the queue's own, at another, or at none."""
    await queue.put_many([1, "stop", None, None])
    async for delivery in queue.deliveries(sentinel="stop"):
        assert delivery.item == 1
        await delivery.ack()
    assert [delivery.item async for delivery in queue.deliveries()] == []
    assert (await anext(queue.deliveries(sentinel=NO_SENTINEL))).item is None


async def test_get_deliveries(queue):
    """Several at once, each to be settled for itself."""
    await queue.put_many(range(4))
    deliveries: list[Delivery[int]] = []
    while len(deliveries) < 4:
        deliveries += await queue.get_deliveries(10, timeout=5)
    assert [delivery.item for delivery in deliveries] == [0, 1, 2, 3]
    for delivery in deliveries:
        if delivery.item % 2:
            await delivery.nack()
        else:
            await delivery.ack()
    assert [await queue.get(timeout=5) for _ in range(2)] == [1, 3]


async def test_an_item_that_cannot_be_unpickled_here(queue):
    """The delivery can be looked at, and settled, all the same."""
    await queue.put(Parcel("for others"))
    with pytest.MonkeyPatch.context() as patch:
        lose(patch)
        delivery = await next_of(queue)
        with pytest.raises(DecodeError, match="Make its class importable"):
            _ = delivery.item
        assert b"for others" in delivery.data
        await delivery.nack()
    assert (await next_of(queue)).item == Parcel("for others")


# -- moving ---------------------------------------------------------------------------------------


async def test_move(queue, manager, place):
    """The item, or another in its place, is in the other queue, and done in this one."""
    target = manager.queue(place.host.name())
    await queue.put("item")
    delivery = await next_of(queue)
    await delivery.move(target, "moved")
    assert delivery.settled
    assert await target.get(timeout=5) == "moved"
    await assert_all_done(queue)


async def test_move_to_a_queue_of_another_client(queue, place):
    """Also of another host: the put comes first, so that the item is always somewhere."""
    await queue.put("item")
    async with place.connect() as other:
        target = other.queue(place.host.name())
        await (await next_of(queue)).move(target, "moved")
        assert await target.get(timeout=5) == "moved"
    await assert_all_done(queue)


async def test_move_to_a_full_queue(queue, manager, place):
    """One step finds room, so that a dead letter never waits; else it waits for room."""
    target = manager.queue(place.host.name(1))
    await target.put("first")
    await queue.put("item")
    delivery = await next_of(queue)
    async with anyio.create_task_group() as group:
        group.start_soon(delivery.move, target, "moved")
        if place.host.promises.atomic_move:
            await wait_until(lambda: has(target, 2), description="there was room")
        assert [await target.get(timeout=5) for _ in range(2)] == ["first", "moved"]
    await assert_all_done(queue)


async def test_a_move_that_cannot_be(queue, manager, place):
    """The delivery is open still, wherever it was to go."""
    shut_down = manager.queue(place.host.name())
    if place.host.can_shut_down:
        await shut_down.shutdown()
    await queue.put("item")
    async with await next_of(queue) as delivery:
        with pytest.raises(EncodeError):
            await delivery.move(manager.queue(place.host.name()), lambda: None)
        with pytest.raises(ConfigurationError, match="registered"):
            await delivery.move(manager.queue("nowhere"), "item")
        if place.host.can_shut_down:
            with pytest.raises(QueueShutDown):
                await delivery.move(shut_down, "item")
        assert not delivery.settled
        await delivery.nack()
    assert (await next_of(queue)).item == "item"


async def test_a_move_that_fails_hands_the_item_out_again(queue, manager):
    """Where nobody cares for the error, the block does."""
    await queue.put("item")
    with pytest.raises(ConfigurationError):
        async with await next_of(queue) as delivery:
            await delivery.move(manager.queue("nowhere"), "item")
    assert (await next_of(queue)).item == "item"


async def test_leased_items_make_room(small, place):
    """What is out for work does not count against the maxsize, or does, as it is promised; what
    returns is never refused."""
    await small.put_many([1, 2])
    delivery = await next_of(small)
    items = [1, 2]
    if place.host.promises.bound == "waiting":
        await small.put(3, timeout=5)
        items.append(3)
    with pytest.raises(QueueFull):
        await small.put_nowait(4)
    await delivery.nack()
    assert came(place, [await small.get(timeout=5) for _ in items], items)
