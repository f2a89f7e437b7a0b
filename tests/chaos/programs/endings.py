"""A program whose gets are given up at any instant, and that ends at any instant by every way short
of a kill, by an interpreter's own exit and not by `os._exit`.

python -m tests.chaos.programs.endings LOG OPTIONS_AS_JSON
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import trio

import aiomanager
from tests.chaos.defects import apply_defect
from tests.chaos.logs import Log
from tests.chaos.programs.clients import connected, run
from tests.chaos.programs.consumers import delivered, settled
from tests.chaos.programs.stock import proxy_of

WAYS = ("returns", "raises", "exits", "interrupted", "loop closed", "thread left")
EXIT_CODES = {"raises": 1, "exits": 3, "interrupted": None}
GETTERS = 3

Options = dict[str, Any]
_kept: list[Any] = []


class _Ending(Exception):
    """What a program may end with."""


def main() -> None:
    """Run, and end in the `way` of the options."""
    options = json.loads(sys.argv[2])
    log = Log(Path(sys.argv[1]))
    apply_defect(options)
    proxy = proxy_of(options) if options["by"] == "wrap" else None
    way = options["way"]
    log.write("ready", **{name: options[name] for name in ("way", "by", "backend", "transport")})
    if way == "loop closed":
        loop = asyncio.new_event_loop()
        loop.run_until_complete(_leave_pending(log, options, proxy))
        loop.close()
        log.write("interrupted")  # an ack may have been under way
    elif way == "thread left":
        over = threading.Event()
        threading.Thread(target=_stay, args=(log, options, proxy, over), daemon=True).start()
        over.wait()
    else:
        try:
            run(options, lambda: _work(log, options, proxy))
        except _Ending:
            sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 - its traceback is no news
            raise
    gc.freeze()  # what is kept stays to the end


@asynccontextmanager
async def _queue(options: Options, proxy: Any) -> AsyncIterator[Any]:
    if proxy is not None:
        queue = aiomanager.wrap(proxy)
        _kept.append(queue)
        yield queue
        return
    async with connected(options) as manager:
        yield manager.queue(options["queue"])


async def _work(log: Log, options: Options, proxy: Any) -> None:
    """Get and give up for a while, then end."""
    rng = random.Random(options["seed"])
    async with _queue(options, proxy) as queue, anyio.create_task_group() as group:
        for _ in range(GETTERS):
            group.start_soon(_get_and_give_up, log, queue, rng)
        if options["way"] == "interrupted":
            await anyio.sleep_forever()
        await anyio.sleep(rng.uniform(0, options["longest"]))
        group.cancel_scope.cancel()
        if options["way"] == "raises":
            raise _Ending
        if options["way"] == "exits":
            sys.exit(3)


async def _leave_pending(log: Log, options: Options, proxy: Any) -> None:
    """The same in tasks that nobody ends, and no manager is closed."""
    rng = random.Random(options["seed"])
    context = _queue(options, proxy)
    _kept.append(context)
    queue = await context.__aenter__()
    for _ in range(GETTERS):
        _kept.append(asyncio.ensure_future(_get_and_give_up(log, queue, rng)))
    await asyncio.sleep(rng.uniform(0, options["longest"]))


def _stay(log: Log, options: Options, proxy: Any, over: threading.Event) -> None:
    async def stay() -> None:
        rng = random.Random(options["seed"])
        async with _queue(options, proxy) as queue, anyio.create_task_group() as group:
            scope, done = anyio.CancelScope(), anyio.Event()

            async def get() -> None:
                with scope:
                    await _get_and_give_up(log, queue, rng)
                done.set()

            group.start_soon(get)
            await anyio.sleep(rng.uniform(0, options["longest"]))
            # A get that returned in a daemon's last moment would be its own.
            scope.cancel()
            await done.wait()
            over.set()
            await anyio.sleep_forever()

    run(options, stay)


# Trio lets SIGINT end a program between any two instructions, what has been returned with it.
@trio.lowlevel.enable_ki_protection
async def _get_and_give_up(log: Log, queue: Any, rng: random.Random) -> None:
    """Get items, which takes as long as it may, or somewhat longer."""
    while True:
        with anyio.move_on_after(rng.choice((0.0, 0.002, 0.01, 0.05))):
            message = await queue.get()
            # Without a pause up to here, so that what has been returned is never in doubt.
            delivered(log, message, taken=True)
            log.write("processed", id=message["id"])
            with anyio.CancelScope(shield=True):
                await settled(log, message, queue.task_done)


if __name__ == "__main__":
    main()
