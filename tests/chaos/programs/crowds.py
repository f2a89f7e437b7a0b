"""Many clients in one process: they connect all at once, or wait for a message each."""

from __future__ import annotations

import threading
import time
from typing import Any

import anyio

from aiomanager import AioManagerError
from tests.chaos.logs import Log
from tests.chaos.programs.clients import connected, run
from tests.chaos.programs.stock import LOST, proxy_of


def crowd(log: Log, options: dict[str, Any]) -> None:
    """`count` clients of ours, each with connections of its own, which connect at the time `at`
    and ask for something; the log has how long each took."""

    async def client() -> None:
        began = time.monotonic()
        try:
            async with connected(options) as manager:
                await manager.queue(options["queue"]).qsize()
                log.write("served", took=time.monotonic() - began)
                await over.wait()
        except AioManagerError as exc:
            log.write("refused", why=str(exc)[:200])

    async def main() -> None:
        await anyio.sleep(max(0.0, options["at"] - time.monotonic()))
        async with anyio.create_task_group() as group:
            for _ in range(options["count"]):
                group.start_soon(client)
            await anyio.sleep(max(0.0, options["stay"] - time.monotonic()))
            over.set()

    over = anyio.Event()
    run(options, main)


def stock_crowd(log: Log, options: dict[str, Any]) -> None:
    """The same with the standard library's clients, a thread each."""

    def client() -> None:
        began = time.monotonic()
        try:
            proxy_of(options).qsize()
            log.write("served", took=time.monotonic() - began)
            over.wait()
        except LOST as exc:
            log.write("refused", why=repr(exc))

    over = threading.Event()
    threads = [threading.Thread(target=client, daemon=True) for _ in range(options["count"])]
    time.sleep(max(0.0, options["at"] - time.monotonic()))
    for thread in threads:
        thread.start()
    time.sleep(max(0.0, options["stay"] - time.monotonic()))
    over.set()
