"""Engines of the tests' own, and what the suite needs of one: a module `tests/engines/KIND.py` with
a class `Client`, which stands for one client of one host.

The suite has several clients of one host in one process and one event loop, each in an `async with`
block; it closes them while calls wait, uses queues of them after that, and lets one go away without
a word. The host is no more than an address, a path at which there is nothing at first; where an
engine promises to be `durable`, it is opened again with other clients after the first have gone.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol, Self, cast

import anyio

from aiomanager import AsyncQueue, ConfigurationError
from aiomanager._concurrency.futures import run_to_completion
from aiomanager._queue.prefetching import PREFETCH
from aiomanager.engines.base import QueueEngine

# Each is tried as soon as its module is there.
MODULES = ("directory", "documented")


class Client(Protocol):
    """One client of a host, as the module of an engine has it.

    Args:
        address: where the host is, or comes into being.
        queues: name to maxsize, 0 for no bound; all clients of a host are given the same.

    Attributes:
        engine: the class of its queues.
    """

    engine: type[QueueEngine]

    def __init__(self, address: str, queues: Mapping[str, int]) -> None: ...

    def queue(self, name: str) -> QueueEngine:
        """A queue of the running event loop. The suite asks for names that are in `queues`."""
        ...

    async def aclose(self) -> None:
        """Go: called when `QueueEngine.aclose` was, for each queue. What is leased still goes to
        others now; all calls, also those that wait, raise a `ConnectionLostError` that says
        "closed"."""
        ...

    def lose(self) -> None:
        """Go without a word, as a client that is killed: what it has leased goes to others as soon
        as the promised lease has ended, which may be made to be now. Its calls may do anything but
        settle. Asked for only where a lease is promised."""
        ...


def modules() -> dict[str, type[Client]]:
    """The clients of all engines that are there, by kind."""
    return {
        kind: importlib.import_module(f"tests.engines.{kind}").Client
        for kind in MODULES
        if importlib.util.find_spec(f"tests.engines.{kind}") is not None
    }


CLIENTS = modules()


class EngineManager:
    """What a test uses of an `AsyncManager`, for the queues of an engine."""

    def __init__(self, client: type[Client], address: str, queues: Mapping[str, int]) -> None:
        self._make = partial(client, address, queues)
        self._names = queues
        self._client: Client | None = None
        self._queues: dict[str, AsyncQueue[Any]] = {}

    async def __aenter__(self) -> Self:
        self._client = self._make()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the queues, and then the client, whatever is cancelled meanwhile."""
        with anyio.CancelScope(shield=True):
            await run_to_completion(self._close)

    def queue(self, name: str, sentinel: Any = None, prefetch: int = PREFETCH) -> AsyncQueue[Any]:
        """A queue, the same one each time."""
        if self._client is None:
            raise ConfigurationError("not connected: use `async with`")
        if name not in self._queues:
            make = partial(self._engine, self._client, name)
            self._queues[name] = AsyncQueue(make, name, sentinel, prefetch)
        return self._queues[name]

    def lose(self) -> None:
        """Be gone."""
        cast("Client", self._client).lose()

    async def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            for queue in self._queues.values():
                await queue.aclose()
            await client.aclose()

    def _engine(self, client: Client, name: str) -> QueueEngine:
        if name not in self._names:
            raise ConfigurationError(f"no queue is registered here as {name!r}")
        return client.queue(name)
