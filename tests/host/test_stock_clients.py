"""Contract: queues as a client sees them that knows only the standard library."""

from __future__ import annotations

import json
import pickle
import queue
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from multiprocessing.managers import RemoteError
from typing import Any

import pytest

from aiomanager._host.server import QueueServer
from tests.support.faults import stop
from tests.support.hosted_calls import Call
from tests.support.hosts import script, serving, stock_client, stock_queue, waiting_getters
from tests.support.waiting import wait_until_sync

pytestmark = pytest.mark.every_python

ShutDown: Any = getattr(queue, "ShutDown", None)


@pytest.fixture(params=[None, ("127.0.0.1", 0)], ids=["unix", "tcp"])
def anywhere(request: pytest.FixtureRequest) -> Iterator[QueueServer]:
    """A host of two queues, on either kind of socket."""
    with serving(request.param) as server:
        yield server


class Point:
    """A class of the user's, which a host may know or not."""

    def __init__(self, x: int) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and other.x == self.x

    def __hash__(self) -> int:
        return hash(self.x)


# -- queues -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "item",
    [
        None, 17, "words", b"bytes", [1, [2, {"three": (4.5, None)}]], {"a", "b"}, Point(3),
        time.gmtime(0), ValueError("an exception"), b"x" * 200_000, ["y" * 1000] * 500,
    ],
    ids=lambda item: type(item).__name__,
)  # fmt: skip
def test_items_arrive_as_they_were_put(host: QueueServer, item: object):
    """Plain data, objects of classes, and what is too large to be handled in passing."""
    jobs = stock_queue(host.address)
    jobs.put(item)
    received = jobs.get()
    assert type(received) is type(item)
    assert str(received) == str(item) if isinstance(item, ValueError) else received == item


def test_an_item_that_refers_to_itself(host: QueueServer):
    """What a pickle says once and means twice arrives as one."""
    jobs = stock_queue(host.address)
    item: list[Any] = ["twice", "twice"]
    item.append(item)
    jobs.put(item)
    received = jobs.get()
    assert received[2] is received
    assert received[0] is received[1]


def test_an_item_goes_on_as_the_bytes_that_it_came_as(host: QueueServer):
    """Whatever protocol a client of ours has pickled with, a stock client gets the object."""
    jobs = stock_queue(host.address)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        for item in (["a", "a", {"b": Point(1)}], "x" * 100_000, [1] * 100_000):
            host.queues["jobs"].put([pickle.dumps(item, protocol)], None, Call())
            assert jobs.get() == item


def test_the_methods_of_a_queue(host: QueueServer):
    """All of `queue.Queue`, and its exceptions."""
    small = stock_queue(host.address, "small")
    assert (small.qsize(), small.empty(), small.full()) == (0, True, False)
    small.put(1)
    small.put(item=2, block=False)
    assert (small.qsize(), small.empty(), small.full()) == (2, False, True)
    for refused in (
        partial(small.put_nowait, 3),
        partial(small.put, 3, False),
        partial(small.put, 3, timeout=0.01),
    ):
        with pytest.raises(queue.Full):
            refused()
    assert [small.get(), small.get_nowait()] == [1, 2]
    for refused in (
        small.get_nowait,
        partial(small.get, False),
        partial(small.get, True, 0.01),
    ):
        with pytest.raises(queue.Empty):
            refused()
    small.task_done()
    small.task_done()
    small.join()
    with pytest.raises(ValueError, match="called too many times"):
        small.task_done()
    assert str(small) == "<hosted queue 'small'>"


def test_wrong_calls_fail_at_the_caller(host: QueueServer):
    """As they would at the standard library's own queue; the connection goes on."""
    small = stock_queue(host.address, "small")
    for wrong, error in (
        (small.put, TypeError),
        (partial(small.put, 1, 2, 3, 4), TypeError),
        (partial(small.put, 1, timeout=-1), ValueError),
        (partial(small.get, timeout=-1), ValueError),
        (partial(small.get, "a", "b"), TypeError),
        (partial(small._callmethod, "close"), RemoteError),
        (partial(small._callmethod, "__getattribute__", ("_backlog",)), AttributeError),
    ):
        with pytest.raises(error):
            wrong()
    small.put(1)
    assert small.get() == 1


def test_puts_and_gets_wait_for_one_another(host: QueueServer):
    """A blocked get by a put, a blocked put by a get."""
    small = stock_queue(host.address, "small")
    got: list[int] = []
    thread = threading.Thread(target=lambda: got.extend(small.get() for _ in range(4)))
    thread.start()
    for number in range(4):
        small.put(number)
    thread.join(10)
    assert got == [0, 1, 2, 3]


def test_waiting_gets_need_no_threads_at_the_host(host: QueueServer):
    """They have places in a line."""
    jobs = stock_queue(host.address)
    before = threading.active_count()
    getters = [threading.Thread(target=jobs.get) for _ in range(20)]
    for getter in getters:
        getter.start()
    waiting_getters(host, 20)
    assert threading.active_count() == before + 20
    for _ in getters:
        jobs.put(None)
    for getter in getters:
        getter.join(10)


@pytest.mark.skipif(ShutDown is None, reason="this Python's queues have no shutdown")
def test_shutdown_is_told_as_such_from_3_13_on(host: QueueServer):
    """To those who wait, and to those who come later."""
    jobs = stock_queue(host.address)
    raised: list[type] = []

    def getter() -> None:
        try:
            jobs.get()
        except Exception as exc:
            raised.append(type(exc))

    thread = threading.Thread(target=getter)
    thread.start()
    waiting_getters(host, 1)
    jobs.shutdown()
    thread.join(10)
    assert raised == [ShutDown]
    for method in (jobs.get, jobs.get_nowait, lambda: jobs.put(1)):
        with pytest.raises(ShutDown, match="shut down"):
            method()


@pytest.mark.skipif(ShutDown is not None, reason="this Python's queues have a shutdown")
def test_shutdown_is_told_as_empty_and_full_before_3_13(host: QueueServer):
    """Which is what older programs handle."""
    jobs = stock_queue(host.address)
    jobs.put(1)
    jobs.shutdown()
    assert jobs.get() == 1
    for method in (jobs.get, jobs.get_nowait):
        with pytest.raises(queue.Empty, match="shut down"):
            method()
    with pytest.raises(queue.Full, match="shut down"):
        jobs.put(1)


def test_immediate_shutdown(host: QueueServer):
    """Drops what is there, and `join` returns."""
    jobs = stock_queue(host.address)
    jobs.put(1)
    jobs.shutdown(immediate=True)
    assert jobs.empty()
    jobs.join()


# -- clients that die -------------------------------------------------------------------------

_GETTER = """
import json, sys
from multiprocessing.managers import BaseManager
class Client(BaseManager): pass
Client.register("jobs")
address = json.loads(sys.argv[1])
address = tuple(address) if isinstance(address, list) else address
client = Client(address, b"a key of the tests, long enough")
client.connect()
jobs = client.jobs()
print("ready", flush=True)
jobs.get()
print("got", flush=True)
"""


def test_a_client_killed_while_it_waits_takes_nothing(anywhere: QueueServer):
    """The next item goes to somebody alive, though the dead one was first; also where it was put
    while the client was dying, and lay unread before it."""
    jobs = stock_queue(anywhere.address)
    for number in range(6):
        with script(_GETTER, json.dumps(anywhere.address)) as getter:
            waiting_getters(anywhere, 1)
            getter.send_signal(signal.SIGKILL)
            if number % 2:
                getter.wait()
            jobs.put("kept")
        assert jobs.get(timeout=5) == "kept"
        jobs.task_done()
    jobs.join()


def test_a_client_that_has_read_its_item_keeps_it(anywhere: QueueServer):
    """It may end without another word, and its item does not come back."""
    jobs = stock_queue(anywhere.address)
    jobs.put("taken")
    with script(_GETTER, json.dumps(anywhere.address)) as getter:
        assert getter.stdout is not None
        assert getter.stdout.read() == "ready\ngot\n"
    jobs.put("next")
    assert jobs.get() == "next"
    assert anywhere.queues["jobs"].unfinished == 2


def test_a_client_that_is_killed_while_it_reads_a_large_item(host: QueueServer):
    """What was sent in part returns, and is the next to be received."""
    jobs = stock_queue(host.address)
    large = b"l" * 30_000_000
    with script(_GETTER, json.dumps(host.address)) as getter:
        waiting_getters(host, 1)
        stop(getter)
        jobs.put(large)
        jobs.put("second")
        wait_until_sync(
            lambda: any(not peer.idle for peer in host._peers), description="it is sent in part"
        )
        getter.send_signal(signal.SIGKILL)
        wait_until_sync(lambda: jobs.qsize() == 2, description="what was not read returns")
    assert jobs.get() == large
    assert jobs.get() == "second"
    assert host.queues["jobs"].statistics()["redeliveries"] == 0


def test_names_that_are_not_registered(host: QueueServer):
    """The error names what there is."""
    client = stock_client(host.address, "jbos")
    with pytest.raises(KeyError, match=r"'jbos' \(did you mean 'jobs'\?\); there is: jobs, small"):
        client.jbos()


# -- many at once -----------------------------------------------------------------------------


def test_two_hundred_tcp_connections_at_once():
    """Every one of them is served, which the standard library's backlog does not manage."""
    with serving(("127.0.0.1", 0)) as host:
        barrier = threading.Barrier(201)
        served: list[int] = []

        def client(number: int) -> None:
            barrier.wait()
            manager = stock_client(host.address, "jobs")
            manager.jobs().put(number)
            served.append(number)

        threads = [threading.Thread(target=client, args=(number,)) for number in range(200)]
        for thread in threads:
            thread.start()
        barrier.wait()
        for thread in threads:
            thread.join(30)
        assert sorted(served) == list(range(200))
        assert host.queues["jobs"].qsize() == 200
