"""A blocking client that is not ours: the wire alone, so that what is tried and what is checked do
not depend on the client under test. It can also say what no decent client would."""

from __future__ import annotations

import itertools
import pickle
import socket
from typing import Any, Self

from aiomanager._ground.buffers import Buffer
from aiomanager._wire.messages import QUEUE_PREFIX, dump, load
from tests.chaos.waits import at_most
from tests.support.wire import OwnMessages, StockMessages, pack_tuple

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
        self._ids = itertools.count(1)
        self._early: dict[int, tuple[str, Any]] = {}
        self._messages: StockMessages | OwnMessages
        try:
            if name is None:
                self._messages = StockMessages(self.sock, key.encode())
            else:
                self._messages = OwnMessages(self.sock, key.encode(), name)
        except BaseException:
            self.close()
            raise

    def send(self, parts: list[Buffer]) -> None:
        """Send one message."""
        self._messages.send(parts)

    def receive(self) -> Buffer:
        """Wait for one message; raises EOFError at the end of the connection."""
        return self._messages.receive()

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

    @property
    def run(self) -> int:
        """Which run of the host this is."""
        assert isinstance(self._messages, OwnMessages)
        run: int = self._messages.hello["run"]
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

    def __exit__(self, *_: object) -> None:
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
