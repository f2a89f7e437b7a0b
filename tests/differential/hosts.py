"""What the scenarios find at a host: all that `SyncManager` has, and what programs register beside
it. The same at the standard library's host and at ours."""

from __future__ import annotations

import asyncio
import collections
import importlib
import importlib.util
import itertools
import multiprocessing
import pickle
import queue
import threading
from functools import cache
from multiprocessing import managers, process
from multiprocessing.managers import BaseManager, BaseProxy, SyncManager
from typing import Any

import aiomanager

_managers: Any = managers  # the type stubs leave proxies out

# Queues that a host serves by name, each used by one scenario.
QUEUES = tuple(f"jobs_{number}" for number in range(400))


class Device:
    """An object whose methods raise and return what they are given."""

    def fail(self, error: BaseException) -> None:
        raise error

    def echo(self, value: Any) -> Any:
        return value

    def deep(self) -> None:
        self._deeper()

    def _deeper(self) -> None:
        raise ValueError("from the device")

    def thread(self) -> str:
        """Which thread serves this connection, at a stock host."""
        return threading.current_thread().name


class Picky(queue.Queue[Any]):
    """A queue that refuses some items, as a full disk would."""

    def _put(self, item: Any) -> None:
        if item == "bad":
            raise OSError(28, "no space left on device")
        super()._put(item)


class Unique(queue.Queue[Any]):
    """A queue with a method more, and whose `put` and `get` take less than others'."""

    def put(self, item: Any) -> None:  # type: ignore[override]
        if item in self.queue:
            raise ValueError(f"{item!r} is there already")
        super().put(item)

    def get(self) -> Any:  # type: ignore[override]
        return super().get()

    def waiting(self) -> list[Any]:
        return list(self.queue)


class Counter:
    """A user's class, with attributes and methods."""

    def __init__(self) -> None:
        self.value = 0

    def update(self, number: int) -> int:
        self.value += number
        return self.value


class CounterProxy(_managers.NamespaceProxy):  # type: ignore[misc]
    """Attributes as a namespace has them, and a method: as it is often written."""

    _exposed_ = ("__getattribute__", "__setattr__", "__delattr__", "update")

    def update(self, number: int) -> Any:
        """The object's own."""
        return call(self, "update", number)


class HandmadeProxy(BaseProxy):
    """A proxy of a queue, written by hand, that does not say what is exposed."""

    def put(self, item: Any) -> None:
        call(self, "put", item)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        return call(self, "get", block, timeout)

    def task_done(self) -> None:
        call(self, "task_done")

    def qsize(self) -> Any:
        return call(self, "qsize")


def call(proxy: Any, method: str, *args: Any) -> Any:
    """Call a method through a proxy of the standard library's."""
    return proxy._callmethod(method, args)


class Elsewhere:
    """An item that can be unpickled in no process that hosts something."""

    def __reduce__(self) -> Any:
        return _not_here, ()


def _not_here() -> Elsewhere:
    if getattr(process.current_process(), "_manager_server", None) is not None:
        raise pickle.UnpicklingError("there is no such class here")
    return Elsewhere()


@cache
def _one(kind: Any, *args: Any) -> Any:
    """The same object at each call, as programs register their queues."""
    return kind(*args)


def picky() -> Any:
    """The one queue of its kind."""
    return _one(Picky)


def unique() -> Any:
    """The one queue of its kind."""
    return _one(Unique)


def common_lock() -> Any:
    """The one lock for all."""
    return _one(threading.RLock)


def common_condition() -> Any:
    """The one condition for all."""
    return _one(threading.Condition)


class _Named:
    """Gives the queue of a name."""

    def __init__(self, name: str, kind: Any) -> None:
        self._name = name
        self._kind = kind

    def __call__(self) -> Any:
        return _queue(self._name, self._kind)


@cache
def _queue(name: str, kind: Any) -> Any:
    return kind()


_made = itertools.count(1)


def made() -> queue.Queue[Any]:
    """A new queue at each call, with the number of the call as its first item."""
    new: queue.Queue[Any] = queue.Queue()
    new.put(next(_made))
    return new


def by_name(name: str) -> Any:
    """A queue of several behind one registered function."""
    return {"fast": unique()}[name]


def square(number: int) -> int:
    """For a pool."""
    return number * number


def failing(number: int) -> None:
    """For a pool; always raises."""
    raise ArithmeticError(number)


def returns_an_error(number: int) -> Exception:
    """For a pool; returns an exception."""
    return ValueError(number)


def remember_tracebacks() -> None:
    """What a host runs first."""
    if importlib.util.find_spec("tblib") is not None:
        importlib.import_module("tblib.pickling_support").install()


# What people register for want of a queue, or take for one.
QUEUELIKE: dict[str, Any] = {
    "Simple": queue.SimpleQueue,
    "Pipe": multiprocessing.SimpleQueue,
    "Processes": multiprocessing.Queue,
    "Lifo": queue.LifoQueue,
    "Priority": queue.PriorityQueue,
    "Deque": collections.deque,
    "OfALoop": asyncio.Queue,
}


class StockHost(SyncManager):
    """The standard library's, with `queue.Queue`s."""


class JoinableHost(SyncManager):
    """The standard library's, with `multiprocessing.JoinableQueue`s."""


class OurHost(aiomanager.QueueManager):
    """Ours: its named queues are its own, everything else is an object beside them."""


def _register(host: type[BaseManager]) -> None:
    host.register("Device", Device)
    host.register("picky", picky)
    host.register("unique", unique)
    host.register("Counter", Counter, CounterProxy)
    host.register("Handmade", queue.Queue, HandmadeProxy)
    host.register("common_lock", common_lock, _managers.AcquirerProxy)
    host.register("common_condition", common_condition, _managers.ConditionProxy)
    host.register("made", made)
    for name, kind in QUEUELIKE.items():
        host.register(name, kind)
    host.register("by_name", by_name)


for _host in (StockHost, JoinableHost, OurHost):
    _register(_host)
for _name in QUEUES:
    StockHost.register(_name, _Named(_name, queue.Queue))
    JoinableHost.register(_name, _Named(_name, multiprocessing.JoinableQueue))
_all: Any = SyncManager
for _typeid, (_callable, _exposed, _methods, _proxytype) in _all._registry.items():
    OurHost.register(
        _typeid,
        _callable,
        _proxytype,
        _exposed,
        _methods,
        create_method=hasattr(SyncManager, _typeid),
    )

# What a client of the standard library's has to know, of names that a host gives a proxy type.
PROXIES: dict[str, Any] = {
    "Counter": CounterProxy,
    "common_lock": _managers.AcquirerProxy,
    "common_condition": _managers.ConditionProxy,
}

HOSTS: dict[str, Any] = {"stock": StockHost, "joinable": JoinableHost, "ours": OurHost}


def start(kind: str) -> Any:
    """Start a host, whose key is this process's own, as that of `Manager()` is."""
    # Not the forkserver, of which a host would start another for its pools.
    context = multiprocessing.get_context("spawn")
    options: dict[str, Any] = {"queues": dict.fromkeys(QUEUES, 0)} if kind == "ours" else {}
    host = HOSTS[kind](None, bytes(process.current_process().authkey), ctx=context, **options)
    host.start(remember_tracebacks)
    return host
