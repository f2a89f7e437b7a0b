"""A look-up of a name that takes its time, which nothing can interrupt."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

import aiomanager
from aiomanager import ConnectionLostError
from tests.support.hosts import KEY, ends, script
from tests.support.waiting import wait_until, while_busy

pytestmark = [pytest.mark.anyio, pytest.mark.every_python]


@pytest.fixture
def stuck(names: Any) -> Iterator[threading.Semaphore]:
    """The name "stuck", whose look-up ends with the test; it is acquired by each look-up."""
    begun = threading.Semaphore(0)
    released = threading.Event()

    def look_up() -> list[Any]:
        begun.release()
        released.wait(30)
        return []

    names["stuck"] = look_up
    yield begun
    released.set()


async def test_a_look_up_counts_within_the_time_to_connect(transport_name: Any, stuck: Any):
    """Who waits leaves at the deadline, and the look-up stays behind."""
    began = time.monotonic()
    with pytest.raises(ConnectionLostError, match="no host answered"):
        async with aiomanager.connect(
            ("stuck", 1), KEY, transport=transport_name, connect_timeout=0.3
        ):
            pass
    assert 0.2 < time.monotonic() - began < while_busy(0.9)
    assert stuck.acquire(blocking=False)


async def test_cancelled_in_a_look_up(transport: Any, stuck: Any):
    """It leaves at once, and on the thread transport its thread soon follows."""
    async with anyio.create_task_group() as group:
        group.start_soon(transport(("stuck", 1), 100).open, "somebody")
        await wait_until(lambda: stuck.acquire(blocking=False), description="it is looked up")
        began = time.monotonic()
        group.cancel_scope.cancel()
    assert time.monotonic() - began < while_busy(0.5)


async def test_others_connect_meanwhile(transport: Any, stuck: Any, host: Any):
    """However many names are stuck: they share no threads with anybody."""
    async with anyio.create_task_group() as group:
        for _ in range(60):
            group.start_soon(transport(("stuck", 1), 100).open, "somebody")
        for _ in range(60):
            await wait_until(lambda: stuck.acquire(blocking=False), description="all look up")
        began = time.monotonic()
        (await transport(("localhost", host.address[1])).open("somebody")).close()
        assert time.monotonic() - began < while_busy(1.0)
        group.cancel_scope.cancel()


_STUCK = """
import socket, sys, time
import anyio
import aiomanager

socket.getaddrinfo = lambda *args, **kwds: time.sleep(100)

async def main():
    try:
        async with aiomanager.connect(
            ("stuck", 1), b"key", transport=sys.argv[1], connect_timeout=0.2
        ):
            pass
    except aiomanager.ConnectionLostError:
        pass

anyio.run(main, backend=sys.argv[2])
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_look_up_does_not_keep_the_process(transport_name: str, backend: str):
    """The program ends while it is stuck."""
    with script(_STUCK, transport_name, backend) as process:
        assert ends(process, 20) == 0
