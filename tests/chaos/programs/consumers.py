"""Programs that receive, by every way there is to receive, and the one that waits for the end."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio

import aiomanager
from aiomanager import AsyncQueue, ConnectionLostError, LeaseLostError, QueueShutDown
from tests.chaos.logs import Log
from tests.chaos.messages import Message, digest
from tests.chaos.programs.clients import connected, run, until_told

Options = dict[str, Any]
Work = Callable[[], Awaitable[None]]


def consumer(log: Log, options: dict[str, Any]) -> None:
    """Receive by the `kind` of the options until told or until the queue is shut down, with
    `work` up to so many seconds for each message, or until the file `work_until` is there, or for
    ever where `hold` is set."""
    kind = KINDS[options["kind"]]
    rng = random.Random(options["seed"])

    async def work() -> None:
        if options.get("hold"):
            await anyio.sleep_forever()
        while "work_until" in options and not Path(options["work_until"]).exists():
            await anyio.sleep(0.01)
        await anyio.sleep(rng.uniform(0, options.get("work", 0)))

    async def main() -> None:
        async with connected(options) as manager:
            queue = manager.queue(options["queue"])
            log.write("ready")
            await kind(log, queue, work, options)

    async def main_or_lost() -> None:
        try:
            await main()
        except ConnectionLostError as exc:
            if not options.get("may_lose_host"):
                raise
            log.write("lost", why=str(exc))

    run(options, lambda: until_told(main_or_lost))


def joiner(log: Log, options: dict[str, Any]) -> None:
    """Wait until the queue is done, once."""

    async def main() -> None:
        async with connected(options) as manager:
            operation = log.attempt("join")
            await manager.queue(options["queue"]).join()
            log.write("ok", op=operation)

    run(options, lambda: until_told(main))


async def _get(log: Log, queue: AsyncQueue[Message], work: Work, options: Options) -> None:
    while True:
        try:
            message = await queue.get()
        except QueueShutDown:
            return
        except ConnectionLostError:
            if not options.get("persist"):
                raise
            continue
        delivered(log, message, taken=True)
        await work()
        log.write("processed", id=message["id"])
        await settled(log, message, queue.task_done)


async def _iterate(log: Log, queue: AsyncQueue[Message], work: Work, options: Options) -> None:
    async for message in queue:
        delivered(log, message)
        await work()
        log.write("processed", id=message["id"])


async def _deliveries(log: Log, queue: AsyncQueue[Message], work: Work, options: Options) -> None:
    async for delivery in queue.deliveries():
        message = delivery.item
        delivered(log, message, attempt=delivery.attempt)
        await work()
        log.write("processed", id=message["id"])
        await settled(log, message, delivery.ack)


async def _consume(log: Log, queue: AsyncQueue[Message], work: Work, options: Options) -> None:
    async def handle(message: Message) -> None:
        delivered(log, message)
        await work()
        log.write("processed", id=message["id"])

    await aiomanager.consume(
        queue, handle, concurrency=options.get("concurrency", 3), drain_timeout=0
    )


KINDS = {"get": _get, "iterate": _iterate, "deliveries": _deliveries, "consume": _consume}
# Those that lose nothing when they are killed at work.
LEASING = ("iterate", "deliveries", "consume")


def delivered(
    log: Log, message: Message, *, attempt: int | None = None, taken: bool = False
) -> None:
    """Log that a message is here."""
    log.write("delivered", id=message["id"], sha=digest(message), attempt=attempt, taken=taken)


async def settled(log: Log, message: Message, settle: Callable[[], Awaitable[None]]) -> None:
    """Say that a message is done, and log what came of that."""
    operation = log.attempt("ack", id=message["id"])
    try:
        await settle()
    except (LeaseLostError, ValueError) as exc:
        # A host that was restarted knows of nothing that was taken before: ValueError.
        log.write("fail", op=operation, why=type(exc).__name__)
    except ConnectionLostError as exc:
        log.write("unknown", op=operation, why=str(exc))
    except BaseException as exc:
        log.write("unknown", op=operation, why=type(exc).__name__)
        raise
    else:
        log.write("ok", op=operation)
