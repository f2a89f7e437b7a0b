"""The end of the process, and a thread that starts too late."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import anyio
import pytest

from aiomanager._ground.addresses import Address
from aiomanager._transport.base import Conversation
from aiomanager._transport.thread import ThreadConnection
from tests.support.waiting import wait_until

# -- the end of the process ------------------------------------------------------------
WAITS = """
import anyio
import aiomanager
from tests.support import objects

manager = objects.Manager({address!r}, objects.KEY)
manager.connect()

async def main():
    lock, condition = aiomanager.wrap(manager.Lock()), aiomanager.wrap(manager.Condition())
    semaphore = aiomanager.wrap(manager.Semaphore(0))
    event, barrier = aiomanager.wrap(manager.Event()), aiomanager.wrap(manager.Barrier(2))
    gate, queue = aiomanager.wrap(manager.Gate()), aiomanager.wrap(manager.Queue())
    await lock.acquire()

    async def wait():
        async with condition:
            await condition.wait()

    async with anyio.create_task_group() as group:
        for waiting in (lock.acquire, semaphore.acquire, event.wait, barrier.wait,
                        gate.pass_through, queue.get, wait):
            group.start_soon(waiting)
        while not (await barrier.n_waiting() and await gate.waiting()):
            pass
        print("waiting", flush=True)
        {then}

try:
    anyio.run(main, backend={backend!r})
except* KeyboardInterrupt:
    pass
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(
    "then", ["group.cancel_scope.cancel()", "await anyio.sleep_forever()"], ids=["end", "Ctrl-C"]
)
def test_the_process_ends_with_waits_pending(manager, backend, then):
    """In about a second, and without a word."""
    code = textwrap.dedent(WAITS).format(
        address=manager.address, backend=backend, then=then, names=()
    )
    with subprocess.Popen(
        [sys.executable, "-W", "default", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n", process.communicate()[1]
        start = time.monotonic()
        if "forever" in then:
            process.send_signal(2)
        output = process.communicate(timeout=30)
        took = time.monotonic() - start
    assert output == ("", "")
    assert process.returncode == 0
    assert took < 5, took


LEFT = """
import asyncio
import aiomanager
from tests.support import objects

manager = objects.Manager({address!r}, objects.KEY)
manager.connect()

async def main():
    barrier, gate = aiomanager.wrap(manager.Barrier(2)), aiomanager.wrap(manager.Gate())
    lock = aiomanager.wrap(manager.Lock())
    await lock.acquire()
    tasks = [asyncio.create_task(wait()) for wait in
             (lock.acquire, barrier.wait, gate.pass_through)]
    while not (await barrier.n_waiting() and await gate.waiting()):
        pass
    return tasks

tasks = asyncio.new_event_loop().run_until_complete(main())
print("left", flush=True)
"""


def test_the_process_ends_though_the_event_loop_was_left(manager):
    """With tasks that nobody cancelled, and threads that wait for the host on their behalf."""
    with subprocess.Popen(
        [sys.executable, "-c", LEFT.format(address=manager.address)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "left\n"
        assert process.wait(timeout=10) == 0


# -- the thread transport's part ------------------------------------------------------------
class ScriptedConnection:
    """Answers each request with the next of its replies."""

    def __init__(self, *replies: Any) -> None:
        self.requests: list[Any] = []
        self.closed = threading.Event()
        self._replies = list(replies)

    def send(self, parts: Any, timeout: float | None = None) -> None:
        self.requests.append(parts)

    def receive(self, timeout: float | None) -> Any:
        return self._replies.pop(0)

    def received(self) -> None:
        return None

    def greet(self, *_: object) -> Any:
        raise AssertionError("it was greeted before")

    def is_alive(self) -> bool:
        return not self.closed.is_set()

    def close(self) -> None:
        self.closed.set()


class LateConnection(ThreadConnection):
    """A connection whose worker thread starts when nobody waits for it any more."""

    async def _in_thread(self, call: Any) -> Any:
        self.start_at_last = call
        await anyio.sleep_forever()


def exchange(request: str) -> Conversation[str]:
    """Say something and return the answer."""
    return str((yield [request.encode()]))


@pytest.mark.anyio
async def test_a_conversation_whose_thread_starts_too_late():
    """It does not begin, what has to be said is said, and the thread is not held up."""
    scripted = ScriptedConnection("said")
    connection = LateConnection(scripted, Address("unix", "/nowhere"), anyio.CapacityLimiter(1))
    settled = []

    def settle(outcomes):
        settled.append(list(outcomes))
        return exchange("last words")

    with anyio.move_on_after(0.01):
        await connection.converse_with_cleanup(exchange("never"), None, settle)
    await wait_until(scripted.closed.is_set, description="the connection is closed")
    assert settled == [[]]
    thread = threading.Thread(target=connection.start_at_last)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    assert scripted.requests == [[b"last words"]]
