"""Replies of a manager as values or errors, for whoever speaks the stock protocol."""

from __future__ import annotations

import io
import pickle
from typing import Any, Protocol

from ._errors import DecodeError, QueueShutDown, RemoteError
from ._wire import BULK_SIZE, Buffer


class Proxies(Protocol):
    """What is made of the proxies that a reply brings."""

    def created(self, exposed: Any, token: Any) -> Any:
        """A method made an object at the host, which counts one reference of this process to it."""

    def rebuilt(self, kind: Any, token: Any, serializer: str, options: dict[str, Any]) -> Any:
        """A value holds a proxy; the host counts no reference for it yet."""


class _File:
    """The file that an unpickler wants, over a buffer that is not copied for it."""

    def __init__(self, data: Buffer) -> None:
        self._left = memoryview(data)

    def read(self, size: int = -1) -> bytes:
        size = len(self._left) if size < 0 else size
        data, self._left = self._left[:size], self._left[size:]
        return bytes(data)

    def readinto(self, buffer: bytearray | memoryview) -> int:
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size

    def readline(self) -> bytes:
        line = bytearray()
        while not line.endswith(b"\n") and (byte := self.read(1)):
            line += byte
        return bytes(line)


class ReplyUnpickler(pickle.Unpickler):
    """Knows `queue.ShutDown` also in a Python that does not have it yet, and proxies.

    The standard library's `RebuildProxy` would connect to the host and wait for it in here, with
    the key of this process instead of the manager's.
    """

    def __init__(self, data: Buffer, proxies: Proxies | None = None) -> None:
        super().__init__(io.BytesIO(data) if len(data) < BULK_SIZE else _File(data))
        self._proxies = proxies

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("queue", "ShutDown"):
            return QueueShutDown
        if (module, name) == ("multiprocessing.managers", "RebuildProxy") and self._proxies:
            return self._proxies.rebuilt
        return super().find_class(module, name)


def load_reply(reply: Buffer, proxies: Proxies | None = None) -> Any:
    """Return the value of a reply, or raise its error.

    Raises:
        DecodeError: this process cannot unpickle it.
        RemoteError: the host failed to run the call.
        QueueShutDown, and whatever the object itself raised.
    """
    try:
        kind, value = ReplyUnpickler(reply, proxies).load()
    except Exception as exc:
        raise DecodeError(
            f"the host's answer cannot be unpickled in this process: {exc}", bytes(reply)
        ) from exc
    if kind == "#RETURN":
        return value
    if kind == "#PROXY" and proxies is not None:
        return proxies.created(*value)
    if kind == "#ERROR" and isinstance(value, BaseException):
        if type(value).__name__ == "ShutDown":
            raise QueueShutDown("the queue was shut down") from value
        raise value
    raise RemoteError(f"the host could not run this call:\n{value}")


def is_value(reply: Buffer) -> bool:
    """Whether a reply brings a value. It begins with its kind; to look for that spares
    unpickling an item, which this process may not be able to."""
    return b"#RETURN" in bytes(reply[:32])
