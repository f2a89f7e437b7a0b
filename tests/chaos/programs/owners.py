"""Programs that start a host of their own and are killed: it must not outlive them."""

from __future__ import annotations

import multiprocessing
import threading
from multiprocessing.managers import BaseManager
from typing import Any

import anyio

import aiomanager
from tests.chaos.logs import Log
from tests.chaos.programs.clients import run


def owner(log: Log, options: dict[str, Any]) -> None:
    """Start a host in the `way` of the options, say which process it is, and wait for ever."""
    way = options["way"]
    if way == "embedded":
        run(options, lambda: _embed(log))
        return
    manager: BaseManager
    if way == "stock":
        manager = BaseManager(None, options["key"].encode())
    else:
        manager = aiomanager.QueueManager(
            None, options["key"], queues={options["queue"]: 0}, ctx=way
        )
    manager.start()
    (child,) = multiprocessing.active_children()
    log.write("owning", host=child.pid, address=manager.address)
    threading.Event().wait()


async def _embed(log: Log) -> None:
    async with aiomanager.host(queues={"jobs": 0}) as manager:
        log.write("owning", host=manager.host_pid, address=manager.address)
        await anyio.sleep_forever()
