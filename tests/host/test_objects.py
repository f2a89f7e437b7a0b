"""Contract: objects of other classes beside the queues, as at any manager."""

from __future__ import annotations

import multiprocessing
import sys
import threading
import types
from collections.abc import Iterator
from multiprocessing.managers import DictProxy, ListProxy, RemoteError
from typing import Any

import pytest

from aiomanager import QueueManager
from aiomanager._host.manager import QueueProxy
from tests.support.hosts import KEY
from tests.support.waiting import wait_until_sync

pytestmark = pytest.mark.every_python


class Counter:
    """A class that is registered beside the queues."""

    def __init__(self) -> None:
        self._count = 0

    def add(self, number: int = 1) -> int:
        self._count += number
        return self._count

    def fail(self) -> None:
        raise LookupError("as asked")

    def unpicklable(self) -> Any:
        return lambda: None

    def thread(self) -> int:
        return threading.get_ident()


class Host(QueueManager):
    """A host of queues and of other objects."""


Host.register("counter", Counter)
Host.register("shared_dict", dict, DictProxy)
Host.register("shared_list", list, ListProxy)
Host.register("event", threading.Event)
Host.register("rlock", threading.RLock, exposed=["acquire", "release"])


@pytest.fixture(scope="module")
def mixed() -> Iterator[Host]:
    """A started host of queues and of other objects."""
    with Host(authkey=KEY, queues={"jobs": 0}) as manager:
        yield manager


@pytest.fixture
def mixed_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies that come out of others know no key but this process's own."""
    monkeypatch.setattr(multiprocessing.current_process(), "authkey", KEY)


def test_objects_of_registered_classes(mixed: Any):
    """Their methods, their errors, and results that cannot travel."""
    counter = mixed.counter()
    assert [counter.add(), counter.add(5)] == [1, 6]
    with pytest.raises(LookupError, match="as asked"):
        counter.fail()
    with pytest.raises(RemoteError):
        counter.unpicklable()
    with pytest.raises(RemoteError, match="not in exposed"):
        counter._callmethod("_count")
    assert counter.add() == 7


@pytest.mark.usefixtures("mixed_key")
def test_dictionaries_and_lists_with_others_inside(mixed: Any):
    """Proxies may be stored in one another, those of queues included."""
    outer, inner = mixed.shared_dict(), mixed.shared_list([1, 2])
    outer["inner"] = inner
    outer["queue"] = mixed.get_queue("jobs")
    outer["inner"].append(3)
    assert list(inner) == [1, 2, 3]
    outer["queue"].put("through the dictionary")
    assert mixed.get_queue("jobs").get() == "through the dictionary"
    del outer["inner"]
    assert inner[2] == 3


@pytest.mark.usefixtures("mixed_key")
def test_queue_proxies_travel_through_queues(mixed: Any):
    """A queue of queues, as in pipelines that are built while they run."""
    jobs = mixed.get_queue("jobs")
    jobs.put(jobs)
    again = jobs.get()
    again.put(1)
    assert jobs.get() == 1


def test_an_rlock_belongs_to_its_connection(mixed: Any):
    """Each thread has a connection, and each connection a thread at the host."""
    lock = mixed.rlock()
    counter = mixed.counter()
    assert counter.thread() == counter.thread()
    assert lock.acquire()
    assert lock.acquire()
    others: list[Any] = []
    thread = threading.Thread(target=lambda: others.append((lock.acquire(False), counter.thread())))
    thread.start()
    thread.join(10)
    assert others == [(False, others[0][1])]
    assert others[0][1] != counter.thread()
    lock.release()
    lock.release()


def test_an_event_that_is_waited_for_holds_up_nobody(mixed: Any):
    """Neither queues nor other objects."""
    event = mixed.event()
    thread = threading.Thread(target=event.wait)
    thread.start()
    jobs = mixed.get_queue("jobs")
    jobs.put(1)
    assert jobs.get() == 1
    event.set()
    thread.join(10)
    assert not thread.is_alive()


def test_objects_go_with_their_last_proxy(mixed: Any):
    """The host forgets them, and counts what is left; queues stay."""
    before = mixed._number_of_objects()
    counter = mixed.counter()
    assert mixed._number_of_objects() == before + 1
    assert "Counter" in mixed._debug_info()
    del counter
    wait_until_sync(
        lambda: mixed._number_of_objects() == before, description="the counter is forgotten"
    )
    assert "aiomanager-queue:jobs" in mixed._debug_info()


def test_a_typed_proxy_with_the_attributes(mixed: Host):
    """What `get_queue` gives has the attributes of a queue too."""
    jobs = mixed.get_queue("jobs")
    assert isinstance(jobs, QueueProxy)
    before = jobs.unfinished_tasks
    jobs.put(1)
    assert (jobs.maxsize, jobs.is_shutdown, jobs.unfinished_tasks) == (0, False, before + 1)
    assert jobs.get() == 1
    for _ in range(before + 1):
        jobs.task_done()
    jobs.join()


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A class that the host cannot import."""
    module: Any = types.ModuleType("only_here")
    monkeypatch.setitem(sys.modules, "only_here", module)
    module.Local = type("Local", (), {"__module__": "only_here"})
    return module.Local


def test_what_the_host_cannot_import_passes_through(mixed: Any, local: Any):
    """It does not unpickle what it can pass on as it is."""
    jobs = mixed.get_queue("jobs")
    jobs.put(local())
    assert type(jobs.get()) is local


def test_what_is_large_and_cannot_be_imported_passes(mixed: Any, local: Any):
    """As what is small does: the host stores the bytes that came."""
    jobs = mixed.get_queue("jobs")
    jobs.put([local(), "x" * 100_000])
    item, filler = jobs.get()
    assert type(item) is local
    assert len(filler) == 100_000


def test_the_same_registry_may_serve_two_managers():
    """Each has its own queues; the class is not changed by either."""
    with Host(authkey=KEY, queues={"one": 0}) as one, Host(authkey=KEY, queues={"two": 0}) as two:
        one.get_queue("one").put(1)
        assert two.get_queue("two").empty()
        assert "one" not in Host._registry
