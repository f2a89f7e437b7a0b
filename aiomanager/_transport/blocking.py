"""Blocking connections, as worker threads use them; any thread may close one."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Sequence
from multiprocessing import connection
from time import monotonic
from typing import Protocol

from .._ground.buffers import Buffer
from .._ground.errors import AuthenticationError
from .._wire.endpoint import Endpoint
from .._wire.framing import MESSAGE_LIMIT
from .._wire.handshake import HANDSHAKE_LIMIT, Greeted, Handshake
from .base import run_now
from .connecting import is_silent
from .forks import belongs_to_this_process


class Blocking(Protocol):
    """A blocking connection, as a worker thread uses it."""

    def greet(self, left: Callable[[], float]) -> Greeted:
        """Go through the handshake; `left` is how many seconds each step may take."""
        ...

    def send(self, parts: Sequence[Buffer], timeout: float | None = None) -> None:
        """Send a message within so many seconds, or raise `TimeoutError`."""

    def receive(self, timeout: float | None) -> Buffer:
        """The next message, which has to begin and to end within so many seconds: a host that
        lets it drip must not stretch them. Raises `TimeoutError`."""
        ...

    def received(self) -> Buffer | None:
        """A message that came together with the one before, if there is one."""

    def is_alive(self) -> bool:
        """`Link.is_alive`."""
        ...

    def close(self) -> None: ...


class BlockingSocket:
    """A socket to a host."""

    def __init__(self, sock: socket.socket, end: Endpoint) -> None:
        belongs_to_this_process(sock)
        self._socket = sock
        self._use = _Use(sock)
        self._end = end

    def greet(self, left: Callable[[], float]) -> Greeted:
        while self._end.greeted is None:
            with self._use:
                self._socket.settimeout(left())
                if not self._end.read(self._socket):
                    raise EOFError
                try:
                    self._end.shake()
                except AuthenticationError:
                    with contextlib.suppress(OSError):  # a word that need not arrive
                        self._send(self._end.to_send())
                    raise
                self._send(self._end.to_send())
        return self._end.greeted

    def _send(self, packed: Sequence[Buffer]) -> None:
        for part in packed:
            self._socket.sendall(part)

    def send(self, parts: Sequence[Buffer], timeout: float | None = None) -> None:
        packed = self._end.pack(parts)
        deadline = None if timeout is None else monotonic() + timeout
        with self._use:
            self._socket.settimeout(timeout)
            self._socket.sendall(packed[0])
            for part in packed[1:]:
                self._socket.settimeout(time_left(deadline))
                self._socket.sendall(part)

    def receive(self, timeout: float | None) -> Buffer:
        deadline = None if timeout is None else monotonic() + timeout
        with self._use:
            self._socket.settimeout(timeout)
            while (message := self._end.next()) is None:
                if self._end.midway:
                    self._socket.settimeout(time_left(deadline))
                if not self._end.read(self._socket):
                    raise EOFError
            return message

    def received(self) -> Buffer | None:
        return self._end.next()

    def is_alive(self) -> bool:
        try:
            with self._use:
                self._socket.settimeout(0)
                return is_silent(self._socket) and not self._end.midway
        except OSError:  # it is closed
            return False

    def close(self) -> None:
        self._use.end()


class _Use:
    """Who is using a socket: it is closed when nobody is any more.

    A thread that is about to wait for a socket has its number, which the system gives to the next
    one that is opened as soon as this one is closed: the thread would wait for that other one, and
    might read what comes there. So `end` shuts the connection down, which wakes the threads, and
    the last of them closes.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        # A finalizer may end it on the very thread that holds this.
        self._lock = threading.RLock()
        self._users = 0
        self._ended = False

    def __enter__(self) -> None:
        with self._lock:
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if self._ended and not self._users:
                self._socket.close()

    def end(self) -> None:
        with self._lock:
            self._ended = True
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            if not self._users:
                self._socket.close()


class BlockingPipe:
    """Whatever `multiprocessing.connection.Client` connects to: Windows' named pipes."""

    def __init__(self, conn: connection.Connection, handshake: Handshake) -> None:
        self._connection = conn
        self._handshake = handshake
        self._limit = HANDSHAKE_LIMIT

    def greet(self, left: Callable[[], float]) -> Greeted:
        def step(said: bytes | None) -> Buffer | None:
            if said is None:
                return self.receive(left())
            self.send([said], left())
            return None

        greeted = run_now(self._handshake, step)
        self._limit = MESSAGE_LIMIT
        return greeted

    def send(self, parts: Sequence[Buffer], timeout: float | None = None) -> None:
        self._connection.send_bytes(b"".join(parts))

    def receive(self, timeout: float | None) -> Buffer:
        if timeout is not None and not self._connection.poll(timeout):
            raise TimeoutError
        return self._connection.recv_bytes(self._limit)

    def received(self) -> Buffer | None:
        return None

    def is_alive(self) -> bool:
        try:
            return not self._connection.poll(0)
        except (OSError, EOFError):
            return False

    def close(self) -> None:
        self._connection.close()


def time_left(deadline: float | None) -> float | None:
    """Seconds that are left; raises `TimeoutError` where there are none."""
    if deadline is None:
        return None
    left = deadline - monotonic()
    if left <= 0:
        raise TimeoutError
    return left
