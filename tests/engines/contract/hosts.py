"""The hosts that the contract is tried on. Each is a process of its own, started once and shared
by all tests; each test has queues of its own in it."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import queue
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import managers
from typing import Any, cast

import psutil
import pytest

import aiomanager
from aiomanager.engines.base import Promises, QueueEngine
from aiomanager.engines.hosted import HostedEngine
from aiomanager.engines.memory import MemoryEngine
from aiomanager.engines.stock.engine import StockEngine
from tests.engines.contract.own_engines import CLIENTS, EngineManager
from tests.support.hosts import KEY, session_of

# Stock: the standard library's own manager, with each of its two kinds of queue. Those behind are
# engines of the tests' own: see own_engines.py.
ENGINES: Mapping[str, type[QueueEngine]] = {
    "memory": MemoryEngine,
    "ours": HostedEngine,
    "stock-queue": StockEngine,
    "stock-joinable": StockEngine,
    **{kind: client.engine for kind, client in CLIENTS.items()},
}
KINDS = tuple(ENGINES)
WITHOUT_PROCESS = {"memory", *CLIENTS}  # each test has a host of its own
TRANSPORTS = ("stream", "thread")

# How many queues of each maxsize a host has: more than there are tests that want one.
QUEUES: Mapping[int, int] = {0: 1000, 1: 150, 2: 250, 3: 150}

# Short, so that nobody waits long for the end of a slice; see `connect`.
WAIT_SLICE = 0.05

_memory_numbers = itertools.count()


def queue_names(counts: Mapping[int, int]) -> dict[str, int]:
    """The names of the queues, and the maxsize of each."""
    return {
        f"of_{maxsize}_number_{number}": maxsize
        for maxsize, count in counts.items()
        for number in range(count)
    }


class StockManager(managers.BaseManager):
    """Serves `queue.Queue`."""


class JoinableManager(managers.BaseManager):
    """Serves `multiprocessing.JoinableQueue`."""


_served: dict[str, Any] = {}  # in the host process


def _serve(name: str, maxsize: int, *, joinable: bool) -> Any:
    if name not in _served:
        make: Any = multiprocessing.JoinableQueue if joinable else queue.Queue
        _served[name] = make(maxsize)
    return _served[name]


def _no_queue() -> dict[str, int]:
    return {}


for _manager in (StockManager, JoinableManager):
    for _name, _maxsize in queue_names(QUEUES).items():
        _manager.register(
            _name, partial(_serve, _name, _maxsize, joinable=_manager is JoinableManager)
        )
    _manager.register("no_queue", _no_queue)


class OurManager(aiomanager.QueueManager):
    """A host of ours, with something beside its queues."""


OurManager.register("no_queue", _no_queue)


@dataclass
class Host:
    """A host, and what it can do.

    Attributes:
        counts: how many queues of each maxsize it has.
        process: None where it has none, and each test has a host of its own.
    """

    kind: str
    address: Any = None
    process: psutil.Process | None = None
    counts: Mapping[int, int] = field(default_factory=lambda: QUEUES)
    _unused: dict[int, Iterator[str]] = field(default_factory=dict)

    @property
    def engine(self) -> type[QueueEngine]:
        """The engine of its queues."""
        return ENGINES[self.kind]

    @property
    def promises(self) -> Promises:
        """What its engine promises: what the tests ask for."""
        return self.engine.promises

    @property
    def is_stock(self) -> bool:
        """Whether it is one of the standard library's, where a call waits to the end of its slice
        whoever has left, and each item is a message of its own."""
        return self.kind.startswith("stock")

    @property
    def can_shut_down(self) -> bool:
        """Whether its queues have a `shutdown`."""
        if self.promises.shutdown is None:
            return self.kind == "stock-queue" and sys.version_info >= (3, 13)
        return self.promises.shutdown

    @property
    def has_address(self) -> bool:
        """Whether `connect` reaches it from another process, with a key."""
        return self.kind not in WITHOUT_PROCESS

    @property
    def shows_at_once(self) -> bool:
        """Whether what was put is there when the put has returned. A JoinableQueue has a thread
        that brings it there."""
        return self.kind != "stock-joinable"

    def name(self, maxsize: int = 0) -> str:
        """The name of a queue that nobody has used. Skips the test where it wants a bound and there
        is none."""
        if maxsize and self.promises.bound is None:
            pytest.skip("its queues have no bound")
        if maxsize not in self._unused:
            self._unused[maxsize] = iter(queue_names({maxsize: self.counts[maxsize]}))
        return next(self._unused[maxsize])


def without_process(kind: str, path: str) -> Host:
    """A host of one test's own; `path` is for what it keeps."""
    counts = dict.fromkeys(QUEUES, 4)
    address = f"memory://{next(_memory_numbers)}" if kind == "memory" else path
    return Host(kind, address, counts=counts)


@contextlib.contextmanager
def running(kind: str, address: Any = None) -> Iterator[Host]:
    """A host process."""
    context: Any = multiprocessing.get_context("forkserver")
    manager: Any
    if kind == "ours":
        manager = OurManager(address, KEY, queues=queue_names(QUEUES), ctx=context)
    else:
        stock = StockManager if kind == "stock-queue" else JoinableManager
        manager = stock(address, KEY, ctx=context)
    manager.start()
    try:
        process = manager._process
        yield Host(kind, manager.address, psutil.Process(process.pid))
    finally:
        manager.shutdown()


@dataclass
class Place:
    """Where one test takes place: a host, and the transport to it."""

    host: Host
    transport: Any

    def connect(self, **options: Any) -> aiomanager.AsyncManager:
        """Another client of the host."""
        if self.host.kind in CLIENTS:
            names = queue_names(self.host.counts)
            # It has all of a manager that the tests of the contract use.
            client = CLIENTS[self.host.kind]
            manager: Any = EngineManager(client, self.host.address, names)
            return cast("aiomanager.AsyncManager", manager)
        if self.host.kind == "memory":
            return aiomanager.connect(
                self.host.address, queues=queue_names(self.host.counts), **options
            )
        return aiomanager.connect(
            self.host.address,
            KEY,
            **{"transport": self.transport, "wait_slice": WAIT_SLICE, **options},
        )

    def lose(self, manager: Any) -> None:
        """Let a client be gone, as if it had been killed: its leases have ended, or soon have."""
        if self.host.kind == "memory":
            manager._client.client.close("gone")
        elif self.host.kind == "ours":
            connection = session_of(manager).connection
            assert connection is not None
            connection.close()
        else:
            manager.lose()
