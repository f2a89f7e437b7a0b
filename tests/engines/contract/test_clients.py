"""Contract: what the clients of one host have in common, and what each takes along when it goes."""

from __future__ import annotations

from dataclasses import asdict

import anyio
import pytest

from aiomanager import ConfigurationError, ConnectionLostError, QueueEmpty
from aiomanager.engines.base import ALL_COUNTS
from tests.support.waiting import wait_until

pytestmark = pytest.mark.anyio


async def test_two_queues_of_one_manager(manager, place):
    """They have nothing in common."""
    first, second = manager.queue(place.host.name()), manager.queue(place.host.name())
    await first.put("first")
    await second.put("second")
    assert await second.get(timeout=5) == "second"
    assert await first.get(timeout=5) == "first"
    with pytest.raises(QueueEmpty):
        await second.get_nowait()


async def test_a_queue_is_one_object(manager, queue):
    """However often it is asked for."""
    assert manager.queue(queue.name) is queue
    assert queue.name in repr(queue)


async def test_two_clients_of_one_host(queue, place):
    """What one puts, the other gets."""
    async with place.connect() as other:
        await other.queue(queue.name).put("hello")
        assert await queue.get(timeout=5) == "hello"
        await queue.put("and back")
        assert await other.queue(queue.name).get(timeout=5) == "and back"


async def test_an_item_goes_to_one_client_only(queue, place):
    """However many wait for it."""
    got = []

    async def get(queue):
        got.append(await queue.get())

    async with place.connect() as other, anyio.create_task_group() as group:
        for waiting in [queue, other.queue(queue.name)] * 5:
            group.start_soon(get, waiting)
        await anyio.wait_all_tasks_blocked()
        await queue.put_many(range(10))
    assert sorted(got) == list(range(10))


async def test_what_came_for_nobody_goes_back_when_a_client_closes(queue, place):
    """Whoever had asked for it left, and so does the process; the item stays."""
    got = []
    async with place.connect() as other:
        with anyio.move_on_after(0.01):
            await other.queue(queue.name).get()
        await queue.put("item")
        with anyio.move_on_after(0.0):
            # What the call before has brought may be there sooner than the cancellation.
            got.append(await other.queue(queue.name).get())
    if not got:
        got.append(await queue.get(timeout=5))
    assert got == ["item"]
    await queue.task_done()
    with anyio.fail_after(5):
        await queue.join()


async def test_what_came_for_nobody_goes_back_while_a_client_lives(queue, place):
    """Another client does not wait for the first to end."""
    async with place.connect() as other:
        for _ in range(3):
            with anyio.move_on_after(0.001):
                await other.queue(queue.name).get()
        await queue.put("item")
        with anyio.fail_after(5):
            assert await queue.get() == "item"


async def test_what_came_for_nobody_goes_back_to_a_full_queue(place, manager):
    """It waits for room."""
    if place.host.promises.bound != "waiting":
        pytest.skip("what is leased keeps its room")
    queue = manager.queue(place.host.name(1))
    await queue.put("first")
    other = place.connect()
    await other.__aenter__()
    # This one has it, and nobody has seen it; meanwhile its place is taken.
    iterator = aiter(other.queue(queue.name))
    assert await anext(iterator) == "first"
    await queue.put("second")
    async with anyio.create_task_group() as group:
        group.start_soon(other.aclose)
        got = [await queue.get(timeout=5), await queue.get(timeout=5)]
    assert sorted(got) == ["first", "second"]


async def test_calls_that_wait_when_their_manager_closes(queue, small, place):
    """They raise, each of them; the host forgets them."""
    await queue.put("unfinished")
    await small.put_many([1, 2])
    raised = []

    async def wait(call):
        try:
            await call()
        except ConnectionLostError as exc:
            raised.append(exc)

    async with anyio.create_task_group() as group, place.connect() as other:
        theirs = other.queue(small.name)
        empty = other.queue(place.host.name())
        for call in (
            empty.get,
            lambda: empty.get(timeout=60),
            lambda: empty.get_many(3),
            lambda: theirs.put(3),
            lambda: theirs.put(3, timeout=60),
            other.queue(queue.name).join,
        ):
            group.start_soon(wait, call)
        await anyio.wait_all_tasks_blocked()
    assert len(raised) == 6
    if not place.host.is_stock:
        # Nothing of the puts has stayed behind; at a stock host a slice goes on to its end.
        assert [await small.get(), await small.get()] == [1, 2]
        with pytest.raises(QueueEmpty):
            await small.get(timeout=0.1)


async def test_calls_after_their_manager_has_closed(place):
    """They raise at once."""
    async with place.connect() as manager:
        queue = manager.queue(place.host.name())
        await queue.put("item")
    for call in (
        lambda: queue.put(1),
        lambda: queue.put_nowait(1),
        queue.get,
        queue.get_nowait,
        queue.task_done,
        queue.join,
        queue.qsize,
        queue.statistics,
    ):
        with pytest.raises(ConnectionLostError, match="closed"), anyio.fail_after(1):
            await call()
    with pytest.raises(ConfigurationError, match="async with"):
        manager.queue(queue.name)


async def test_a_manager_before_it_is_connected(place):
    """It has no queues yet."""
    with pytest.raises(ConfigurationError, match="async with"):
        place.connect().queue("jobs")


async def test_a_queue_that_is_closed_goes_on(queue):
    """To close a queue is to send what is on its way; its manager does so at the end."""
    await queue.put("item")
    await queue.aclose()
    assert await queue.get(timeout=5) == "item"


async def test_statistics(queue, place):
    """What the host counts, all that is promised and nothing else; a stock one counts nothing but
    items."""
    await queue.put_many(["a", "b", "c", "d"])
    assert await queue.get(timeout=5) == "a"
    await queue.task_done()
    deliveries = queue.deliveries()
    await (await anext(deliveries)).nack()
    delivery = await anext(deliveries)
    statistics = await queue.statistics()
    every = {
        "qsize": 2, "maxsize": 0, "unfinished": 3, "leased": 1, "delayed": 0, "waiting_getters": 0,
        "waiting_putters": 0, "puts": 4, "deliveries": 3, "redeliveries": 1, "done": 1,
        "is_shutdown": False,
    }  # fmt: skip
    counts = place.host.promises.counts
    assert asdict(statistics) == {
        name: count if name in counts else None for name, count in every.items()
    }
    assert every.keys() == ALL_COUNTS
    await delivery.ack()


async def test_statistics_of_those_who_wait(queue, small, place):
    """Where the host keeps them; a client that closes waits no more."""
    if not {"waiting_getters", "waiting_putters"} <= place.host.promises.counts:
        pytest.skip("this host does not tell")
    await small.put_many([1, 2])
    async with anyio.create_task_group() as group:
        async with place.connect() as other:
            for _ in range(3):
                group.start_soon(_quietly, other.queue(queue.name).get)
            group.start_soon(_quietly, lambda: other.queue(small.name).put(3))
            await wait_until(lambda: _waiting(queue, small, 3, 1), description="they wait")
        await wait_until(lambda: _waiting(queue, small, 0, 0), description="they wait no more")


async def _quietly(call):
    with pytest.raises(ConnectionLostError):
        await call()


async def _waiting(queue, small, getters, putters):
    waiting_getters = (await queue.statistics()).waiting_getters
    return (waiting_getters, (await small.statistics()).waiting_putters) == (getters, putters)


async def test_connecting_can_be_given_up(place):
    """A block that is cancelled while it connects leaves nothing behind."""
    for patience in (0.0, 0.0005, 0.002):
        with anyio.move_on_after(patience):
            async with place.connect():
                pass
