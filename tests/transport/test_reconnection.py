"""What a client of ours does while its host, or the wire to it, is away.

The hosts are processes, the kills are kills, and the wire is a relay that loses what it is told to
lose.
"""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest

import aiomanager
from tests.support.faults import KEY, Relay, RestartableHost
from tests.support.hosts import session_of
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.may_block(reason="the tests start processes")]


async def test_a_host_that_is_shut_down_tells_its_clients(
    host: RestartableHost, transport: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Their logs can tell that from a crash. Another may come in its place, so they wait for it."""
    async with aiomanager.connect(host.path, KEY, transport=transport) as manager:
        queue = manager.queue("jobs")
        async with anyio.create_task_group() as group:
            group.start_soon(queue.get)
            await wait_until(lambda: waiting(queue), description="the get waits at the host")
            await manager.shutdown()
            await wait_until(
                lambda: "the host was shut down" in caplog.text, description="the client knows it"
            )
            assert host.process is not None
            host.process.wait(20)
            host.start()
            await queue.put("after")


async def test_a_waiting_get_is_served_by_the_restarted_host(
    host: RestartableHost, transport: Any
) -> None:
    """A get that waited when its host was killed receives what is put after the restart."""
    received: list[str] = []
    async with aiomanager.connect(host.path, KEY, transport=transport) as manager:
        queue = manager.queue("jobs")

        async def getter() -> None:
            received.append(await queue.get())

        async with anyio.create_task_group() as group:
            group.start_soon(getter)
            await wait_until(lambda: waiting(queue), description="the get waits at the host")
            host.restart()
            await queue.put("after")
    assert received == ["after"]


async def waiting(queue: aiomanager.AsyncQueue[object]) -> bool:
    """Whether a get waits at the host."""
    return bool((await queue.statistics()).waiting_getters)


async def test_an_iteration_goes_on_after_a_restart(host: RestartableHost, transport: Any) -> None:
    """`async for` over a queue survives its host and ends at the sentinel."""
    seen: list[int] = []
    async with aiomanager.connect(host.path, KEY, transport=transport) as manager:
        queue = manager.queue("jobs")

        async def iterate() -> None:
            async for item in queue:
                seen.append(item)

        async with anyio.create_task_group() as group:
            group.start_soon(iterate)
            await queue.put(1)
            await wait_until(lambda: seen == [1], description="the first item came")
            host.restart()
            await queue.put_many([2, None])
        assert seen == [1, 2]
        assert (await queue.statistics()).unfinished == 0


async def test_consumers_go_on_after_a_restart(host: RestartableHost) -> None:
    """`consume` survives its host."""
    seen: list[int] = []
    async with aiomanager.connect(host.path, KEY) as manager:
        queue = manager.queue("jobs")

        async def handle(item: int) -> None:
            seen.append(item)

        async with anyio.create_task_group() as group:
            group.start_soon(aiomanager.consume, queue, handle)
            await wait_until(lambda: waiting(queue), description="the consumer waits")
            host.restart()
            await queue.put_many([1, None])
    assert seen == [1]


async def test_a_put_that_waits_for_room_is_sent_again(
    host: RestartableHost, transport: Any
) -> None:
    """A put that waited on a full queue when its host was killed is put into the new one."""
    async with aiomanager.connect(host.path, KEY, transport=transport) as manager:
        queue = manager.queue("small")
        await queue.put("first")
        async with anyio.create_task_group() as group:
            group.start_soon(queue.put, "second")
            await wait_until(
                lambda: putter_waits(queue), description="the second put waits for room"
            )
            host.restart()
        assert await queue.get(timeout=5) == "second"


async def putter_waits(queue: aiomanager.AsyncQueue[object]) -> bool:
    """Whether a put waits at the host."""
    return bool((await queue.statistics()).waiting_putters)


async def test_a_put_whose_answer_was_lost_is_enqueued_once(
    host: RestartableHost, wire: Relay, transport: Any
) -> None:
    """The host had the items, and the answer was lost with the connection: the put is sent again,
    and the host does not enqueue it again."""
    async with (
        aiomanager.connect(wire.path, KEY, transport=transport) as manager,
        aiomanager.connect(host.path, KEY) as observer,
    ):
        queue = manager.queue("jobs")
        await queue.put("first")
        wire.swallow = True
        async with anyio.create_task_group() as group:
            group.start_soon(queue.put_many, ["a", "b"])
            await wait_until(lambda: wire.swallowed, description="an answer was lost")
            wire.swallow = False
            wire.cut()
        direct = observer.queue("jobs")
        assert await direct.get_many(9) == ["first", "a", "b"]
        assert await direct.empty()


async def test_a_get_whose_answer_was_lost_receives_the_item(
    host: RestartableHost, wire: Relay, transport: Any
) -> None:
    """An item that was on its way when the connection broke is handed out again, once."""
    received: list[str] = []
    async with (
        aiomanager.connect(wire.path, KEY, transport=transport) as manager,
        aiomanager.connect(host.path, KEY) as observer,
    ):
        queue = manager.queue("jobs")

        async def getter() -> None:
            received.append(await queue.get())

        direct = observer.queue("jobs")
        async with anyio.create_task_group() as group:
            group.start_soon(getter)
            await wait_until(lambda: waiting(direct), description="the get waits at the host")
            wire.swallow = True
            await direct.put("item")
            await wait_until(lambda: wire.swallowed, description="the item was lost on its way")
            wire.swallow = False
            wire.cut()
        assert received == ["item"]
        counts = await direct.statistics()
        assert (counts.qsize, counts.leased, counts.unfinished) == (0, 0, 1)


async def test_a_wire_that_says_nothing_is_given_up(
    host: RestartableHost, wire: Relay, transport: Any
) -> None:
    """Half-open: nothing comes and nobody is told. The deadline of a call notices, and so does
    the heartbeat where calls only wait; a new connection serves them."""
    async with (
        aiomanager.connect(wire.path, KEY, transport=transport, call_timeout=0.4) as manager,
        aiomanager.connect(host.path, KEY) as observer,
    ):
        queue = manager.queue("jobs")
        direct = observer.queue("jobs")
        received: list[str] = []

        async def getter() -> None:
            received.append(await queue.get())

        async with anyio.create_task_group() as group:
            group.start_soon(getter)
            await wait_until(lambda: waiting(direct), description="the get waits at the host")
            wire.stalled = True
            # The client gives the wire up and connects again, which the relay lets through.
            await wait_until(
                lambda: session_of(manager).connection is None,
                description="the silence was noticed",
            )
            wire.cut()
            wire.stalled = False
            await direct.put("item")
        assert received == ["item"]


async def test_a_frozen_host_is_waited_for(host: RestartableHost, transport: Any) -> None:
    """A host that is stopped and goes on within the call's deadline costs nothing but time."""
    async with aiomanager.connect(host.path, KEY, transport=transport) as manager:
        queue = manager.queue("jobs")
        await queue.put("before")
        host.freeze()
        async with anyio.create_task_group() as group:
            group.start_soon(queue.put, "while frozen")
            await wait_until(
                lambda: session_of(manager)._pending, description="the put is on its way"
            )
            host.thaw()
        assert await queue.get_many(2) == ["before", "while frozen"]


async def test_a_host_that_stays_away_ends_calls_at_the_deadline(
    host: RestartableHost, transport: Any
) -> None:
    """After `reconnect` seconds every kind of call raises ConnectionLostError."""
    async with aiomanager.connect(host.path, KEY, transport=transport, reconnect=0.3) as manager:
        queue = manager.queue("jobs")
        await queue.put("gone with its host")
        host.kill()
        for call in (lambda: queue.put(1), queue.get, queue.qsize, queue.join):
            with pytest.raises(aiomanager.ConnectionLostError), anyio.fail_after(5):
                await call()
        with pytest.raises(aiomanager.ConnectionLostError), anyio.fail_after(5):
            async for _ in queue:
                pass


async def test_reconnecting_can_be_observed(
    host: RestartableHost, caplog: pytest.LogCaptureFixture
) -> None:
    """A reconnection calls `on_reconnect` and leaves a log record."""
    reconnected: list[bool] = []
    with caplog.at_level(logging.WARNING, "aiomanager"):
        async with aiomanager.connect(
            host.path, KEY, on_reconnect=lambda: reconnected.append(True)
        ) as manager:
            queue = manager.queue("jobs")
            await queue.put(1)
            host.restart()
            await queue.put(2)
    assert reconnected == [True]
    assert "connected to the host again" in caplog.text


async def test_a_lease_ends_with_its_connection(host: RestartableHost, wire: Relay) -> None:
    """What was leased over a connection that broke is handed out again, marked as such; a late ack
    is an error and changes nothing."""
    async with (
        aiomanager.connect(wire.path, KEY) as manager,
        aiomanager.connect(host.path, KEY) as observer,
    ):
        queue = manager.queue("jobs")
        direct = observer.queue("jobs")
        await queue.put("item")
        late = await anext(queue.deliveries())
        wire.cut()
        again = await anext(direct.deliveries())
        assert (again.item, again.attempt, again.redelivered) == ("item", 2, True)
        with pytest.raises(aiomanager.LeaseLostError):
            await late.ack()
        assert (await direct.statistics()).leased == 1
        await again.ack()
        await direct.join()
