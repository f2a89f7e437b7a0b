"""Replies of a manager as values or errors, for whoever speaks the stock protocol."""

from __future__ import annotations

import io
import pickle
from typing import Any

from ._errors import DecodeError, QueueShutDown, RemoteError
from ._wire import Buffer


class Expression:
    """Pickles as the call of a function, so that the value is made where it arrives."""

    def __init__(self, function: Any, *args: Any) -> None:
        self._call = (function, args)

    def __call__(self) -> None:
        raise TypeError("only for pickling")  # pickle wants the function of a call to be callable

    def __reduce__(self) -> tuple[Any, ...]:
        return self._call


class ReplyUnpickler(pickle.Unpickler):
    """Knows `queue.ShutDown` also in a Python that does not have it yet."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("queue", "ShutDown"):
            return QueueShutDown
        return super().find_class(module, name)


def load_reply(reply: Buffer) -> Any:
    """Return the value of a reply, or raise its error.

    Raises:
        DecodeError: this process cannot unpickle it.
        RemoteError: the host failed to run the call.
        QueueShutDown, and whatever the object itself raised.
    """
    try:
        kind, value = ReplyUnpickler(io.BytesIO(reply)).load()
    except Exception as exc:
        raise DecodeError(
            f"the host's answer cannot be unpickled in this process: {exc}", bytes(reply)
        ) from exc
    if kind == "#RETURN":
        return value
    if kind == "#ERROR" and isinstance(value, BaseException):
        if type(value).__name__ == "ShutDown":
            raise QueueShutDown("the queue was shut down") from value
        raise value
    raise RemoteError(f"the host could not run this call:\n{value}")
