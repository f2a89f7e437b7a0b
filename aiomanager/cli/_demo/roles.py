"""The processes of the demonstration beside the host: producer, consumer, terminator.

Each is started with its role and the number of items, and finds the host by its environment. On
standard output it tells a line at a time that it is ready, and how many items it has come to.
"""

from __future__ import annotations

import sys

import aiomanager
from aiomanager import AsyncQueue, connect

from .. import _standard
from .._running import run_to_code

QUEUE = "jobs"
READY = "ready"

# How many items are put at once, and how many are handled at once.
TOGETHER = 100


async def produce(jobs: AsyncQueue[int | None], items: int) -> None:
    """Put the numbers, once somebody says go."""
    await _standard.read()
    for start in range(0, items, TOGETHER):
        end = min(start + TOGETHER, items)
        await jobs.put_many(range(start, end))
        _tell(end)


async def consume(jobs: AsyncQueue[int | None], _items: int) -> None:
    """Count until the sentinel comes. A number that comes again does not count again."""
    seen: set[int | None] = set()

    async def handle(number: int | None) -> None:
        seen.add(number)
        if len(seen) % TOGETHER == 0:
            _tell(len(seen))

    await aiomanager.consume(jobs, handle, concurrency=TOGETHER)
    _tell(len(seen))


async def terminate(jobs: AsyncQueue[int | None], _items: int) -> None:
    """Put the sentinel."""
    await jobs.put(None)


ROLES = {"consumer": consume, "producer": produce, "terminator": terminate}


def main() -> None:
    """Play the role that the arguments name: role, address, number of items."""
    role, address, items = sys.argv[1:]

    async def play() -> None:
        async with connect(address) as manager:
            _tell(READY)
            await ROLES[role](manager.queue(QUEUE), int(items))

    sys.exit(run_to_code(play))


def _tell(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()
