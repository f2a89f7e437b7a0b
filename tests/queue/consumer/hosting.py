"""The hosts that the tests of `consume` use, and what is true when all is done."""

from __future__ import annotations

import itertools
import multiprocessing
import queue as stdlib_queue
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.managers import BaseManager
from typing import Any

import anyio

import aiomanager
from aiomanager import AsyncManager, AsyncQueue, QueueManager

KEY = b"the key of these tests"


QUEUES = ("jobs", "failed")


STOCK_KINDS: dict[str, Callable[[], Any]] = {
    "queue.Queue": stdlib_queue.Queue,
    "JoinableQueue": multiprocessing.JoinableQueue,
}


_numbers = itertools.count()


_stock_queues: dict[str, Any] = {}


@dataclass(frozen=True)
class Hosting:
    """Where the queues of a test are."""

    kind: str
    address: Any
    manager: BaseManager | None = None

    @property
    def leases(self) -> bool:
        """Whether the host knows who has what."""
        return self.kind in ("memory", "ours")

    def connect(self, **options: Any) -> AsyncManager:
        """A new connection."""
        key = None if self.kind == "memory" else KEY
        return aiomanager.connect(self.address, key, wait_slice=0.1, **options)


def _stock_queue(make: Callable[[], Any], name: str) -> Any:
    """Runs in the host process, which keeps what it has made."""
    if name not in _stock_queues:
        _stock_queues[name] = make()
    return _stock_queues[name]


def _stock_manager(make: Callable[[], Any]) -> BaseManager:
    class StockManager(BaseManager):
        pass

    for name in QUEUES:
        StockManager.register(name, callable=partial(_stock_queue, make, name))
    manager = StockManager(authkey=KEY)
    manager.start()
    return manager


def serve(kind: str, **settings: Any) -> Iterator[Hosting]:
    """A host of a kind, which ends with the iteration."""
    if kind == "memory":
        yield Hosting(kind, f"memory://consumer-{next(_numbers)}")
        return
    manager: BaseManager
    if kind == "ours":
        manager = QueueManager(authkey=KEY, queues=dict.fromkeys(QUEUES, 0), **settings)
        manager.start()
    else:
        manager = _stock_manager(STOCK_KINDS[kind])
    try:
        yield Hosting(kind, manager.address, manager)
    finally:
        stop(manager)


def stop(manager: Any) -> None:
    """Shut a manager down, with its process and what this one holds of it."""
    process = manager._process
    manager.shutdown()
    process.close()


def watched(seen: list[Any]) -> Callable[[Any], Any]:
    """A handler that notes what it was given."""

    async def handler(item: Any) -> None:
        seen.append(item)

    return handler


async def assert_done(queue: AsyncQueue[Any]) -> None:
    """Everything that was put is done."""
    with anyio.fail_after(10):
        await queue.join()
    assert await queue.qsize() == 0
