"""A stock host in a process of its own, which can be killed, stopped and started again, and the
odd queues that it serves."""

from __future__ import annotations

import multiprocessing
import queue
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import managers
from pathlib import Path
from typing import Any, TypeVar

import anyio

from tests.support.faults import KEY, RestartableHost
from tests.support.waiting import wait_until_sync

T = TypeVar("T")


class Picky(queue.Queue):  # type: ignore[type-arg]
    """Refuses some items."""

    def _put(self, item: Any) -> None:
        if item == "bad":
            raise ValueError("bad item")
        if item == "fatal":
            sys.exit()  # the end of the thread that serves the connection, and of nothing else
        super()._put(item)


class Plain(queue.Queue):  # type: ignore[type-arg]
    """Its methods take neither `block` nor `timeout`."""

    def put(self, item: Any) -> None:  # type: ignore[override]
        super().put(item)

    def get(self) -> Any:  # type: ignore[override]
        return super().get()


class Blind:
    """Does not even say whether it is empty."""

    def put(self, item: Any) -> None:
        """Lose the item."""

    def get(self) -> Any:
        """Wait for ever."""

    def get_nowait(self) -> Any:
        """Say that nothing is there."""
        raise queue.Empty


class Forgetful(queue.Queue):  # type: ignore[type-arg]
    """Its `put` raises what looks like the error of a call with too many arguments."""

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        raise TypeError("put() takes 2 positional arguments but 4 were given")


_made: dict[str, Any] = {}
_calls: list[str] = []


class Manager(managers.SyncManager):
    """Serves queues; a name gives the same one at each call, but for `new`."""


def _the_same(name: str, make: Any) -> Any:
    def give() -> Any:
        if name not in _made:
            _made[name] = make()
        return _made[name]

    return give


def _new() -> Any:
    _calls.append("new")
    return queue.Queue()


def _calls_of_new() -> Any:
    return _calls


KINDS: dict[str, Any] = {
    "jobs": queue.Queue,
    "other": queue.Queue,
    "small": lambda: queue.Queue(1),
    "picky": Picky,
    "plain": Plain,
    "blind": Blind,
    "forgetful": Forgetful,
    "simple": queue.SimpleQueue,
    "pipe": multiprocessing.SimpleQueue,
    "lifo": queue.LifoQueue,
    "priority": queue.PriorityQueue,
    "processes": multiprocessing.Queue,
}
for _name, _make in KINDS.items():
    Manager.register(_name, _the_same(_name, _make))
Manager.register("new", _new)
Manager.register("calls_of_new", _calls_of_new, managers.ListProxy)


class StockHost(RestartableHost):
    """The host, at a Unix socket."""

    def start(self) -> None:
        """Start and wait until it listens."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.engines.stock.host", self.path]
        )
        wait_until_sync(self._listens, timeout=20, description="the host listens")

    def restart(self) -> None:
        """Kill it and start it again at the same address."""
        self.kill()
        Path(self.path).unlink(missing_ok=True)
        self.start()

    def standard(self) -> Any:
        """A client of the standard library's."""
        manager = Manager(self.path, KEY.encode())
        manager.connect()
        return manager

    def references(self) -> int:
        """How many objects it counts references to."""
        return int(self.standard()._number_of_objects())


async def blocking(work: Callable[[], T]) -> T:
    """Run what blocks, on a thread that ends with it: the standard library keeps a connection for
    each thread."""

    def run() -> T:
        with ThreadPoolExecutor(1) as executor:
            return executor.submit(work).result()

    return await anyio.to_thread.run_sync(run)


if __name__ == "__main__":
    Manager(sys.argv[1], KEY.encode()).get_server().serve_forever()
