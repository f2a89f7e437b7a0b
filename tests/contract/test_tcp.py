"""Contract: over TCP all is as over a unix socket."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping

import anyio
import pytest

from tests.contract.hosts import LANES, Host, Place, running

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", autouse=True)
def tcp_processes(scratch: object) -> Iterator[Mapping[str, Host]]:
    """Host processes that listen on TCP."""
    with contextlib.ExitStack() as stack:
        yield {
            kind: stack.enter_context(running(kind, ("127.0.0.1", 0)))
            for kind in ("ours", "stock-queue")
        }


@pytest.fixture(params=[(kind, lane) for kind in ("ours", "stock-queue") for lane in LANES])
def place(request: pytest.FixtureRequest, tcp_processes: Mapping[str, Host]) -> Place:
    """Each kind of host, and each lane to it."""
    kind, lane = request.param
    return Place(tcp_processes[kind], lane)


async def test_items_of_all_sizes(queue):
    """They arrive as they were put, in order."""
    items = [b"x" * size for size in (0, 1, 1000, 20_000, 70_000, 300_000)]
    await queue.put_many(items)
    for item in items:
        assert await queue.get(timeout=5) == item


async def test_no_message_waits_for_an_acknowledgement(queue, place):
    """Between two messages of TCP may be 40 ms where nobody switches that off. We do, on both
    sides; what a stock host sends is its own affair."""
    item = b"x" * 20_000  # more than the standard library sends with its header
    start = time.monotonic()
    for _ in range(20):
        await queue.put(item)
    if not place.host.is_stock:
        for _ in range(20):
            await queue.get(timeout=5)
    assert time.monotonic() - start < 20 * 0.04


async def test_iteration_and_join(queue):
    """Leases, acks and the count."""
    await queue.put_many([1, 2, 3, None])
    assert [item async for item in queue] == [1, 2, 3]
    with anyio.fail_after(5):
        await queue.join()


async def test_gets_that_wait(queue):
    """They are served, and give nothing away where they end."""
    with anyio.move_on_after(0.05):
        await queue.get()
    got = []

    async def get():
        got.append(await queue.get())

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(get)
        await anyio.wait_all_tasks_blocked()
        await queue.put_many(range(20))
    assert sorted(got) == list(range(20))


async def test_two_clients(queue, place):
    """What one puts, the other gets; what one leaves undone, the other gets as well."""
    async with place.connect() as other:
        await other.queue(queue.name).put_many(["a", "b"])
        assert await queue.get(timeout=5) == "a"
        assert (await anext(other.queue(queue.name).deliveries())).item == "b"
    assert await queue.get(timeout=5) == "b"


async def test_many_who_connect_at_once(queue, place):
    """All are served, although the backlog of a stock host has room for 16 of them up to 3.12."""
    served = []

    async def use(number):
        async with place.connect(wait=30) as other:
            await other.queue(queue.name).put(number)
        served.append(number)

    with anyio.fail_after(50):
        async with anyio.create_task_group() as group:
            for number in range(200):
                group.start_soon(use, number)
    assert len(served) == 200
    assert sorted(await _all(queue)) == list(range(200))


async def _all(queue):
    items: list[int] = []
    while len(items) < 200:
        items += await queue.get_many(200, timeout=5)
    return items
