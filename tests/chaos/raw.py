"""A blocking client that is not ours: the wire alone, so that what is tried and what is checked do
not depend on the client under test. It can also say what no decent client would."""

from __future__ import annotations

import contextlib
import itertools
import pickle
import socket
from types import TracebackType
from typing import Any, Self

from aiomanager._wire.framing import Buffer, MessageReader, pack
from aiomanager._wire.handshake import client_handshake
from aiomanager._wire.messages import CLIENT_PREFIX, QUEUE_PREFIX, dump, load
from aiomanager._wire.requests import pack_request, pack_tuple
from tests.chaos.waits import at_most

Address = tuple[str, int] | str


def connect(address: Address, timeout: float = 10.0) -> socket.socket:
    """A socket that is connected, and nothing more."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    sock = socket.socket(family)
    sock.settimeout(at_most(timeout))
    try:
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    if family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


class RawClient:
    """A connection to a manager, stock or ours.

    Args:
        name: introduces it as a client of ours, whose requests have ids; None for a stock client.
        timeout: seconds for each reply.
    """

    def __init__(
        self, address: Address, key: str, name: str | None = None, timeout: float = 10.0
    ) -> None:
        self.sock = connect(address, timeout)
        self._reader = MessageReader()
        self._ids = itertools.count(1)
        self._early: dict[int, tuple[str, Any]] = {}
        try:
            handshake = client_handshake(key.encode())
            with contextlib.suppress(StopIteration):
                step = next(handshake)
                while True:
                    if step is None:
                        step = handshake.send(self.receive())
                    else:
                        self.send([step])
                        step = next(handshake)
            if name is not None:
                self.stock(None, "accept_connection", CLIENT_PREFIX + name)
        except BaseException:
            self.close()
            raise

    def send(self, parts: list[Buffer]) -> None:
        """Send one message."""
        for part in pack(parts):
            self.sock.sendall(part)

    def receive(self) -> Buffer:
        """Wait for one message; raises EOFError at the end of the connection."""
        while (message := self._reader.next()) is None:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError("the host closed the connection")
            self._reader.feed(data)
        return message

    def stock(self, ident: str | None, method: str, *args: object) -> Any:
        """A request as the standard library sends it; returns its value or raises its error."""
        self.send_stock(ident, method, *args)
        return _value(*pickle.loads(self.receive()))

    def send_stock(self, ident: str | None, method: str, *args: object) -> None:
        """The same, without waiting for the reply."""
        self.send(dump((ident, method, args, {})))

    def ask(self, queue: str, method: str, *args: object, **kwds: object) -> int:
        """Send a request of a client of ours; return its id."""
        request_id = next(self._ids)
        request = (QUEUE_PREFIX + queue, method, args, kwds, request_id)
        self.send(pack_tuple(request))
        return request_id

    def hello(self) -> int:
        """Greet the host; return which run of it this is."""
        request_id = next(self._ids)
        self.send(pack_request(request_id, "", "hello", (None, 10.0)))
        run: int = self.answer(request_id)[0]
        return run

    def answer(self, request_id: int) -> Any:
        """Wait for the reply to a request."""
        while request_id not in self._early:
            kind, value, answered = load(self.receive())
            self._early[answered] = (kind, value)
        return _value(*self._early.pop(request_id))

    def answered(self, request_id: int) -> bool:
        """Whether the reply to a request has come before one that was waited for."""
        return request_id in self._early

    def own(self, queue: str, method: str, *args: object, **kwds: object) -> Any:
        """Send a request of a client of ours and wait for its reply."""
        return self.answer(self.ask(queue, method, *args, **kwds))

    def close(self) -> None:
        """End the connection."""
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def function(address: Address, key: str, name: str, *args: object) -> Any:
    """Call a function of a manager's server, on a connection of its own, as the protocol has it."""
    with RawClient(address, key) as client:
        return client.stock(None, name, *args)


class StockQueue:
    """A queue at any manager, over one connection, as a stock client has it."""

    def __init__(self, address: Address, key: str, name: str) -> None:
        self.ident, _ = function(address, key, "create", name)
        self._client = RawClient(address, key)
        self._client.stock(None, "accept_connection", "raw")

    def call(self, method: str, *args: object) -> Any:
        """Call a method of the queue."""
        return self._client.stock(self.ident, method, *args)

    def close(self) -> None:
        """End the connection."""
        self._client.close()


def _value(kind: str, value: Any) -> Any:
    if kind == "#RETURN":
        return value
    if isinstance(value, Exception):
        raise value
    raise RuntimeError(f"{kind}: {value}")
