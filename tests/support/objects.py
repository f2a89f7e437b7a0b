"""What the tests' stock managers host, importable by their processes under any start method."""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import managers
from multiprocessing.managers import BaseProxy, SyncManager
from typing import Any

import aiomanager

KEY = b"a key that is not this process's"
SPAWN = multiprocessing.get_context("spawn")


class Counter:
    """A user's class."""

    def __init__(self, start: int = 0) -> None:
        self.value = start

    def add(self, number: int = 1, *, times: int = 1) -> int:
        self.value += number * times
        return self.value

    def fail(self) -> None:
        raise LookupError("as it was asked to")

    def unpicklable(self) -> Any:
        return threading.Lock()

    def child(self) -> Counter:
        return Counter(self.value)

    def hidden(self) -> None:
        raise AssertionError("not exposed")


class Gate:
    """Its `pass_through` blocks until somebody calls `open`."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._calls: list[int] = []  # a number would be counted by many threads at once

    def pass_through(self) -> str:
        self._calls.append(threading.get_ident())
        self._event.wait()
        return "through"

    def open(self) -> None:
        self._event.set()

    def waiting(self) -> int:
        return len(self._calls)


class Cache:
    """Has `put` and `get`, and is no queue."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def put(self, key: str, value: Any) -> None:
        self._values[key] = value

    def get(self, key: str) -> Any:
        return self._values[key]


class Connections:
    """Has `acquire` and `release`, and is no lock."""

    def acquire(self) -> str:
        return "connection"

    def release(self, connection: str) -> str:
        return "released"

    def size(self) -> int:
        return 1


class BareProxy(BaseProxy):
    """A proxy type that does not say what is exposed."""


def numbers() -> Iterator[int]:
    """An iterator."""
    yield from range(3)


_rlock = threading.RLock()


_queue: queue.Queue[Any] = queue.Queue()


def common_queue() -> Any:
    """The same queue for all."""
    return _queue


def common_rlock() -> Any:
    """The same lock for all."""
    return _rlock


class Device:
    """Raises and returns what it is told, whatever that is."""

    def fail(self, error: BaseException) -> None:
        raise error

    def fail_deeply(self, error: BaseException) -> None:
        self.fail(error)

    def echo(self, value: Any) -> Any:
        return value

    def name(self) -> str:
        """Of the thread, which is that of the connection."""
        return str(threading.get_ident())


class ShutDown(Exception):
    """A user's own, and no queue's."""


class Results:
    """Iterates over what it was given, and raises what is marked."""

    def __init__(self, *values: Any) -> None:
        self._values = iter(values)

    def __next__(self) -> Any:
        kind, value = next(self._values)
        if kind == "raise":
            raise value
        return value


class Settings:
    """Shared attributes, and methods that have the names of ours."""

    def __init__(self) -> None:
        self.value = 0
        self._table: dict[str, Any] = {"a": 1}

    def add(self, number: int) -> int:
        self.value += number
        return self.value

    def get(self, key: str, default: Any = None) -> Any:
        return self._table.get(key, default)

    def set(self, key: str, value: Any, *, times: int = 1) -> str:
        self._table[key] = [value] * times
        return "set"

    def copy(self) -> str:
        return "a copy"


NamespaceProxy: Any = vars(managers)["NamespaceProxy"]  # which the type stubs do not know
_ATTRIBUTES = ("__getattribute__", "__setattr__", "__delattr__")


class CounterNamespace(NamespaceProxy):  # type: ignore[misc]
    """As users write it for a class with attributes and methods."""

    _exposed_ = (*_ATTRIBUTES, "add")


class SettingsNamespace(NamespaceProxy):  # type: ignore[misc]
    """All that there is."""

    _exposed_ = tuple(dir(Settings))


class Flag:
    """Looks like an event."""

    def __init__(self) -> None:
        self._colour = "white"

    def set(self, colour: str) -> None:
        self._colour = colour

    def clear(self, *, to: str) -> None:
        self._colour = to

    def is_set(self) -> str:
        return self._colour

    def wait(self, colour: str, patience: float = 0) -> str:
        return f"{self._colour} and not {colour} for {patience}"

    def fly(self) -> str:
        return "flies"


class Turnstile:
    """Looks like a lock, or a condition, that knows its owners."""

    def acquire(self, timeout_ms: int, owner: str) -> str:
        return f"{owner} within {timeout_ms}"

    def release(self, owner: str) -> str:
        return f"released by {owner}"

    def wait(self, place: int) -> int:
        return place

    def notify(self, whom: str) -> str:
        return f"notified {whom}"


class Job:
    """Looks like a result."""

    def get(self, key: str, default: Any = None) -> Any:
        return key, default

    def wait(self, why: str) -> str:
        return why

    def ready(self, part: int) -> bool:
        return part == 1

    def successful(self) -> str:
        return "quite"

    def cancel(self) -> str:
        return "cancelled"


class Unique(queue.Queue[Any]):
    """Has the names of a queue's methods, and other arguments."""

    def put(self, item: Any) -> None:  # type: ignore[override]
        super().put(item)

    def get(self) -> Any:  # type: ignore[override]
        return super().get()


class PeekQueue(queue.Queue[Any]):
    """A queue with a method more."""

    def peek(self) -> Any:
        return self.queue[0]


class QueueByHand(BaseProxy):
    """Written by hand, for a queue, with the methods that its author needed."""

    def put(self, item: Any) -> Any:
        return self._callmethod("put", (item,))


def look_up(key: str) -> Any:
    """Raises a KeyError of its own for all but one."""
    return {"here": Counter()}[key]


_unique, _peek_queue = Unique(), PeekQueue()


def common_unique() -> Any:
    """The same for all."""
    return _unique


def common_peek_queue() -> Any:
    """The same for all."""
    return _peek_queue


def common_pipe() -> Any:
    """A queue that can neither wait nor be asked."""
    return multiprocessing.get_context("spawn").SimpleQueue()


class Manager(SyncManager):
    """A stock manager with a user's classes."""


_COUNTER = ("add", "fail", "unpicklable")
Manager.register("Counter", Counter, exposed=_COUNTER, method_to_typeid={"child": "Child"})
Manager.register(
    "Child", exposed=_COUNTER, method_to_typeid={"child": "Child"}, create_method=False
)
Manager.register("Gate", Gate)
Manager.register("Cache", Cache)
Manager.register("Connections", Connections)
Manager.register("common_lock", threading.Lock)
Manager.register("common_queue", common_queue)
Manager.register("Bare", Counter, BareProxy)
Manager.register("numbers", numbers, exposed=("__next__",))
Manager.register("common", common_rlock, exposed=("acquire", "release"))
Manager.register("task_queue", queue.Queue)


class OurManager(aiomanager.QueueManager):
    """A host of ours, with a user's classes."""


for _manager in (Manager, OurManager):
    _manager.register("Device", Device)
    _manager.register("Results", Results, exposed=("__next__",))
    _manager.register("CounterNamespace", Settings, CounterNamespace)
    _manager.register("SettingsNamespace", Settings, SettingsNamespace)
    _manager.register("Flag", Flag)
    _manager.register("Turnstile", Turnstile)
    _manager.register("Job", Job)
    _manager.register("unique", common_unique)
    _manager.register("peek_queue", common_peek_queue)
    _manager.register("pipe", common_pipe)
    _manager.register("queue_by_hand", queue.Queue, QueueByHand)
    _manager.register("look_up", look_up)
    _manager.register("look_up_in_c", {"here": Counter()}.__getitem__)

OurManager.register("Counter", Counter, exposed=_COUNTER)
OurManager.register("common", common_rlock, exposed=("acquire", "release"))


@contextlib.contextmanager
def running(
    address: Any = None, initializer: Callable[[], object] | None = None
) -> Iterator[Manager]:
    """A manager in a process of its own, with another key than this process."""
    manager = Manager(address, KEY, ctx=SPAWN)
    manager.start(initializer)
    with manager:
        # The standard library connects once for each thread that calls a proxy, and disconnects
        # with the last proxy; here it is connected all the time.
        kept = manager.dict()
        kept.copy()
        yield manager
        del kept


def square(number: int) -> int:
    """For a pool."""
    return number * number


def slowly(number: float) -> float:
    """For what has to be under way for a while; not to be waited for."""
    time.sleep(number)
    return number


def failing(number: int) -> int:
    """For a pool; it always fails."""
    raise ArithmeticError(number)


def failing_slowly(seconds: float) -> None:
    """For a pool; it fails when others wait for it."""
    time.sleep(seconds)
    raise ArithmeticError(seconds)


def echo(value: Any) -> Any:
    """For a pool."""
    return value


def fail(error: Exception) -> None:
    """For a pool."""
    raise error
