"""Requests of plain data, which can be unpickled without running anything of a user's."""

from __future__ import annotations

import io
import pickle
from multiprocessing.reduction import ForkingPickler
from typing import Any

from ._frames import PROTOCOL
from ._splice import PROTOCOLS
from ._wire import Buffer, split


class NotPlainError(Exception):
    """A pickle names classes or functions, so that loading it may run a user's code."""


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise NotPlainError


def load_plain(message: Buffer) -> tuple[Any, ...]:
    """Unpickle a request; raises `NotPlainError` before anything of a user's has run."""
    if (
        not isinstance(message, memoryview)  # in which one cannot look for anything
        and message[:2] in PROTOCOLS
        and pickle.STACK_GLOBAL not in message
    ):
        # Without the byte that begins every name there is none in it, and this is fast.
        request = pickle.loads(message)
    else:
        body, buffers = split(message)
        request = _PlainUnpickler(io.BytesIO(body), buffers=buffers).load()
    if not isinstance(request, tuple):
        raise TypeError(f"a request is a tuple, and not a {type(request).__name__}")
    return request


def encode_plain(item: object) -> bytes:
    """Pickle an item that came in a plain request."""
    return pickle.dumps(item, PROTOCOL)


def encode_any(item: object) -> bytes:
    """Pickle an item as the standard library would, which can pass on connections and sockets."""
    return bytes(ForkingPickler.dumps(item, PROTOCOL))
