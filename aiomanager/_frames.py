"""Items as bytes: what a queue carries, and how it becomes an object again.

The host keeps frames and never looks inside, so it needs none of its users' classes. A frame
pickles as "unpickle these bytes", so that a peer which knows only the standard library receives
the object itself.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from typing import Any

from ._errors import DecodeError, EncodeError

# Protocol 5 is the newest that every supported Python reads.
PROTOCOL = 5

# Bytes from this size on are put into their pickle by hand: the pickler would make room for half as
# much again, in memory that is new to the process and takes longer to have than to fill.
LARGE_BYTES = 64 * 1024
_BYTES = pickle.PROTO + bytes([PROTOCOL]) + pickle.BINBYTES8


class Frame:
    """The pickle of one item, which unpickles to the item and not to a frame."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self) -> tuple[Any, ...]:
        return pickle.loads, (self.data,)


class Expression:
    """Pickles as the call of a function, so that the value is made where it arrives."""

    def __init__(self, function: Any, *args: Any) -> None:
        self._call = (function, args)

    def __call__(self) -> None:
        """Do nothing: pickle wants the function of a call to be callable, and this may be one."""

    def __reduce__(self) -> tuple[Any, ...]:
        return self._call


def encode(item: object) -> bytes:
    """Pickle an item; raises `EncodeError` where that cannot be done."""
    if type(item) is bytes and len(item) >= LARGE_BYTES:
        return b"".join((_BYTES, struct.pack("<Q", len(item)), item, pickle.STOP))
    try:
        return pickle.dumps(item, PROTOCOL)
    except Exception as exc:
        raise EncodeError(
            f"this {type(item).__name__} cannot be pickled, so it cannot travel to another "
            f"process: {exc}. Put plain data or an instance of a module-level class instead."
        ) from exc


def decode(
    data: bytes | bytearray | memoryview,
    loads: Callable[[bytes | bytearray | memoryview], Any] = pickle.loads,
) -> Any:
    """Unpickle an item; raises `DecodeError`, which keeps the bytes, where that cannot be done."""
    try:
        return loads(data)
    except Exception as exc:
        raise DecodeError(
            f"an item of {len(data)} bytes cannot be unpickled in this process "
            f"({type(exc).__name__}: {exc}). Make its class importable here, under the name that "
            "it has where it was put.",
            bytes(data),
        ) from exc
