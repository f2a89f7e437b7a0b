"""Hosts of ours in processes and threads, and clients that know only the standard library."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from multiprocessing import connection
from multiprocessing.managers import BaseManager
from typing import Any

import psutil

import aiomanager
from aiomanager._client.manager_client import ManagerClient
from aiomanager._ground.addresses import ServerAddress
from aiomanager._host.server import QueueServer
from aiomanager._host.settings import HostRegistry, HostSettings
from aiomanager._transport.session import Session
from tests.support.waiting import wait_until_sync

KEY = b"a key of the tests, long enough"


def stock_client(address: Any, *names: str, key: bytes = KEY) -> Any:
    """A connected `BaseManager` that knows the names as methods."""

    class Client(BaseManager):
        pass

    for name in names:
        Client.register(name)
    client = Client(address, key)
    client.connect()
    return client


def stock_queue(address: Any, name: str = "jobs") -> Any:
    """A stock proxy of a queue."""
    return getattr(stock_client(address, name), name)()


@contextlib.contextmanager
def serving(
    address: ServerAddress | None = None, *, types: dict[str, Any] | None = None, **settings: Any
) -> Iterator[QueueServer]:
    """A host on a thread of this process, for tests that look inside."""
    settings.setdefault("queues", {"jobs": 0, "small": 2})
    names = dict.fromkeys(settings["queues"])
    registry = HostRegistry({**names, **(types or {})}, HostSettings(**settings))
    server = QueueServer(registry, address, KEY)
    thread = threading.Thread(target=server.serve_forever, name="host")
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(10)
        assert not thread.is_alive(), "the host ends"


@contextlib.contextmanager
def script(code: str, *arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A Python process that runs the code, and is killed at the end if it is still there."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
    try:
        with process:
            try:
                yield process
            finally:
                process.kill()
    finally:
        process.wait()


def ends(process: subprocess.Popen[str], timeout: float = 10.0) -> int:
    """Wait for a process to end, and return its exit code."""
    return process.wait(timeout)


def interrupt(process: subprocess.Popen[str], number: int = signal.SIGINT) -> None:
    """Send a signal to a process."""
    process.send_signal(number)


def dial(address: Any) -> socket.socket:
    """A bare connection to a host."""
    if isinstance(address, str):
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(address)
        except OSError:
            sock.close()
            raise
        return sock
    return socket.create_connection(address)


@contextlib.contextmanager
def authenticated(address: Any, key: bytes = KEY) -> Iterator[connection.Connection]:
    """A connection of the standard library's, past the handshake."""
    stdlib: Any = connection
    with connection.Connection(dial(address).detach()) as conn:
        stdlib.answer_challenge(conn, key)
        stdlib.deliver_challenge(conn, key)
        yield conn


def listens(address: Any) -> bool:
    """Whether somebody takes connections there; the file of a socket is there a little earlier."""
    try:
        dial(address).close()
    except OSError:
        return False
    return True


def is_gone(pid: int) -> bool:
    """Whether a process has ended; the zombie of an orphan has."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def is_closed(sock: socket.socket, timeout: float = 5.0) -> bool:
    """Whether the other side has ended the connection, or does within the timeout."""
    sock.settimeout(timeout)
    try:
        while sock.recv(4096):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return True


def waiting_getters(server: QueueServer, count: int, name: str = "jobs") -> None:
    """Wait until so many receives wait at a queue."""
    hosted = server.queues[name]
    wait_until_sync(
        lambda: hosted.statistics()["waiting_getters"] == count,
        description=f"{count} gets wait at the host",
    )


def session_of(manager: aiomanager.AsyncManager) -> Session:
    """The session of a manager that is connected to a host of ours."""
    client = manager._client
    assert isinstance(client, ManagerClient)
    return client._session
