"""A client of ours at a host, message by message."""

from __future__ import annotations

import contextlib
import itertools
import socket
from collections.abc import Iterator, Sequence
from typing import Any

from aiomanager._ground.buffers import Buffer
from aiomanager._host.server import QueueServer
from aiomanager._wire.messages import load
from aiomanager._wire.requests import pack_request, repeated
from tests.support.hosts import KEY, dial
from tests.support.wire import OwnMessages, pack_tuple


class Client:
    """A connection of a client of ours."""

    def __init__(self, sock: socket.socket, name: str, **said: Any) -> None:
        self.sock = sock
        self.messages = OwnMessages(sock, KEY, name, **said)
        self.hello = self.messages.hello
        self._ids = itertools.count(1)
        self._replies: dict[int, tuple[str, Any]] = {}

    def send(self, method: str, *args: Any, queue: str = "jobs", **numbered: Any) -> int:
        """Send a request; return its id."""
        request_id = next(self._ids)
        again = numbered.pop("again", False)
        request = (f"aiomanager-queue:{queue}", method, args, numbered, request_id)
        parts = pack_tuple(request)
        self.messages.send(repeated(parts) if again else parts)
        return request_id

    def send_plainly(self, method: str, *args: Any, frames: Sequence[Buffer] = ()) -> int:
        """Send a request with whatever arguments; return its id."""
        request_id = next(self._ids)
        parts = pack_request(request_id, "aiomanager-queue:jobs", method, args, frames)
        self.messages.send(parts)
        return request_id

    def reply(self, request_id: int) -> tuple[str, Any]:
        """The reply to a request, whatever else comes before it."""
        while request_id not in self._replies:
            kind, value, answered = load(self.messages.receive())
            assert answered not in self._replies
            self._replies[answered] = kind, value
        return self._replies.pop(request_id)

    def call(self, method: str, *args: Any, queue: str = "jobs", **numbered: Any) -> Any:
        """Send a request and return what it returned."""
        kind, value = self.reply(self.send(method, *args, queue=queue, **numbered))
        assert kind == "#RETURN", value
        return value

    def nothing_yet(self, request_id: int) -> bool:
        """Whether a request waits, as what was sent after it is answered."""
        self.call("qsize")
        return request_id not in self._replies


@contextlib.contextmanager
def client(host: QueueServer, name: str = "one", **said: Any) -> Iterator[Client]:
    """A client of ours, until its connection ends.

    Args:
        said: what it says in its hello beside its name.
    """
    with dial(host.address) as sock:
        yield Client(sock, name, **said)


def data_of(deliveries: list[tuple[int, int, bytes]]) -> list[bytes]:
    """The items of a receive."""
    return [data for _, _, data in deliveries]
