"""Requests and replies of the manager protocol as the parts of a message: pickled tuples (`dump`,
`load`).

Between aiomanager and its own host two things are added, and sent to nobody else: the reply to a
request that has an id carries it as its third element; and a message may hold large buffers beside
its pickle, so that nobody copies an item's bytes in order to frame or to unpickle them.
"""

from __future__ import annotations

import contextlib
import pickle
import struct
from typing import Any

from .._ground.buffers import Buffer
from .framing import BULK_SIZE
from .items import PROTOCOL, STOCK_PROTOCOL

_BULK = struct.Struct("!BI")
_BULK_MARK = 0x01  # no pickle of protocol 2 or later begins with this byte
_LENGTH = struct.Struct("!Q")

# The id of a hosted queue in the manager protocol is its name, so that it is the same after a
# restart of the host, and a client sees by it that the host is one of ours.
QUEUE_PREFIX = "aiomanager-queue:"

# The methods of `queue.Queue` that a hosted queue exposes to clients of the standard library.
STOCK_METHODS = (
    "put", "get", "put_nowait", "get_nowait", "task_done", "join",
    "qsize", "empty", "full", "shutdown",
)  # fmt: skip

Answer = tuple[str, Any]
"""The kind and the value of a reply."""

# What the error of a host of ours has for an attribute where the host does not have a name.
NOT_HERE = "aiomanager_not_here"


def dump(message: object) -> list[Buffer]:
    """Pickle a request or a reply into the parts of a message, in the protocol of the standard
    library; `pickle.PickleBuffer`s in it, which are for our own side alone, travel beside the
    pickle."""
    with contextlib.suppress(pickle.PicklingError):  # there are such buffers
        return [pickle.dumps(message, STOCK_PROTOCOL)]
    buffers: list[pickle.PickleBuffer] = []
    body = pickle.dumps(message, PROTOCOL, buffer_callback=buffers.append)
    if not buffers:
        return [body]
    raws = [buffer.raw() for buffer in buffers]
    lengths = struct.pack(f"!{len(raws) + 1}Q", len(body), *map(len, raws))
    return [b"".join((_BULK.pack(_BULK_MARK, len(raws)), lengths, body)), *raws]


def split(message: Buffer) -> tuple[Buffer, list[memoryview]]:
    """Split a message into its pickle and the buffers beside it, without a copy."""
    if not message or message[0] != _BULK_MARK:
        return message, []
    view = memoryview(message).toreadonly()
    try:
        _, count = _BULK.unpack_from(view)
        lengths = struct.unpack_from(f"!{count + 1}Q", view, _BULK.size)
    except struct.error as exc:
        raise pickle.UnpicklingError(f"a message is too short for its parts: {exc}") from exc
    position = _BULK.size + _LENGTH.size * (count + 1)
    pieces: list[memoryview] = []
    for length in lengths:
        pieces.append(view[position : position + length])
        position += length
    if position != len(view):
        raise pickle.UnpicklingError("the parts of a message do not add up to its length")
    return pieces[0], pieces[1:]


def load(message: Buffer) -> Any:
    """Unpickle a request or a reply."""
    body, buffers = split(message)
    return pickle.loads(body, buffers=buffers)


def bulky(data: Buffer) -> Buffer | pickle.PickleBuffer:
    """Mark an item's bytes to travel beside the pickle where they are many."""
    return pickle.PickleBuffer(data) if len(data) >= BULK_SIZE else bytes(data)
