"""What the harness found in the library, each fault as small as it could be made."""

from __future__ import annotations

import math

import anyio
import pytest

import aiomanager
from aiomanager._broker.queue import HostedQueue
from aiomanager._host.reactor import Reactor
from tests.chaos.processes import Nursery
from tests.chaos.raw import RawClient, StockQueue, connect
from tests.chaos.stage import KEY, QUEUE, Stage
from tests.chaos.waits import until
from tests.support.faults import KEY as FAULTS_KEY
from tests.support.faults import Relay, RestartableHost
from tests.support.hosted_calls import Call
from tests.support.waiting import wait_until

HANDSHAKE_TIMEOUT = 1.0  # enough for one that is not silent, on a machine under load


@pytest.mark.parametrize("timeout", [math.inf, math.nan, 1e10, 1e300])
@pytest.mark.parametrize("stock", [True, False], ids=["stock", "own"])
def test_a_time_that_never_comes_does_not_end_the_host(
    nursery: Nursery, seed: int, timeout: float, stock: bool
) -> None:
    """A call with a timeout that no selector takes waits, or is refused; the host goes on when it
    is the next thing on its list."""
    with Stage(nursery, seed) as stage:
        host = stage.start_host(handshake_timeout=HANDSHAKE_TIMEOUT)
        waiting = RawClient(stage.address, KEY, None if stock else "patient")
        if stock:
            waiting.stock(None, "accept_connection", "patient")
            waiting.send_stock(f"aiomanager-queue:{QUEUE}", "get", True, timeout)
        else:
            waiting.ask(QUEUE, "receive", 1, timeout)
        # This one is cut at the handshake's deadline, after which nothing else is due.
        with connect(stage.address) as silent:
            until(lambda: silent.recv(4096) == b"", "the handshake's deadline", 5)
        assert host.code is None
        queue = StockQueue(stage.address, KEY, QUEUE)
        assert queue.call("qsize") == 0
        queue.close()
        waiting.close()


def test_no_time_is_refused_before_it_is_waited_for() -> None:
    """NaN would leave the reactor's heap without an order, and who waited in line without an
    answer."""
    reactor = Reactor()
    queue = HostedQueue(reactor)
    with pytest.raises(ValueError, match="timeout"):
        queue.receive(1, math.nan, Call())
    with pytest.raises(ValueError, match="NaN"):
        reactor.call_at(math.nan, lambda: None)
    assert queue.statistics()["waiting_getters"] == 0
    reactor.close()


@pytest.mark.anyio
@pytest.mark.may_block(reason="the fixture starts a process")
async def test_a_put_that_waits_for_room_outlives_its_connection(
    host: RestartableHost, wire: Relay
) -> None:
    """Its wait at the host ends with the connection, and begins again over the next one, instead
    of raising QueueFull though no timeout was given."""
    async with (
        aiomanager.connect(wire.path, FAULTS_KEY) as manager,
        aiomanager.connect(host.path, FAULTS_KEY) as observer,
    ):
        queue, direct = manager.queue("small"), observer.queue("small")
        await queue.put("first")

        async def waits() -> bool:
            return bool((await direct.statistics()).waiting_putters)

        async with anyio.create_task_group() as group:
            group.start_soon(queue.put_many, ["second", "third"])
            await wait_until(waits, description="the put waits for room")
            wire.cut()
            await wait_until(waits, description="the put waits again")
            assert [await direct.get() for _ in range(3)] == ["first", "second", "third"]


@pytest.mark.anyio
@pytest.mark.may_block(reason="the test starts processes")
async def test_the_first_call_too_waits_for_a_host_that_is_away(host: RestartableHost) -> None:
    """`reconnect` counts from the moment that the manager has connected, and not from the first
    call on."""
    async with aiomanager.connect(host.path, FAULTS_KEY) as manager:
        host.kill()
        async with anyio.create_task_group() as group:
            group.start_soon(manager.queue("jobs").put, "item")
            with anyio.move_on_after(0.1):
                await anyio.sleep_forever()
            host.start()
        assert await manager.queue("jobs").get(timeout=5) == "item"
