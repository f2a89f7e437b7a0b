"""A host without a socket and without a clock: what its peers send is fed to it, and it is told
how much time passes."""

from __future__ import annotations

import errno
import math
import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

from aiomanager._ground.buffers import Buffer
from aiomanager._host import server
from aiomanager._host.connection import Peer
from aiomanager._host.settings import HostRegistry, HostSettings
from aiomanager._wire.framing import MessageReader, pack
from aiomanager._wire.handshake import client_handshake
from tests.support.hosted_calls import FakeTimers
from tests.support.wire import stock_handshake

RUN = 1  # that of the host, which a fuzzer could not guess
KEY = b"a key of the tests, long enough"


class FakeReactor(FakeTimers):
    """Watches nothing. What a host would log as a failure of its own is raised."""

    def __init__(
        self, busy_poll: float = 0.0, afterwards: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__()
        self._afterwards = afterwards
        self._soon: deque[Callable[[], None]] = deque()

    def call_at(self, when: float, callback: Callable[[], None]) -> Any:
        if math.isnan(when):
            raise ValueError("NaN is no time")
        return super().call_at(when, callback)

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._soon.append(callback)

    def turn(self, seconds: float = 0.0) -> None:
        """Do what is to be done soon, and what is due after so many seconds."""
        self.advance(seconds)
        while self._soon:
            self._soon.popleft()()
            self._afterwards()

    def afterwards(self) -> None:
        self._afterwards()

    def watch(self, sock: object, events: int, callback: object) -> None:
        """There is nothing to see."""

    def unwatch(self, sock: object) -> None:
        """There was nothing to see."""

    def warn(self, message: str, *args: object) -> None:
        assert message % args

    def failed(self, message: str, error: Exception) -> None:
        if isinstance(error, MemoryError):
            return  # the fuzzer lets a process have little of it, and its peer is cut off
        raise AssertionError(message) from error

    def stop(self) -> None:
        """It does not run."""

    def close(self) -> None:
        """It has nothing."""


class FakeListener:
    def __init__(self, address: object) -> None:
        self.address = "nowhere"
        self.sock = FakeSocket()

    def close(self) -> None:
        """It has no file."""


class FakeSocket:
    """A connection: `arriving` is what the peer has sent, `sent` what the host has.

    Attributes:
        reads: whether the peer takes what the host sends.
    """

    family = socket.AF_UNIX

    def __init__(self) -> None:
        self.arriving = b""
        self.sent = bytearray()
        self.reads = True
        self.closed = False

    def setsockopt(self, *option: int) -> None:
        """Nothing that it could change."""

    def recv(self, size: int, flags: int = 0) -> bytes:
        if not self.arriving:
            raise BlockingIOError
        data = self.arriving[:size]
        if not flags & socket.MSG_PEEK:
            self.arriving = self.arriving[size:]
        return data

    def recv_into(self, buffer: memoryview) -> int:
        data = self.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def send(self, data: Buffer) -> int:
        return self.sendmsg([data])

    def sendmsg(self, parts: Sequence[Buffer]) -> int:
        if self.closed:
            raise OSError(errno.EBADF, "closed")
        if not self.reads:
            raise BlockingIOError
        before = len(self.sent)
        for part in parts:
            self.sent += part
        return len(self.sent) - before

    def close(self) -> None:
        self.closed = True

    def shutdown(self, how: int) -> None:
        """The other end would see it."""

    def setblocking(self, flag: bool) -> None:
        """It never blocks."""

    def getpeername(self) -> str:
        return ""


def _in_short() -> str:
    return repr(sys.exception())


class Host(server.QueueServer):
    """A host of two queues, `jobs` with room for all and `small` with room for two. What it would
    hand to a thread of its own is counted: from there on a peer that has the key does what it
    likes."""

    reactor: Any

    def __init__(self) -> None:
        settings = HostSettings(
            queues={"jobs": 0, "small": 2},
            allow_shutdown=False,
            lease_timeout=5.0,
            dead_letter="small",
            max_deliveries=3,
        )
        registry = HostRegistry(dict.fromkeys(settings.queues), settings)
        with (
            mock.patch.object(server, "Reactor", FakeReactor),
            mock.patch.object(server, "Listener", FakeListener),
        ):
            super().__init__(registry, None, KEY)
        self.to_workers = 0
        for queue in self.queues.values():
            queue._leases._first = queue._leases._next = 0  # so that who guesses one may be right
        for face in self._own._faces.values():
            face._run = RUN

    def _message(self, peer: Peer, message: Buffer) -> None:
        # The standard library's formatting of tracebacks would take nine tenths of the time.
        with mock.patch.object(server, "format_exc", _in_short):
            super()._message(peer, message)

    def _to_worker(self, peer: Peer, message: Buffer) -> None:
        self.to_workers += 1

    def connect(self) -> Connection:
        """A stranger."""
        sock: Any = FakeSocket()
        self._welcome(sock)
        return Connection(self, sock, next(reversed(self._peers)))


class Connection:
    """A peer's end of a connection."""

    def __init__(self, host: Host, sock: FakeSocket, peer: Peer) -> None:
        self.sock = sock
        self.peer = peer
        self._host = host
        self._reader = MessageReader()

    def feed(self, data: bytes) -> None:
        """Send bytes, and let the host do what it does about them."""
        self.sock.arriving += data
        while self.sock.arriving and not self.peer.closed:
            self.peer._ready(1)
        self._host.reactor.turn()

    def read(self) -> list[bytes]:
        """The messages that the host has sent and nobody has read."""
        self._reader.feed(bytes(self.sock.sent))
        self.sock.sent.clear()
        messages = []
        while (message := self._reader.next()) is not None:
            messages.append(bytes(message))
        return messages

    def take(self, reads: bool) -> None:
        """Read from now on what the host sends, or don't."""
        self.sock.reads = reads
        if reads and not self.peer.closed:
            self.peer._ready(2)

    def authenticate(self, *, own: bool) -> None:
        """Show that the peer has the key, as a client of ours or as one of the standard
        library's."""
        handshake: Any = client_handshake(KEY, sealed=False) if own else stock_handshake(KEY)
        step = next(handshake)
        try:
            while True:
                if step is None:
                    (message,) = self.read()
                    step = handshake.send(message)
                else:
                    self.feed(b"".join(pack([step])))
                    step = next(handshake)
        except StopIteration:
            pass

    def end(self) -> None:
        """Close the connection on the peer's side."""
        self.peer.close()
        self._host.reactor.turn()
