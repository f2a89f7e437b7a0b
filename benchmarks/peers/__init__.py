"""The peers: everything that a user might pick to get an item from one process to another."""

from __future__ import annotations

import importlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import anyio

T = TypeVar("T")


class Peer(AbstractAsyncContextManager["Peer"], ABC):
    """A queue whose other end is in another process; opened in `async with`."""

    # How many puts or gets it can have under way; 1 where each blocks the event loop.
    most_at_once: int = sys.maxsize

    @abstractmethod
    async def put(self, item: Any) -> None: ...

    @abstractmethod
    async def get(self) -> Any: ...

    async def turn(self, count: int) -> None:
        """After `count` puts: make the items ready to be got, where no host does that."""


@dataclass(frozen=True)
class Entry:
    """A peer in the tables.

    Attributes:
        place: module and class.
        needs: modules that it cannot do without.
        backend: "asyncio", "uvloop" or "trio".
    """

    label: str
    place: str
    needs: Sequence[str] = ()
    backend: str = "asyncio"
    options: Mapping[str, Any] = field(default_factory=dict)

    def open(self, **options: Any) -> Peer:
        module, _, name = self.place.partition(":")
        made: Peer = getattr(importlib.import_module(f"benchmarks.peers.{module}"), name)(
            **self.options, **options
        )
        return made


OURS = "ours"
THREAD = "ours-thread"
BLOCKING = "blocking"

PEERS: Mapping[str, Entry] = {
    OURS: Entry("aiomanager, stream transport", "ours:Ours"),
    THREAD: Entry("aiomanager, thread transport", "ours:Ours", options={"transport": "thread"}),
    "ours-uvloop": Entry("aiomanager, uvloop", "ours:Ours", ["uvloop"], "uvloop"),
    "ours-trio": Entry("aiomanager, trio", "ours:Ours", ["trio"], "trio"),
    BLOCKING: Entry("blocking proxy", "managers:BlockingProxy"),
    "blocking-ours": Entry("blocking proxy, aiomanager's host", "managers:BlockingProxyAtOurs"),
    "to-thread": Entry("asyncio.to_thread", "managers:AsyncioToThread"),
    "anyio": Entry("anyio.to_thread", "managers:AnyioToThread"),
    "aioprocessing": Entry(
        "aioprocessing's AioManager", "managers:Aioprocessing", ["aioprocessing"]
    ),
    "mp-queue": Entry("multiprocessing.Queue, blocking", "managers:MultiprocessingQueue"),
    "redis": Entry("redis-py asyncio, list", "redis:RedisList", ["redis"]),
    "zmq": Entry("pyzmq asyncio, push/pull", "zmq:PushPull", ["zmq"]),
    "echo": Entry("floor: asyncio socket echo", "echo:Echo"),
}


def run(key: str, work: Callable[[Peer], Awaitable[T]], **options: Any) -> T:
    """Open a peer on its event loop, do the work with it, and return what that returns."""
    entry = PEERS[key]

    async def main() -> T:
        async with entry.open(**options) as peer:
            return await work(peer)

    if entry.backend == "trio":
        return anyio.run(main, backend="trio")
    return anyio.run(main, backend_options={"use_uvloop": entry.backend == "uvloop"})
