"""A program that ends with gets pending, by an interpreter's own exit and not by `os._exit`.

python -m tests.chaos.programs.exits LOG OPTIONS_AS_JSON
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from tests.chaos.logs import Log
from tests.chaos.programs.clients import connected, run

GETTERS = 20


def main() -> None:
    """Leave the gets in the `way` of the options."""
    options = json.loads(sys.argv[2])
    log = Log(Path(sys.argv[1]))
    run(options, lambda: _WAYS[options["way"]](log, options))


async def _in_the_block(log: Log, options: dict[str, Any]) -> None:
    """`sys.exit` in a task, inside the manager's block."""
    async with connected(options) as manager:
        await _pend(manager, options)
        log.write("exiting")
        sys.exit(0)


async def _out_of_the_block(log: Log, options: dict[str, Any]) -> None:
    """The main task returns without having closed anything."""
    manager = connected(options)
    await _pend(await manager.__aenter__(), options)
    log.write("exiting")


async def _pend(manager: Any, options: dict[str, Any]) -> None:
    queue = manager.queue(options["queue"])
    # Native tasks, which no task group waits for.
    tasks = [asyncio.ensure_future(queue.get()) for _ in range(GETTERS)]
    _kept.extend(tasks)
    while not (await queue.statistics()).waiting_getters:
        await asyncio.sleep(0.001)


_kept: list[asyncio.Future[Any]] = []
_WAYS = {"in the block": _in_the_block, "out of the block": _out_of_the_block}

if __name__ == "__main__":
    main()
