"""The standard library's own functions, as the other side."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import connection
from typing import Any

from aiomanager._wire.framing import MessageReader, pack

KEY = b"a key that both sides have"


stdlib: Any = connection


def joined(*messages: bytes) -> bytes:
    """The messages as they stand in a stream."""
    return b"".join(bytes(part) for message in messages for part in pack([message]))


def read(reader: MessageReader, *pieces: bytes) -> list[bytes]:
    """Feed the pieces; return what comes out after each."""
    messages = []
    for piece in pieces:
        reader.feed(piece)
        while (message := reader.next()) is not None:
            messages.append(bytes(message))
    return messages


@contextmanager
def beside(function: Callable[..., Any], *args: Any) -> Iterator[list[BaseException]]:
    """Run a blocking function on a thread for the length of the block; what it raises is given."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            function(*args)
        except Exception as exc:
            raised.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield raised
    finally:
        thread.join(10)
        assert not thread.is_alive()
