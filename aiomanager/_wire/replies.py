"""Replies of a manager as values or errors, for whoever speaks the stock protocol."""

from __future__ import annotations

import ast
import io
import pickle
import queue
import re
from typing import Any, Protocol

from .._ground.buffers import Buffer
from .._ground.errors import DecodeError, QueueShutDown, RemoteError
from .framing import BULK_SIZE
from .messages import NOT_HERE


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
        if (module, name) == ("queue", "ShutDown") and not hasattr(queue, name):
            return QueueShutDown
        if (module, name) == ("multiprocessing.managers", "RebuildProxy") and self._proxies:
            return self._proxies.rebuilt
        return super().find_class(module, name)


def load_reply(reply: Buffer, proxies: Proxies | None = None) -> Any:
    """Return the value of a reply, or raise its error.

    Raises:
        DecodeError: this process cannot unpickle it.
        NotThereError: the host does not have what it was asked for.
        RemoteError: the host failed to run the call.

    And whatever the object itself raised; a StopIteration, which no coroutine can raise, as
    StopAsyncIteration.
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
    if kind == "#ERROR" and isinstance(value, Exception):
        error = _raised(value)
    else:
        text = str(value)
        error = _not_there(text) or RemoteError(f"the host could not run this call:\n{text}")
    try:
        raise error
    finally:
        # By its traceback the error holds this frame.
        del error, value


def load_queue_reply(reply: Buffer) -> Any:
    """`load_reply` for the call of a queue: the end of a queue is our error, whatever Python the
    host has."""
    try:
        return load_reply(reply)
    except _ShutDown as exc:
        raise QueueShutDown("the queue was shut down") from exc


_ShutDown: type[Exception] = getattr(queue, "ShutDown", QueueShutDown)


def _raised(error: Exception) -> Exception:
    """What an object, or a host of ours, has raised."""
    if isinstance(error, StopIteration):
        stop = StopAsyncIteration(*error.args)
        stop.__cause__ = error.__cause__
        return stop.with_traceback(error.__traceback__)
    key = getattr(error, NOT_HERE, None)
    return error if key is None else NotThereError(str(error.args[0]), str(key))


# -- what a host does not have ----------------------------------------------------------------


class NotThereError(RemoteError):
    """The host has registered nothing under a name, or has no object of an id.

    Attributes:
        key: the name or the id.
    """

    def __init__(self, message: str, key: str) -> None:
        super().__init__(message)
        self.key = key


# The functions of the standard library's server that look a name or an id up.
_LOOK_UPS = frozenset({"create", "serve_client", "get_methods", "incref", "decref"})
_FRAME = re.compile(r'^  File "(.*)", line \d+, in (\S+)\n(?:    (.*)\n)?', re.MULTILINE)
_SERVER = re.compile(r"multiprocessing[\\/]managers\.pyc?")


def _not_there(text: str) -> NotThereError | None:
    """The error that a traceback of a stock host stands for, where its own server has looked
    something up in vain.

    Such a traceback ends with a KeyError that the server's function itself has raised: its frame
    is the last. What a registered callable raises has frames of its own, or none where it is
    written in C, and is then told by the source line.
    """
    error = text.rstrip().rpartition("\n")[2]
    frame = None
    for frame in _FRAME.finditer(text):  # noqa: B007 - for the last of them
        pass
    if not error.startswith("KeyError: ") or frame is None:
        return None
    file, function, line = frame.groups()
    if not _SERVER.search(file) or function not in _LOOK_UPS or "callable(" in (line or ""):
        return None
    try:
        key = ast.literal_eval(error.removeprefix("KeyError: "))
    except (SyntaxError, ValueError):
        return None
    return NotThereError(f"the host has nothing that is called {key!r}", str(key))


# How a reply that brings a value begins, by the protocols of pickle that managers use: the name of
# its kind comes first.
_VALUE = re.compile(rb"\x80[\x02-\x05](?:\x95.{8})?(?:\x8c\x07|X\x07\0\0\0)#RETURN", re.DOTALL)


def is_value(reply: Buffer) -> bool:
    """Whether a reply brings a value. It begins with its kind; to look for that spares
    unpickling an item, which this process may not be able to."""
    return _VALUE.match(reply) is not None
