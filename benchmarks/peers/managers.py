"""What the standard library has, and what wraps it: proxies of a manager, and its own queue."""

from __future__ import annotations

import asyncio
import multiprocessing
import queue
import secrets
from multiprocessing.managers import BaseManager
from types import TracebackType
from typing import Any, Self

import anyio.to_thread

import aiomanager

from . import Peer

# What the articles rely on, and what registering a function of this process needs.
FORK = multiprocessing.get_context("fork")


class StockManager(BaseManager):
    """A manager as a user writes one.

    Attributes:
        authkey: as given, for those who connect.
    """

    def __init__(self, address: Any, authkey: bytes, **options: Any) -> None:
        super().__init__(address, authkey, **options)
        self.authkey = authkey


def start_stock_host(queues: int = 1, address: tuple[str, int] | None = None) -> Any:
    """A stock host in a process of its own, with the queues `jobs0`, `jobs1` and so on; the
    manager, which is a client as well."""
    for number in range(queues):
        hosted: queue.Queue[Any] = queue.Queue()
        StockManager.register(f"jobs{number}", callable=lambda hosted=hosted: hosted)
    manager = StockManager(address, authkey=secrets.token_bytes(32), ctx=FORK)
    manager.start()
    return manager


class _Proxied(Peer):
    """Over a proxy of a stock host."""

    def __init__(self, address: tuple[str, int] | None = None) -> None:
        self._address = address

    async def __aenter__(self) -> Self:
        self._manager = start_stock_host(address=self._address)
        self._proxy = self._manager.jobs0()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._manager.shutdown()


class BlockingProxy(_Proxied):
    """The proxy as it is: one call after the other, and the event loop stands still."""

    most_at_once = 1

    async def put(self, item: Any) -> None:
        self._proxy.put(item)

    async def get(self) -> Any:
        return self._proxy.get()

    async def task_done(self) -> None:
        self._proxy.task_done()


class BlockingProxyAtOurs(BlockingProxy):
    """The same client, with our host in place of the stock one."""

    async def __aenter__(self) -> Self:
        self._manager = aiomanager.QueueManager(
            self._address, authkey=secrets.token_bytes(32), queues={"jobs": 0}
        )
        self._manager.start()
        self._proxy = self._manager.get_queue("jobs")
        return self


class AsyncioToThread(_Proxied):
    """A thread of asyncio's pool for each call."""

    async def put(self, item: Any) -> None:
        await asyncio.to_thread(self._proxy.put, item)

    async def get(self) -> Any:
        return await asyncio.to_thread(self._proxy.get)


class AnyioToThread(_Proxied):
    """A thread of anyio's for each call."""

    async def put(self, item: Any) -> None:
        await anyio.to_thread.run_sync(self._proxy.put, item)

    async def get(self) -> Any:
        return await anyio.to_thread.run_sync(self._proxy.get)

    def get_blocking(self) -> Any:
        """A get for a thread of the caller's."""
        return self._proxy.get()


class Aioprocessing(Peer):
    """aioprocessing's queue of a manager."""

    async def __aenter__(self) -> Self:
        import aioprocessing

        self._manager = aioprocessing.AioManager()
        self._queue = self._manager.AioQueue()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._manager.shutdown()

    async def put(self, item: Any) -> None:
        await self._queue.coro_put(item)

    async def get(self) -> Any:
        return await self._queue.coro_get()


class MultiprocessingQueue(Peer):
    """A pipe to another process and one back, with no host between. A put returns before the item
    has left this process: a thread writes it later."""

    most_at_once = 1

    async def __aenter__(self) -> Self:
        self._there: Any = FORK.Queue()
        self._back: Any = FORK.Queue()
        self._turned = FORK.Event()
        self._process = FORK.Process(
            target=_bounce, args=(self._there, self._back, self._turned), daemon=True
        )
        self._process.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._there.put(_END)
        self._process.join()

    async def put(self, item: Any) -> None:
        self._there.put(item)

    async def get(self) -> Any:
        return self._back.get()

    async def turn(self, count: int) -> None:
        self._turned.clear()
        self._there.put(_TURN)
        self._turned.wait()


_TURN = "turn"
_END = "end"


def _bounce(there: Any, back: Any, turned: Any) -> None:
    kept: list[Any] = []
    while (item := there.get()) != _END:
        if item != _TURN:
            kept.append(item)
            continue
        for item in kept:
            back.put(item)
        kept.clear()
        turned.set()
