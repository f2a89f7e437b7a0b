"""A program with many gets that wait, until one of them brings an item.

    python waiting_gets.py LOOP LANE ADDRESS QUEUE COUNT

It writes how many threads it has while all of them wait, and what came. Then it ends, although the
others wait still. The key is in `$AIOMANAGER_AUTHKEY`.
"""

from __future__ import annotations

import sys
from typing import Any

import anyio
import psutil

import aiomanager


async def wait(transport: Any, address: str, name: str, count: int) -> None:
    """Wait with `count` gets until one of them has an item."""
    async with aiomanager.connect(address, transport=transport) as manager:
        queue: aiomanager.AsyncQueue[object] = manager.queue(name)
        async with anyio.create_task_group() as group:

            async def get() -> None:
                say("got", await queue.get())
                group.cancel_scope.cancel()

            for _ in range(count):
                group.start_soon(get)
            await anyio.wait_all_tasks_blocked()
            say("threads", psutil.Process().num_threads())


def say(*words: object) -> None:
    """Write a line that is read at once."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def main(loop: str, transport: str, address: str, name: str, count: str) -> None:
    """Run, and end after Ctrl-C as a shell expects it."""
    backend = "trio" if loop == "trio" else "asyncio"
    options = {"use_uvloop": True} if loop == "uvloop" else {}
    try:
        anyio.run(
            wait, transport, address, name, int(count), backend=backend, backend_options=options
        )
    except* KeyboardInterrupt:  # trio's comes in a group
        say("interrupted")
        sys.exit(130)


if __name__ == "__main__":
    main(*sys.argv[1:])
