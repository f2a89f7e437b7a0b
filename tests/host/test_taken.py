"""Contract: what a process has got from a host of ours, and is not its own any more, or cannot be
unpickled in it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

import aiomanager
from aiomanager._broker.queue import HostedQueue
from aiomanager._host.server import QueueServer
from aiomanager.engines import hosted
from tests.support.hosted_calls import Call
from tests.support.hosts import KEY, serving

pytestmark = pytest.mark.every_python

POISON = b"\x80\x04cno.such.module\nThing\n."


def address_of(server: QueueServer) -> str:
    """That of a host which made one up."""
    assert isinstance(server.address, str)
    return server.address


def run(
    use: Callable[[QueueServer, aiomanager.AsyncQueue[Any]], Awaitable[None]], **settings: Any
) -> None:
    """Use a queue of a host that has these settings."""

    async def main(server: QueueServer) -> None:
        async with aiomanager.connect(address_of(server), KEY) as manager:
            with anyio.fail_after(20):
                await use(server, manager.queue("jobs"))

    with serving(**settings) as server:
        anyio.run(main, server)


def put_poison(queue: HostedQueue) -> None:
    """Put what no process can unpickle."""
    queue.put([POISON], None, Call())


def test_what_was_taken_in_an_earlier_run_of_the_host_is_lost():
    """To say that it is done says so, counts nothing, and the next is counted as ever."""

    async def use(server: QueueServer, jobs: aiomanager.AsyncQueue[Any]) -> None:
        await jobs.put_many("abc")
        await jobs.get_many(2)
        for face in server._own._faces.values():
            face._run += 1
        for _ in range(2):
            with pytest.raises(aiomanager.LeaseLostError):
                await jobs.task_done()
        with pytest.raises(ValueError, match="too many times"):
            await jobs.task_done()
        assert (await jobs.statistics()).unfinished == 3

    run(use)


def test_an_iteration_whose_lease_has_ended_says_so():
    """Where its item is said to be done, as an `ack` does."""

    async def use(server: QueueServer, jobs: aiomanager.AsyncQueue[Any]) -> None:
        await jobs.put("a")
        async for _ in jobs:
            while not await jobs.qsize():
                await anyio.sleep(0.01)
            with pytest.raises(aiomanager.LeaseLostError):
                await jobs.task_done()
            break
        assert await jobs.qsize() == 1

    run(use, lease_timeout=0.05)


@pytest.mark.parametrize("how", ["get", "async for"])
def test_what_cannot_be_unpickled_goes_to_the_dead_letters(how: str):
    """After as many attempts as were allowed, and the letter says what it was."""

    async def use(server: QueueServer, jobs: aiomanager.AsyncQueue[Any]) -> None:
        put_poison(server.queues["jobs"])
        await jobs.put("good")
        for _ in range(3):
            with pytest.raises(aiomanager.DecodeError):
                await (jobs.get() if how == "get" else anext(aiter(jobs)))
        assert await jobs.get() == "good"
        await jobs.task_done()
        await jobs.join()
        assert server.queues["dead"].qsize() == 1

    run(use, queues={"jobs": 0, "dead": 0}, dead_letter="dead", max_deliveries=3)


def test_what_cannot_be_unpickled_keeps_nobody_from_the_rest():
    """Also where there is nowhere to put it."""

    async def use(server: QueueServer, jobs: aiomanager.AsyncQueue[Any]) -> None:
        put_poison(server.queues["jobs"])
        await jobs.put("good")
        errors = 0
        while True:
            try:
                assert await jobs.get() == "good"
                break
            except aiomanager.DecodeError:
                errors += 1
        assert errors <= 2
        assert server.queues["jobs"].unfinished == 2

    run(use)


def test_the_host_is_told_what_was_read(monkeypatch: pytest.MonkeyPatch):
    """Soon after the last `get`, or when the manager closes: what a process has got is not handed
    out again when it is gone. Anybody may say then that it is done."""
    monkeypatch.setattr(hosted, "TOLD_WITHIN", 3600.0)

    async def main(server: QueueServer) -> None:
        async with aiomanager.connect(address_of(server), KEY) as manager:
            jobs = manager.queue("jobs")
            await jobs.put("a")
            await jobs.get()
            assert server.queues["jobs"]._takes._unread
        while server._client_of:
            await anyio.sleep(0.01)
        assert server.queues["jobs"]._takes.count(None) == 1
        assert not server.queues["jobs"]._takes._unread

    with serving() as server:
        anyio.run(main, server)
