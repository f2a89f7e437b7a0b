"""A host whose memory has a bound: it says so, and everything that it has can be had."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import aiomanager
from tests.support.hosts import KEY, ends, interrupt, script, stock_queue

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform != "linux", reason="bounds are other ones there"),
    pytest.mark.parametrize("anyio_backend", ["asyncio"]),
]

BOUND = 64 * 1024**2  # beside what the host's process has when it begins

_HOST = """
import json, resource, sys
from pathlib import Path
import aiomanager
path, key, bound = json.loads(sys.argv[1])
manager = aiomanager.QueueManager(path, authkey=key.encode(), queues={"jobs": 0})
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + bound
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
server = manager.get_server()
print("ready", flush=True)
server.serve_forever()
"""


@pytest.fixture
def address(socket_path: str) -> Iterator[str]:
    """A host that runs out of memory soon. What it logs is short."""
    with script(_HOST, json.dumps([socket_path, KEY.decode(), BOUND])) as host:
        assert host.stdout is not None
        assert host.stdout.readline() == "ready\n"
        yield socket_path
        interrupt(host)
        assert ends(host) == 0
        assert host.stderr is not None
        assert len(host.stderr.read().splitlines()) < 100


def connect(address: str, **options: Any) -> aiomanager.AsyncManager:
    """Connect to the host."""
    return aiomanager.connect(address, KEY, call_timeout=10, reconnect=10, **options)


@pytest.mark.parametrize("size, at_once", [(10, 1000), (2_000, 50), (64_000, 1), (2_000_000, 1)])
async def test_puts_are_refused_while_there_is_some_left(address, size: int, at_once: int):
    """And what was accepted is received by a client that comes then, in order."""
    data = b"x" * size
    accepted: list[int] = []
    async with connect(address) as manager:
        queue = manager.queue("jobs")
        for refusals in range(5):
            with pytest.raises(MemoryError, match="the host has no memory"):
                for number in range(refusals * 10_000_000, sys.maxsize, at_once):
                    await queue.put_many([(n, data) for n in range(number, number + at_once)])
                    accepted += range(number, number + at_once)
    assert len(accepted) * (size + 300) > BOUND / 4
    async with connect(address) as manager:
        queue = manager.queue("jobs")
        received = []
        while await queue.qsize():
            received += [number for number, _ in await queue.get_many(1000)]
        assert received == accepted
        await queue.put_many([data] * at_once)
        assert await queue.get_many(at_once) == [data] * at_once


async def test_a_stock_client_is_refused_with_the_same_error(address):
    """As a `queue.Queue` in a process without memory raises it."""
    queue = stock_queue(address)
    with pytest.raises(MemoryError, match="the host has no memory for more items"):
        for number in range(1_000_000):
            queue.put((number, b"x" * 10_000))
    count = queue.qsize()
    assert [queue.get()[0] for _ in range(count)] == list(range(count))
    queue.put("again")
    assert queue.get() == "again"


async def test_a_message_for_which_there_is_no_memory(address):
    """Its sender is told, and nobody loses a connection."""
    lost: list[str] = []
    large = b"x" * 2 * BOUND
    stock = stock_queue(address)
    async with connect(address, on_reconnect=lambda: lost.append("once more")) as manager:
        queue = manager.queue("jobs")
        with pytest.raises(MemoryError, match="a message of this size"):
            await queue.put(large)
        with pytest.raises(MemoryError, match="a message of this size"):
            stock.put(large)
        await queue.put(1)
        stock.put(2)
        assert [await queue.get(), stock.get()] == [1, 2]
    assert not lost
