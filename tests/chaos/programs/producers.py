"""A program that puts, by every way there is to put, and says what it knows of each."""

from __future__ import annotations

import random
from typing import Any

import anyio

from aiomanager import AsyncQueue, ConnectionLostError, QueueFull, QueueShutDown
from tests.chaos.logs import Log
from tests.chaos.messages import SIZES, Maker, Message, described
from tests.chaos.programs.clients import connected, run, until_told


def producer(log: Log, options: dict[str, Any]) -> None:
    """Put `count` messages (None: until told) with a `pause` of up to so many seconds between."""
    run(options, lambda: until_told(lambda: _produce(log, options)))


async def _produce(log: Log, options: dict[str, Any]) -> None:
    rng = random.Random(options["seed"])
    maker = Maker(options["name"], rng, options.get("sizes", SIZES))
    left = options.get("count")
    async with connected(options) as manager:
        queue = manager.queue(options["queue"])
        log.write("ready")
        while left is None or left > 0:
            batch = rng.choice((1, 1, 1, options.get("batch", 20)))
            batch = batch if left is None else min(batch, left)
            if not await put(log, queue, [maker.next() for _ in range(batch)]):
                return
            left = None if left is None else left - batch
            await anyio.sleep(rng.uniform(0, options.get("pause", 0)))


async def put(log: Log, queue: AsyncQueue[Message], messages: list[Message]) -> bool:
    """Put messages and log what became of them; False where the queue was shut down. Cancelled,
    that is unknown."""
    operation = log.attempt("put", **described(messages))
    try:
        if len(messages) > 1:
            await queue.put_many(messages)
        else:
            await queue.put(messages[0])
    except QueueFull as exc:
        log.write("fail", op=operation, first=exc.accepted, why=str(exc))
    except ConnectionLostError as exc:
        outcome = "fail" if exc.outcome_known and len(messages) == 1 else "unknown"
        log.write(outcome, op=operation, why=str(exc))
    except QueueShutDown as exc:
        log.write("fail" if len(messages) == 1 else "unknown", op=operation, why=str(exc))
        return False
    except BaseException as exc:
        log.write("unknown", op=operation, why=type(exc).__name__)
        raise
    else:
        log.write("ok", op=operation)
    return True
