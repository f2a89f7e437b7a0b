"""When calls end: by their own timeout and a second, else by `call_timeout` and `reconnect`
together and a second, whatever stands before them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import pytest

import aiomanager
from aiomanager import ConnectionLostError, QueueEmpty
from tests.support.hosts import KEY, session_of
from tests.support.waiting import wait_until, while_busy

pytestmark = [pytest.mark.anyio, pytest.mark.every_python]


class Ended:
    """How calls ended, and after how many seconds."""

    def __init__(self) -> None:
        self.calls: dict[str, tuple[float, BaseException | None]] = {}

    async def run(self, name: str, call: Callable[[], Awaitable[object]]) -> None:
        """Run a call and note its end."""
        start = time.monotonic()
        error: BaseException | None = None
        try:
            await call()
        except Exception as exc:
            error = exc
        self.calls[name] = time.monotonic() - start, error

    def within(self, seconds: float) -> bool:
        """Whether all ended in so many seconds, and one more."""
        return all(took <= while_busy(seconds + 1) for took, _ in self.calls.values())


async def test_calls_at_a_host_that_is_stopped(host, transport):
    """Each ends by its own time, with an error that is true; one that was given up before it was
    sent, as it stood behind another, has certainly not happened."""
    ended = Ended()
    async with aiomanager.connect(
        host.path, KEY, transport=transport, call_timeout=1, reconnect=0.5
    ) as manager:
        queue, small = manager.queue("jobs"), manager.queue("small")
        await queue.put("item")
        await small.put(1)
        delivery = (await small.get_deliveries(1))[0]
        host.freeze()
        with_timeout: dict[str, Callable[[], Awaitable[object]]] = {
            "put": lambda: queue.put(1, timeout=0.2),
            "put_nowait": lambda: small.put_nowait(1),
            "put_many": lambda: small.put_many([2, 3], timeout=0.2),
            "get": lambda: queue.get(timeout=0.2),
            "get_nowait": queue.get_nowait,
        }
        without: dict[str, Callable[[], Awaitable[object]]] = {
            "put for ever": lambda: queue.put(3),
            "qsize": queue.qsize,
            "ack": delivery.ack,
            "statistics": queue.statistics,
        }
        async with anyio.create_task_group() as group:
            for name, call in with_timeout.items():
                group.start_soon(ended.run, name, call)
        assert ended.within(0.2)
        errors: dict[str, Any] = {name: error for name, (_, error) in ended.calls.items()}
        assert isinstance(errors.pop("get"), QueueEmpty)
        assert all(isinstance(error, ConnectionLostError) for error in errors.values()), errors
        known = {name: error.outcome_known for name, error in errors.items()}
        assert known.pop("get_nowait"), "it has taken nothing"
        assert not known["put"], "it was sent"
        assert sorted(known[name] for name in ("put_nowait", "put_many")) == [False, True], known
        ended = Ended()
        async with anyio.create_task_group() as group:
            for name, call in without.items():
                group.start_soon(ended.run, name, call)
        assert ended.within(1.5)
        assert all(isinstance(error, ConnectionLostError) for _, error in ended.calls.values())
        host.thaw()


async def test_calls_that_wait_at_a_host_that_is_stopped(host, transport):
    """They end when the host is given up: it has half of `call_timeout` to say something, as long
    to answer when it is asked, and then `reconnect` to come back."""
    ended = Ended()
    async with aiomanager.connect(
        host.path, KEY, transport=transport, call_timeout=1, reconnect=0.3
    ) as manager:
        queue, small = manager.queue("jobs"), manager.queue("small")
        await small.put(1)
        await queue.qsize()
        host.freeze()
        async with anyio.create_task_group() as group:
            for name, call in {
                "get": queue.get,
                "join": small.join,
                "put": lambda: small.put(2),
            }.items():
                group.start_soon(ended.run, name, call)
        assert ended.within(1.3)
        assert all(isinstance(error, ConnectionLostError) for _, error in ended.calls.values())
        host.thaw()


async def test_many_puts_at_a_host_that_is_gone(host, transport):
    """It is given up once, and not once for each batch: who stands behind fails with it."""
    ended = Ended()
    async with aiomanager.connect(
        host.path, KEY, transport=transport, call_timeout=5, reconnect=0.5
    ) as manager:
        queue = manager.queue("jobs")
        await queue.put("before")
        host.kill()
        async with anyio.create_task_group() as group:
            for number in range(50):
                group.start_soon(ended.run, str(number), lambda: queue.put(b"x" * 100_000))
        assert ended.within(0.5)
        errors = [error for _, error in ended.calls.values()]
        assert all(isinstance(error, ConnectionLostError) for error in errors)
        assert len(set(map(id, errors))) == 50, "each has an error of its own"


async def test_a_put_that_waits_for_room_says_what_it_has_put(host, transport):
    """Its manager closes: the error has the number of items that the queue has taken."""
    async with aiomanager.connect(host.path, KEY, transport=transport) as other:
        small = other.queue("small")
        async with (
            anyio.create_task_group() as group,
            aiomanager.connect(host.path, KEY, transport=transport) as manager,
        ):

            async def put() -> None:
                with pytest.raises(ConnectionLostError, match="closed") as caught:
                    await manager.queue("small").put_many(range(10))
                error: Any = caught.value
                assert (error.accepted, error.outcome_known) == (1, True)

            group.start_soon(put)
            await wait_until(small.full, description="the first have found room")
        assert await small.get_many(10) == [0]


@pytest.mark.parametrize("error", [RuntimeError("of metrics"), OSError(5, "of a disk"), EOFError()])
async def test_a_callback_that_raises_costs_nothing(host, transport, error, caplog):
    """What `on_reconnect` raises is logged; calls go on over the connection that was made."""

    def on_reconnect() -> None:
        raise error

    async with aiomanager.connect(
        host.path, KEY, transport=transport, on_reconnect=on_reconnect
    ) as manager:
        queue = manager.queue("jobs")
        for number in range(2):
            await queue.put(number)
            host.restart()
            with anyio.fail_after(while_busy(5)):
                await queue.put("again")
        assert "on_reconnect failed" in caplog.text


@pytest.mark.parametrize("error", [RuntimeError("odd"), OSError(5, "odd"), ValueError("odd")])
async def test_connecting_that_raises_ends_in_an_error(host, error):
    """Whatever it is, those who wait have an error, and the next call tries again."""
    async with aiomanager.connect(host.path, KEY, reconnect=0.2) as manager:
        queue = manager.queue("jobs")
        await queue.put("before")
        open_connection = session_of(manager)._open_connection

        async def fail(name: str | None, /, **said: Any) -> Any:
            raise error

        session_of(manager)._open_connection = fail
        host.restart()
        with anyio.fail_after(while_busy(5)):
            with pytest.raises(ConnectionLostError, match="odd"):
                await queue.put("nobody connects")
            session_of(manager)._open_connection = open_connection
            await queue.put("after")
            assert await queue.get() == "after"


def _at_least(things: list[float], count: int) -> bool:
    return len(things) >= count


async def test_connections_that_break_at_once_are_made_less_and_less_often(host, wire, transport):
    """A call that ends each connection it is sent over is not sent again without a pause."""
    connected: list[float] = []
    async with aiomanager.connect(
        wire.path, KEY, transport=transport, on_reconnect=lambda: connected.append(time.monotonic())
    ) as manager:
        queue = manager.queue("jobs")
        await queue.put("before")
        async with anyio.create_task_group() as group:
            group.start_soon(queue.get)
            group.start_soon(queue.join)
            with anyio.move_on_after(3):
                while True:
                    connections = len(connected) + 1
                    wire.cut()
                    await wait_until(
                        partial(_at_least, connected, connections), description="it is back"
                    )
            group.cancel_scope.cancel()
        pauses = [later - earlier for earlier, later in itertools.pairwise(connected)]
        assert len(connected) <= 10
        assert pauses[-1] > 0.3 > pauses[0]
