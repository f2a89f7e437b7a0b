"""Programs whose calls are cancelled or interrupted, and which go on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import trio

from aiomanager import AsyncQueue, QueueEmpty
from tests.chaos.logs import Log
from tests.chaos.messages import SMALL, Maker, Message
from tests.chaos.programs.clients import connected, run
from tests.chaos.programs.consumers import delivered, settled
from tests.chaos.programs.producers import put

Calls = dict[str, Callable[[], Awaitable[None]]]
EVERY_CALL = ("put", "put_many", "get", "get", "get_now", "ack", "ack", "nack", "join", "qsize")


class Caller:
    """Makes calls, each of which may be ended at any instant, and logs what it knows of each."""

    def __init__(
        self, log: Log, queue: AsyncQueue[Message], maker: Maker, rng: random.Random
    ) -> None:
        self._log = log
        self._queue = queue
        self._maker = maker
        self._rng = rng

    async def call(self, name: str) -> None:
        """Make a call by its name."""
        await getattr(self, f"_{name}")()

    async def _put(self) -> None:
        await put(self._log, self._queue, [self._maker.next()])

    async def _put_many(self) -> None:
        await put(self._log, self._queue, [self._maker.next() for _ in range(2)])

    # Trio lets SIGINT end a program between any two instructions. What was taken already would be
    # lost with it, and rightly, but nobody could tell that from a loss on the way.
    @trio.lowlevel.enable_ki_protection
    async def _get(self) -> None:
        await self._done(await self._queue.get())

    @trio.lowlevel.enable_ki_protection
    async def _get_now(self) -> None:
        try:
            message = await self._queue.get_nowait()
        except QueueEmpty:
            return
        await self._done(message)

    async def _done(self, message: Message) -> None:
        # A reply that was somebody else's would not be a message.
        delivered(self._log, message, taken=True)
        self._log.write("processed", id=message["id"])
        await settled(self._log, message, self._queue.task_done)

    async def _ack(self) -> None:
        (delivery,) = await self._queue.get_deliveries(1)
        delivered(self._log, delivery.item, attempt=delivery.attempt)
        self._log.write("processed", id=delivery.item["id"])
        await settled(self._log, delivery.item, delivery.ack)

    async def _nack(self) -> None:
        (delivery,) = await self._queue.get_deliveries(1)
        delivered(self._log, delivery.item, attempt=delivery.attempt)
        await delivery.nack(delay=self._rng.choice((0.0, 0.003)))

    async def _join(self) -> None:
        operation = self._log.attempt("join")
        try:
            await self._queue.join()
        except BaseException:
            self._log.write("unknown", op=operation)
            raise
        self._log.write("ok", op=operation)

    async def _qsize(self) -> None:
        size: object = await self._queue.qsize()
        if not isinstance(size, int):
            self._log.write("error", why=f"qsize() returned {size!r}")


def canceller(log: Log, options: dict[str, Any]) -> None:
    """Make calls in several tasks, and cancel them, until `count` were."""
    rng = random.Random(options["seed"])
    left = options["count"]
    ways = _WAYS_OF_TRIO if options["backend"] == "trio" else _WAYS_OF_ASYNCIO

    async def work(caller: Caller) -> None:
        nonlocal left
        while left > 0:
            name = rng.choice(options["calls"])
            delay = rng.choice((0.0, *(rng.expovariate(rate) for rate in (2000, 300, 100, 50))))
            with anyio.fail_after(30):
                ended = await rng.choice(ways)(lambda name=name: caller.call(name), delay)  # type: ignore[misc]
            left -= ended

    async def main() -> None:
        async with connected(options) as manager:
            queue = manager.queue(options["queue"])
            async with anyio.create_task_group() as group:
                for number in range(options["tasks"]):
                    maker = Maker(f"{options['name']}-{number}", rng, SMALL)
                    group.start_soon(work, Caller(log, queue, maker, rng))

    run(options, main)


async def _by_scope(call: Callable[[], Awaitable[None]], delay: float) -> bool:
    with anyio.move_on_after(delay) as scope:
        await call()
    return scope.cancelled_caught


async def _by_timeout(call: Callable[[], Awaitable[None]], delay: float) -> bool:
    try:
        async with asyncio.timeout(delay):
            await call()
    except TimeoutError:
        return True
    return False


async def _by_wait_for(call: Callable[[], Awaitable[None]], delay: float) -> bool:
    try:
        await asyncio.wait_for(call(), delay)
    except TimeoutError:
        return True
    return False


async def _by_cancel(call: Callable[[], Awaitable[None]], delay: float) -> bool:
    task = asyncio.ensure_future(call())
    await asyncio.sleep(delay)
    task.cancel()
    await asyncio.wait([task])
    return task.cancelled()


_WAYS_OF_ASYNCIO = (_by_scope, _by_timeout, _by_wait_for, _by_cancel)
_WAYS_OF_TRIO = (_by_scope,)


def interrupted(log: Log, options: dict[str, Any]) -> None:
    """Make calls until SIGINT, which ends the event loop; then start another; `count` times, or
    until the file `enough` is there."""
    rng = random.Random(options["seed"])
    maker = Maker(options["name"], rng, SMALL)

    async def main() -> None:
        async with connected(options) as manager:
            caller = Caller(log, manager.queue(options["queue"]), maker, rng)
            log.write("calling")
            while True:
                with anyio.move_on_after(0.05):
                    await caller.call(rng.choice(options["calls"]))

    for _ in range(options["count"]):
        if Path(options["enough"]).exists():
            return
        try:
            run(options, main)
        except KeyboardInterrupt:
            log.write("interrupted")
