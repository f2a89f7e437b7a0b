"""A client of ours at a host, message by message."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from multiprocessing import connection
from typing import Any

from aiomanager._host.server import QueueServer
from aiomanager._wire.framing import Buffer
from aiomanager._wire.messages import load
from aiomanager._wire.requests import pack_request, pack_tuple, repeated
from tests.support.hosts import authenticated


class Client:
    """A connection of a client of ours."""

    def __init__(self, conn: connection.Connection, name: str) -> None:
        self.conn = conn
        self._ids = itertools.count(1)
        self._replies: dict[int, tuple[str, Any]] = {}
        conn.send((None, "accept_connection", (f"aiomanager-client:{name}",), {}))
        assert conn.recv() == ("#RETURN", None)

    def send(self, method: str, *args: Any, queue: str = "jobs", **numbered: Any) -> int:
        """Send a request; return its id."""
        request_id = next(self._ids)
        again = numbered.pop("again", False)
        request = (f"aiomanager-queue:{queue}", method, args, numbered, request_id)
        parts = pack_tuple(request)
        self.conn.send_bytes(b"".join(repeated(parts) if again else parts))
        return request_id

    def send_plainly(self, method: str, *args: Any, frames: Sequence[Buffer] = ()) -> int:
        """Send a request with whatever arguments; return its id."""
        request_id = next(self._ids)
        parts = pack_request(request_id, "aiomanager-queue:jobs", method, args, frames)
        self.conn.send_bytes(b"".join(parts))
        return request_id

    def reply(self, request_id: int) -> tuple[str, Any]:
        """The reply to a request, whatever else comes before it."""
        while request_id not in self._replies:
            kind, value, answered = load(self.conn.recv_bytes())
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
def client(host: QueueServer, name: str = "one") -> Iterator[Client]:
    """A client of ours, until its connection ends."""
    with authenticated(host.address) as conn:
        yield Client(conn, name)


def data_of(deliveries: list[tuple[int, int, bytes]]) -> list[bytes]:
    """The items of a receive."""
    return [data for _, _, data in deliveries]
