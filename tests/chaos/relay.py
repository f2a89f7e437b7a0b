"""A wire between clients and a host that can stop forwarding, without a word, at any byte of a
message, in either direction, and go on later or never."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
from collections.abc import Callable
from typing import Self

from tests.chaos import raw

_HEADER = struct.Struct("!i")
READ_SIZE = 65536


class Way:
    """One direction of a connection: it knows where each message begins.

    Attributes:
        held: whether nothing is forwarded.
    """

    def __init__(self, source: socket.socket, target: socket.socket) -> None:
        self.source = source
        self.target = target
        self.held = False
        self.stop: tuple[int, int] | None = None  # messages that pass, then bytes
        self._least = 0
        self._passed = 0  # messages
        self._header = b""
        self._position = 0  # in the message that is under way, its header included
        self._length = 0  # of that message

    def stop_at(self, messages: int, offset: int, least: int = 0) -> None:
        """Hold after `messages` more, at byte `offset` of the first that is as long as that, and
        not shorter than `least`, as far as its header is there to tell."""
        self.stop = (self._passed + messages, offset)
        self._least = least

    def forward(self, data: bytes) -> bool:
        """Pass on what may pass; whether that was all."""
        passed = self._allowed(data)
        if passed:
            self.target.setblocking(True)
            self.target.sendall(data[:passed])
        return passed == len(data) and not self.held

    def _allowed(self, data: bytes) -> int:
        position = 0
        while position < len(data):
            if self._stops_here():
                self.held = True
                return position
            if len(self._header) < _HEADER.size:
                self._header += data[position : position + 1]
                self._position += 1
                position += 1
                if len(self._header) == _HEADER.size:
                    self._length = _HEADER.size + _HEADER.unpack(self._header)[0]
            else:
                step = min(len(data) - position, self._length - self._position)
                if self.stop is not None and self._position < self.stop[1]:
                    step = min(step, self.stop[1] - self._position)
                self._position += step
                position += step
            if len(self._header) == _HEADER.size and self._position == self._length:
                self._header, self._position = b"", 0
                self._passed += 1
        return position

    def _stops_here(self) -> bool:
        if self.stop is None or self._passed < self.stop[0]:
            return False
        short = len(self._header) == _HEADER.size and self._length < self._least
        return self._position == self.stop[1] and not short


class Connection:
    """A client's connection and the one to the host that belongs to it."""

    def __init__(self, client: socket.socket, host: socket.socket) -> None:
        self.up = Way(client, host)
        self.down = Way(host, client)
        self.ended = False

    @property
    def held(self) -> bool:
        """Whether either direction is."""
        return self.up.held or self.down.held

    def hold(self, *ways: Way) -> None:
        """Forward nothing in these directions, from now on."""
        for way in ways:
            way.held = True


class Relay:
    """Forwards between clients and a host, on a thread of its own.

    Args:
        on_accept: is shown each new connection, to say where it shall stop.

    Attributes:
        address: where clients connect to.
        connections: all that there are; `lock` is to be held while looking at them.
        stops: the byte of a message that each connection has come to a stop at.
    """

    def __init__(
        self,
        address: raw.Address,
        target: raw.Address,
        on_accept: Callable[[Connection], None] = lambda connection: None,
    ) -> None:
        self._target = target
        self._on_accept = on_accept
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self._listener = socket.socket(family)
        self._listener.bind(address)
        self._listener.listen(1024)
        self._listener.setblocking(False)
        self.address: raw.Address = self._listener.getsockname()
        self.connections: list[Connection] = []
        self.stops: list[int] = []
        self.lock = threading.RLock()
        self._selector = selectors.DefaultSelector()
        self._wake, self._waker = socket.socketpair()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="relay")
        self._thread.start()

    def release(self, connection: Connection) -> None:
        """Forward again what was held."""
        with self.lock:
            for way in (connection.up, connection.down):
                way.held = False
                # Still there where nothing came while it was held.
                with contextlib.suppress(KeyError, ValueError):
                    self._selector.register(way.source, selectors.EVENT_READ, (connection, way))
        self._waker.send(b"\0")

    def stop_accepting(self) -> None:
        """Whoever comes from now on goes straight through."""
        self._on_accept = lambda connection: None

    def cut_held(self) -> None:
        """End the connections that are held, so that both sides hear of it."""
        with self.lock:
            for connection in list(self.connections):
                if connection.held:
                    self._end(connection)

    def close(self) -> None:
        """End everything."""
        with self.lock:
            self._selector.unregister(self._listener)
            self._listener.close()
            for connection in list(self.connections):
                self._end(connection)
        self._waker.close()
        self._thread.join()
        self._selector.close()
        self._wake.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- on the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._wake:
                    if not self._wake.recv(4096):
                        return
                    continue
                with self.lock:
                    if key.fileobj is self._listener:
                        self._accept()
                    elif not key.data[0].ended:
                        self._forward(*key.data)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        try:
            host = raw.connect(self._target, 5.0)
        except OSError:
            client.close()
            return
        connection = Connection(client, host)
        self._on_accept(connection)
        self.connections.append(connection)
        for way in (connection.up, connection.down):
            self._selector.register(way.source, selectors.EVENT_READ, (connection, way))

    def _forward(self, connection: Connection, way: Way) -> None:
        if way.held:
            self._selector.unregister(way.source)
            return
        try:
            data = way.source.recv(READ_SIZE)
            stopped = bool(data) and not way.forward(data)
        except OSError:
            data, stopped = b"", False
        if stopped:
            # What was read beyond the stop is gone with the connection: nobody hears of it.
            self._selector.unregister(way.source)
            if way.stop is not None:
                self.stops.append(way.stop[1])
        elif not data:
            if connection.held:
                # The other side of a half-open connection does not hear of this end.
                self._selector.unregister(way.source)
            else:
                self._end(connection)

    def _end(self, connection: Connection) -> None:
        connection.ended = True
        self.connections.remove(connection)
        for way in (connection.up, connection.down):
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(way.source)
            way.source.close()
