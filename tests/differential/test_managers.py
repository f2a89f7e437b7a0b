"""An open `AsyncManager` beside forks and spawns: it is its process's own, and says so in another.

The standard library has no such thing; what a program would do with it is in the other files.
"""

from __future__ import annotations

import multiprocessing
import pickle
import time
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest

import aiomanager
from aiomanager import AsyncQueue
from tests.differential.conftest import FULL, QUICK
from tests.differential.world import PATIENCE, World, forked

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(90)]

FORKS = 200 if FULL else 15 if QUICK else 60
# Seconds in which a child has to be told; it is not to wait for a host that never answers.
AT_ONCE = 5.0

transports = pytest.mark.parametrize("transport", ["stream", "thread"])
kinds = pytest.mark.parametrize("kind", ["stock", "ours"])


@pytest.fixture
def place(differential_hosts: Callable[[str], Any], kind: str) -> World:
    """A host of the kind, and queues there that nobody has used."""
    return World(differential_hosts(kind), kind, "standard", "fork")


def _connect(place: World, **options: Any) -> aiomanager.AsyncManager:
    return aiomanager.connect(place.host.address, bytes(place.host._authkey), **options)


def _refused(use: Callable[[], Any], backend: str) -> None:
    """In a child: what it uses is refused at once, with advice."""
    began = time.monotonic()

    async def run() -> None:
        with anyio.fail_after(AT_ONCE):
            await use()

    with pytest.raises(aiomanager.ConfigurationError, match="connect"):
        anyio.run(run, backend=backend)
    assert time.monotonic() - began < AT_ONCE


def _uses(manager: Any, queue: Any) -> list[Callable[[], Any]]:
    return [
        lambda: queue.put("child"),
        queue.get,
        queue.qsize,
        queue.task_done,
        lambda: manager.proxy("Device"),
        lambda: manager.queue("jobs_0").put("child"),
    ]


@transports
@kinds
async def test_a_child_is_refused_at_once(
    place: World, transport: Any, anyio_backend_name: str
) -> None:
    """Whatever it calls; and its parent's acknowledged puts are there, each once."""
    async with _connect(place, transport=transport) as manager:
        queue = manager.queue(place.unused())
        await queue.put(0)
        uses = _uses(manager, queue)
        for number, use in enumerate(uses):
            await anyio.to_thread.run_sync(forked, _refused, use, anyio_backend_name)
            await queue.put(number + 1)
        assert await queue.get_many(100) == list(range(len(uses) + 1))
        assert await queue.qsize() == 0


@transports
@kinds
async def test_many_forks_under_load(place: World, transport: Any, anyio_backend_name: str) -> None:
    """Children come and go, used and unused. The parent's puts are there once and in order, its
    waiting get waits on, its lease stands."""
    sent: list[int] = []
    got: list[object] = []
    async with _connect(place, transport=transport) as manager:
        queue, other = manager.queue(place.unused()), manager.queue(place.unused())
        leased = manager.queue(place.unused())
        await leased.put("work")
        (delivery,) = await leased.get_deliveries(1)

        forked_all = False

        async def put() -> None:
            while not forked_all:
                number = len(sent)
                sent.append(number)
                with anyio.fail_after(PATIENCE):
                    await queue.put(number)

        async def get() -> None:
            got.append(await other.get())

        async with anyio.create_task_group() as group:
            group.start_soon(get)
            async with anyio.create_task_group() as load:
                load.start_soon(put)
                for number in range(FORKS):
                    child = (
                        (_nothing,) if number % 3 else (_refused, queue.qsize, anyio_backend_name)
                    )
                    await anyio.to_thread.run_sync(forked, *child)
                forked_all = True
            assert not got
            await other.put("item")
        assert got == ["item"]
        assert delivery.attempt == 1
        await delivery.ack()
        await leased.join()
        received: list[object] = []
        while len(received) < len(sent):
            received += await queue.get_many(1000, timeout=PATIENCE)
        assert received == sent
        assert await queue.qsize() == 0


def _nothing() -> None:
    """A child that ends."""


@kinds
async def test_a_manager_says_how_to_connect(place: World) -> None:
    """It is not pickled, and the error says what to pass instead."""
    async with _connect(place) as manager:
        with pytest.raises((aiomanager.ConfigurationError, TypeError), match="connect"):
            pickle.dumps(manager)


@kinds
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
async def test_a_queue_of_a_manager_works_in_a_child(
    place: World, method: str, anyio_backend_name: str
) -> None:
    """It arrives as an `AsyncQueue` of the same name, with a connection of its own."""
    async with _connect(place) as manager:
        queue = manager.queue(place.unused())
        assert await queue.qsize() == 0  # at a stock host it is known by its first use
        context: Any = multiprocessing.get_context(method)
        child = context.Process(target=_put_there, args=(queue, anyio_backend_name))
        child.start()
        try:
            assert await queue.get(timeout=PATIENCE) == queue.name
        finally:
            await anyio.to_thread.run_sync(child.join)
        assert child.exitcode == 0
        child.close()


def _put_there(queue: AsyncQueue[str], backend: str) -> None:
    async def put() -> None:
        assert isinstance(queue, AsyncQueue)
        await queue.put(queue.name)

    anyio.run(put, backend=backend)


@kinds
@pytest.mark.may_leave("tasks", reason="what arrives in an item lasts as long as the event loop")
async def test_a_queue_of_a_manager_as_a_reply_address(place: World) -> None:
    """In an item of another queue, and in a dict."""
    async with _connect(place) as manager:
        queue, replies = manager.queue(place.unused()), manager.queue(place.unused())
        assert await replies.qsize() == 0  # at a stock host it is known by its first use
        await queue.put(("job", replies))
        _, reply = await queue.get()
        await reply.put("by the item")
        assert await replies.get(timeout=PATIENCE) == "by the item"
        shared = aiomanager.wrap(place.host.dict())
        await shared.update(reply=replies)
        await (await shared.get("reply")).put("by the dict")
        assert await replies.get(timeout=PATIENCE) == "by the dict"
