"""Contract: what an engine promises beside the rest is so."""

from __future__ import annotations

import uuid

import anyio
import pytest

from aiomanager import ConnectionLostError, LeaseLostError
from aiomanager._queue.inside import inside
from aiomanager.engines.base import Ticket
from tests.engines.contract.hosts import WITHOUT_PROCESS
from tests.engines.contract.states import assert_all_done
from tests.engines.contract.test_deliveries import next_of

pytestmark = pytest.mark.anyio


async def test_what_a_client_that_is_gone_had_leased(place, queue):
    """It goes to somebody else, who sees that it was handed out before."""
    if place.host.promises.lease == "none":
        pytest.skip("nobody else ever gets it")
    async with place.connect() as other:
        await queue.put("item")
        await next_of(other.queue(queue.name))
        place.lose(other)
        delivery = await next_of(queue)
        assert (delivery.item, delivery.attempt) == ("item", 2)
        await delivery.ack()
    await assert_all_done(queue)


async def test_a_settlement_that_comes_too_late(place, queue):
    """It is refused, and takes nothing from the one who has the item now."""
    if not place.host.promises.fencing:
        pytest.skip("this host cannot tell")
    async with place.connect() as other:
        await queue.put("item")
        late = await next_of(other.queue(queue.name))
        place.lose(other)
        delivery = await next_of(queue)
        with pytest.raises((LeaseLostError, ConnectionLostError)):
            await late.ack()
        await delivery.nack()
        delivery = await next_of(queue)
        assert (delivery.item, delivery.attempt) == ("item", 3)
        await delivery.ack()
    await assert_all_done(queue)


async def test_a_put_that_is_sent_twice(place, queue):
    """It is put once, and has the same outcome both times. Where nothing lies between this process
    and the queue, no put is sent twice."""
    engine = inside(queue).here().engine
    if not place.host.promises.put_once or engine.patience is None:
        pytest.skip("not promised, or not needed")
    ticket = Ticket(uuid.uuid4().hex, "put", 1000)
    frame = inside(queue).here().encode("item")
    for _ in range(2):
        assert await engine.put([frame], 0, ticket).wait() == (1, None)
    assert await queue.get(timeout=5) == "item"
    await queue.task_done()
    await assert_all_done(queue)


async def test_what_was_acknowledged_is_there_again(place):
    """When all clients have gone, and others come."""
    if not place.host.promises.durable:
        pytest.skip("its queues are in memory")
    assert place.host.kind in WITHOUT_PROCESS, "restart the host here"
    name = place.host.name()
    async with place.connect() as manager:
        queue = manager.queue(name)
        await queue.put_many(["a", "b", "c"])
        assert await queue.get(timeout=5) == "a"
        await queue.task_done()
    async with place.connect() as manager:
        queue = manager.queue(name)
        with anyio.fail_after(5):
            assert [await queue.get(), await queue.get()] == ["b", "c"]
        await queue.task_done()
        await queue.task_done()
        await assert_all_done(queue)
