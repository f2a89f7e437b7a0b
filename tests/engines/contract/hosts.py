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
from typing import Any

import psutil

import aiomanager
from tests.support.hosts import KEY

# Stock: the standard library's own manager, with each of its two kinds of queue.
KINDS = ("memory", "ours", "stock-queue", "stock-joinable")
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
        address: None for memory, where each test has a host of its own.
        process: None for memory.
    """

    kind: str
    address: Any = None
    process: psutil.Process | None = None
    counts: Mapping[int, int] = field(default_factory=lambda: QUEUES)
    _unused: dict[int, Iterator[str]] = field(default_factory=dict)

    @property
    def is_stock(self) -> bool:
        """Whether it knows neither leases nor statistics nor its maxsize, nor whose turn it is."""
        return self.kind.startswith("stock")

    @property
    def can_shut_down(self) -> bool:
        """Whether its queues have a `shutdown`."""
        return not self.is_stock or (self.kind == "stock-queue" and sys.version_info >= (3, 13))

    @property
    def shows_at_once(self) -> bool:
        """Whether what was put is there when the put has returned. A JoinableQueue has a thread
        that brings it there."""
        return self.kind != "stock-joinable"

    def name(self, maxsize: int = 0) -> str:
        """The name of a queue that nobody has used."""
        if maxsize not in self._unused:
            self._unused[maxsize] = iter(queue_names({maxsize: self.counts[maxsize]}))
        return next(self._unused[maxsize])


def memory() -> Host:
    """A host in this process."""
    counts = dict.fromkeys(QUEUES, 4)
    return Host("memory", f"memory://{next(_memory_numbers)}", counts=counts)


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
        if self.host.kind == "memory":
            return aiomanager.connect(
                self.host.address, queues=queue_names(self.host.counts), **options
            )
        return aiomanager.connect(
            self.host.address,
            KEY,
            **{"transport": self.transport, "wait_slice": WAIT_SLICE, **options},
        )
