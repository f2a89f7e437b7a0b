"""Contract: what is registered at which time is there, and which names a manager has."""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
from collections.abc import Iterator
from multiprocessing.managers import BaseManager
from typing import Any

import pytest

from aiomanager import ConfigurationError, QueueManager
from tests.support.hosts import KEY, serving

pytestmark = pytest.mark.every_python

START_METHODS = multiprocessing.get_all_start_methods()


class Device:
    """What a user registers."""

    def ping(self) -> str:
        """Answer."""
        return "pong"


class Later(QueueManager):
    """Has nothing at first."""


@pytest.fixture(autouse=True)
def nothing_registered() -> Iterator[None]:
    """What a test registers is gone afterwards."""
    registry = dict(Later._registry)
    yield
    for name in set(Later._registry) - set(registry):
        delattr(Later, name)
    Later._registry = registry


@contextlib.contextmanager
def served(server: Any) -> Iterator[None]:
    """A server on a thread."""
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.stop()
        thread.join(10)


@pytest.mark.parametrize("method", START_METHODS)
def test_what_is_registered_before_start(method: str):
    """On the class or on the manager, it is there once it serves, as in the standard library, and
    so are the queues; what another manager of the class hosts is not."""
    manager: Any = Later(authkey=KEY, queues={"jobs": 0}, ctx=method)
    other = Later(authkey=KEY, queues={"others": 0})
    manager.register("Device", Device)
    Later.register("Thing", Device)
    with manager:
        assert manager.Device().ping() == manager.Thing().ping() == "pong"
        manager.jobs().put(1)
        assert manager.get_queue("jobs").get() == 1
        with pytest.raises(AttributeError, match="'Later' object has no attribute 'others'"):
            manager.others()
    assert "jobs" not in other._registry


def test_what_is_registered_before_get_server():
    """It is there, and a client of the same class has the queues that it names as methods."""
    manager: Any = Later(authkey=KEY, queues={"jobs": 0})
    manager.register("Device", Device)
    server = manager.get_server()
    with served(server):
        client: Any = Later(server.address, KEY, queues={"jobs": 0})
        client.connect()
        assert client.Device().ping() == "pong"
        client.jobs().put(1)
        assert client.get_queue("jobs").get() == 1


def test_a_name_that_is_registered_later_for_something_else():
    """Is refused when it comes to serve."""
    manager = Later(authkey=KEY, queues={"jobs": 0})
    Later.register("jobs", dict)
    for serve in (manager.start, manager.get_server, manager.serve_forever):
        with pytest.raises(ConfigurationError, match="'jobs' is registered already"):
            serve()


def test_a_host_that_ends_leaves_the_next_in_its_place():
    """Each process has one place for the server in it, by which proxies find their objects; one
    that ends on its thread does not take it from one that serves on another."""
    process: Any = multiprocessing.current_process()
    before = getattr(process, "_manager_server", None)
    with contextlib.ExitStack() as outer:
        first = outer.enter_context(serving())
        with serving() as second:
            outer.close()
            assert first.stop_event.is_set()
            assert process._manager_server is second
    assert getattr(process, "_manager_server", None) is before
    with serving() as first:
        with serving():
            pass
        assert process._manager_server is first


def test_a_client_of_the_standard_library_registers_names():
    """Also on a manager that is made already."""

    class Client(QueueManager):
        pass

    with serving() as server:
        for kind in (Client, BaseManager):
            client: Any = kind(server.address, KEY)
            client.register("jobs")
            client.connect()
            client.jobs().put(1)
            assert client.jobs().get() == 1
    del BaseManager.jobs  # type: ignore[attr-defined]
    del BaseManager._registry["jobs"]  # type: ignore[attr-defined]
