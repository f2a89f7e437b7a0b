"""Contract: over TCP all is as over a unix socket."""

from __future__ import annotations

import time
from collections.abc import Mapping

import anyio
import pytest

from tests.engines.contract.hosts import TRANSPORTS, Host, Place
from tests.support.waiting import while_busy

pytestmark = pytest.mark.anyio


@pytest.fixture(
    params=[(kind, transport) for kind in ("ours", "stock-queue") for transport in TRANSPORTS]
)
def place(request: pytest.FixtureRequest, tcp_processes: Mapping[str, Host]) -> Place:
    """Each kind of host, and each transport to it."""
    kind, transport = request.param
    return Place(tcp_processes[kind], transport)


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
    assert time.monotonic() - start < while_busy(20 * 0.04)


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
