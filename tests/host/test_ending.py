"""Contract: how a host ends, and what it leaves behind: nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from multiprocessing import connection, managers
from pathlib import Path
from typing import Any

import pytest

from aiomanager import QueueManager
from aiomanager._host.lifecycle import EarlyStop, stopped_by_signals
from tests.support.hosts import (
    KEY,
    authenticated,
    dial,
    is_closed,
    listens,
    script,
    serving,
    stock_client,
    stock_queue,
    waiting_getters,
)
from tests.support.waiting import wait_until_sync

pytestmark = pytest.mark.every_python

dispatch: Any = managers.dispatch  # type: ignore[attr-defined]

_SERVE = """
import logging, sys
from aiomanager import QueueManager
logging.basicConfig(format="%(message)s")
manager = QueueManager(sys.argv[1], b"a key of the tests, long enough", queues={"jobs": 0})
"""
SERVE_FOREVER = _SERVE + "manager.serve_forever()\nprint('after')\n"
# What a script for the standard library's manager does.
GET_SERVER = _SERVE + "manager.get_server().serve_forever()\nprint('after')\n"


@contextlib.contextmanager
def served(code: str, path: str) -> Any:
    """A process that serves, with its queue."""
    with script(code, path) as process:
        wait_until_sync(lambda: listens(path), timeout=20, description="the host listens")
        yield process


def finished(process: subprocess.Popen[str]) -> tuple[str, str]:
    """The output of a process that ends by itself, with code 0, soon."""
    output, errors = process.communicate(timeout=10)
    assert process.returncode == 0, errors
    return output, errors


# -- signals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [SERVE_FOREVER, GET_SERVER], ids=["manager", "server"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_code_0(number: int, code: str, socket_path: str):
    """No traceback, no file, and the program goes on behind the call."""
    with served(code, socket_path) as process:
        if code == GET_SERVER:
            stock_client(socket_path)  # between the two calls the signals are Python's own
        process.send_signal(number)
        assert finished(process) == ("after\n", "")
    assert not Path(socket_path).exists()


def test_waiting_clients_do_not_hold_it_up(socket_path: str):
    """They see the end of their connections at once; what is lost stands in the log."""
    with served(SERVE_FOREVER, socket_path) as process:
        jobs = stock_queue(socket_path)
        errors: list[BaseException] = []

        def getter() -> None:
            try:
                stock_queue(socket_path).get()
                jobs.join()
            except (EOFError, ConnectionError) as exc:
                errors.append(exc)

        threads = [threading.Thread(target=getter) for _ in range(5)]
        for thread in threads:
            thread.start()
        for _ in range(1000):
            jobs.put("x" * 1000)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, log = finished(process)
        assert time.monotonic() - began < 2
        for thread in threads:
            thread.join(10)
    assert len(errors) == 5
    assert log == "queue 'jobs' ends with 1000 items unfinished\n"


def test_several_signals_are_as_one(socket_path: str):
    """Impatience changes nothing."""
    with served(SERVE_FOREVER, socket_path) as process:
        # All of them while it is stopped, as none of them may come when it has ended serving.
        for number in (
            signal.SIGSTOP,
            signal.SIGINT,
            signal.SIGTERM,
            signal.SIGINT,
            signal.SIGCONT,
        ):
            process.send_signal(number)
        assert finished(process) == ("after\n", "")
    assert not Path(socket_path).exists()


def test_handlers_are_the_programs_own_again():
    """While it serves the signals are the host's, before and after the program's."""
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    called: list[int] = []
    with stopped_by_signals(lambda: called.append(1)):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
    assert called == [1, 1]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_an_ignored_interrupt_stays_ignored():
    """As in a child process whose parent decides what Ctrl-C means."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        called: list[int] = []
        with stopped_by_signals(lambda: called.append(1)):
            os.kill(os.getpid(), signal.SIGINT)
        assert called == []
    finally:
        signal.signal(signal.SIGINT, before)


def test_on_another_thread_the_signals_are_left_alone():
    """Python allows handlers on the main thread only."""
    before = signal.getsignal(signal.SIGINT)
    with serving():
        assert signal.getsignal(signal.SIGINT) is before


def test_a_signal_before_there_is_a_host():
    """It stops the host as soon as there is one."""
    calls: list[str] = []
    early, late = EarlyStop(), EarlyStop()
    early()
    early.attach(lambda: calls.append("early"))
    late.attach(lambda: calls.append("late"))
    assert calls == ["early"]
    late()
    assert calls == ["early", "late"]


# -- clients ----------------------------------------------------------------------------------


def ask_to_shut_down(address: Any) -> None:
    """What `BaseManager` does in order to end its server."""
    conn: Any = connection.Client(address, authkey=KEY)
    with conn:
        dispatch(conn, None, "shutdown")


def test_a_client_may_shut_it_down(socket_path: str):
    """As at every manager."""
    with served(SERVE_FOREVER, socket_path) as process:
        ask_to_shut_down(socket_path)
        assert finished(process) == ("after\n", "")
    assert not Path(socket_path).exists()


def test_shutdown_by_clients_can_be_switched_off():
    """They get an error, and nothing happens; the owner's own `shutdown` works all the same."""
    began = time.monotonic()
    with QueueManager(authkey=KEY, queues={"jobs": 0}, allow_shutdown=False) as manager:
        with pytest.raises(PermissionError, match="not shut down by its clients"):
            ask_to_shut_down(manager.address)
        jobs = stock_queue(manager.address)
        jobs.put(1)
        assert jobs.get() == 1
        process = manager._process
    assert process.exitcode == 0
    assert time.monotonic() - began < 4


# -- what is under way ------------------------------------------------------------------------


class Slow:
    """An object with a method that takes its time."""

    started = threading.Event()
    may_end = threading.Event()

    def work(self) -> str:
        self.started.set()
        self.may_end.wait(30)
        return "done"


@pytest.fixture
def slow() -> type[Slow]:
    """The class, with fresh events."""
    Slow.started, Slow.may_end = threading.Event(), threading.Event()
    return Slow


def call_in_thread(function: Any) -> tuple[threading.Thread, list[Any]]:
    """Call something that blocks; what comes of it is in the list."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(function())
        except Exception as exc:
            outcome.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


def test_calls_under_way_finish(slow: type[Slow]):
    """While nobody new can connect."""
    with serving(types={"slow": (slow, None, None, None)}, grace=20) as host:
        proxy = stock_client(host.address, "slow").slow()
        thread, outcome = call_in_thread(proxy.work)
        assert slow.started.wait(10)
        host.stop()
        wait_until_sync(lambda: not listens(str(host.address)), description="it stops listening")
        assert outcome == []
        slow.may_end.set()
        thread.join(10)
    assert outcome == ["done"]


def test_calls_that_never_end_are_waited_for_no_longer_than_the_grace(slow: type[Slow]):
    """Then their clients see the end of the connection."""
    with serving(types={"slow": (slow, None, None, None)}, grace=0.2) as host:
        proxy = stock_client(host.address, "slow").slow()
        thread, outcome = call_in_thread(proxy.work)
        assert slow.started.wait(10)
    thread.join(10)
    slow.may_end.set()
    assert isinstance(outcome[0], (EOFError, ConnectionError))


def test_replies_get_out():
    """A large item that is being sent arrives whole."""
    with serving(grace=20) as host:
        jobs = stock_queue(host.address)
        with authenticated(host.address) as conn:
            conn.send((None, "accept_connection", ("reader",), {}))
            assert conn.recv() == ("#RETURN", None)
            jobs.put(b"l" * 20_000_000)
            conn.send(("aiomanager-queue:jobs", "get", (), {}))
            wait_until_sync(
                lambda: not all(peer.idle for peer in host._peers), description="it is sent in part"
            )
            host.stop()
            wait_until_sync(lambda: not listens(str(host.address)), description="it stops")
            assert conn.recv() == ("#RETURN", b"l" * 20_000_000)


def test_idle_connections_are_closed():
    """A stopping host waits for nobody who wants nothing."""
    with serving(grace=20) as host:
        began = time.monotonic()
        stranger = dial(host.address)
        jobs = stock_queue(host.address)
        assert jobs.empty()
        thread, outcome = call_in_thread(jobs.get)
        waiting_getters(host, 1)
    assert time.monotonic() - began < 5
    with stranger:
        assert is_closed(stranger)
    thread.join(10)
    assert isinstance(outcome[0], (EOFError, ConnectionError))


def test_closing_twice():
    """`close` may be called by whoever wants to be sure."""
    server = QueueManager(authkey=KEY).get_server()
    server.close()
    server.close()
    assert not Path(str(server.address)).exists()
