"""Contract: CPython's own tests of `queue.Queue`, unchanged, on proxies of queues of ours.

They run in the version that this Python has, and on a stock manager's queue too, as a control: what
fails there is not ours to mend.
"""

from __future__ import annotations

import itertools
import queue
import unittest
from collections.abc import Iterator
from multiprocessing.managers import BaseManager, BaseProxy, SyncManager
from typing import Any, ClassVar

import pytest

from aiomanager import QueueManager
from tests.support.hosts import KEY

suite: Any = pytest.importorskip("test.test_queue", reason="this Python came without its tests")

METHODS = ("put", "get", "put_nowait", "get_nowait", "task_done", "join", "qsize", "empty", "full")
# One queue for each test, of the sizes that the tests ask for.
SIZES = (0, 2, 3, 5)
QUEUES = {f"of_{size}_{number}": size for size in SIZES for number in range(40)}


class Queue(BaseProxy):
    """A proxy with the attributes that the tests look at, besides the methods."""

    _exposed_ = (*METHODS, "shutdown", "__getattribute__")
    _local_maxsize: int | None = None

    @property
    def is_shutdown(self) -> Any:
        return self._ask("__getattribute__", "is_shutdown")

    @property
    def unfinished_tasks(self) -> Any:
        return self._ask("__getattribute__", "unfinished_tasks")

    @property
    def maxsize(self) -> Any:
        if self._local_maxsize is not None:
            return self._local_maxsize
        return self._ask("__getattribute__", "maxsize")

    @maxsize.setter
    def maxsize(self, value: int) -> None:
        self._local_maxsize = value

    def _ask(self, method: str, *args: Any, **kwds: Any) -> Any:
        call: Any = self._callmethod
        return call(method, args, kwds)


def method(name: str) -> Any:
    """A method that asks the manager."""

    def call(self: Queue, *args: Any, **kwds: Any) -> Any:
        return self._ask(name, *args, **kwds)

    return call


for name in (*METHODS, "shutdown"):
    setattr(Queue, name, method(name))


class StockManager(SyncManager):
    """A manager as it comes."""


class Client(BaseManager):
    """What a script knows that has only the standard library."""


StockManager.register("make_queue", queue.Queue, Queue)
for name in QUEUES:
    Client.register(name, proxytype=Queue)


class Case(suite.BaseQueueTestMixin):  # type: ignore[misc]
    """The tests, with what they want to be told."""

    queue = queue
    manager: ClassVar[Any]

    @classmethod
    def tearDownClass(cls) -> None:
        cls.manager.shutdown()


# Two of the tests put 65,536 items, one by one, beside readers that poll.
@pytest.mark.timeout(300)
class TestQueueOfOurs(Case, unittest.TestCase):
    """A stock client of a host of ours."""

    client: ClassVar[Any]
    numbers: ClassVar[dict[int, Iterator[int]]]

    @classmethod
    def setUpClass(cls) -> None:
        cls.manager = QueueManager(authkey=KEY, queues=QUEUES)
        cls.manager.start()
        cls.client = Client(cls.manager.address, KEY)
        cls.client.connect()
        cls.numbers = {size: itertools.count() for size in SIZES}

    def type2test(self, maxsize: int = 0) -> Queue:
        made: Queue = getattr(self.client, f"of_{maxsize}_{next(self.numbers[maxsize])}")()
        return made


@pytest.mark.timeout(300)
class TestQueueOfAStockManager(Case, unittest.TestCase):
    """The control."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.manager = StockManager()
        cls.manager.start()

    def type2test(self, maxsize: int = 0) -> Queue:
        made: Queue = self.manager.make_queue(maxsize)
        return made


@pytest.mark.skipif(not hasattr(queue, "ShutDown"), reason="before 3.13 the tests know no shutdown")
def test_these_are_all_of_them() -> None:
    """24 tests at least, so that none is missed where one is renamed."""
    names = unittest.defaultTestLoader.getTestCaseNames(TestQueueOfOurs)
    assert len(names) >= 24
