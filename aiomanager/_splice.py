"""Items cut out of a stock client's requests, and set into the replies to one, as they are.

A pickle is a program for a stack machine, with a memo of what may be needed again. The standard
library's clients send a put as

    PROTO FRAME MARK ident MEMOIZE "put" MEMOIZE <item> TUPLE1 MEMOIZE EMPTY_DICT MEMOIZE TUPLE
    MEMOIZE STOP

and what stands there for the item is the item's own program, but for one thing: its memo begins
with the two strings. With these in front, put into the memo and off the stack again, it runs
alone. So the host need not unpickle what passes through it: it runs nothing of a user's, needs none
of his classes, and is faster. Whatever is pickled in another way goes the long way.
"""

from __future__ import annotations

import pickle
import struct

from ._backlog import Data
from ._frames import PROTOCOL
from ._wire import BULK_SIZE, Buffer

# From Python 3.8 on, every pickle that nobody asked to be another begins with one of these.
PROTOCOLS = (pickle.PROTO + b"\x04", pickle.PROTO + b"\x05")

_FRAME = struct.Struct("<2scQ")
_BEFORE_IDENT = pickle.MARK + pickle.SHORT_BINUNICODE
_PUT = pickle.SHORT_BINUNICODE + b"\x03put"
_AFTER_IDENT = pickle.MEMOIZE + _PUT + pickle.MEMOIZE
_END = b"".join(
    (
        pickle.TUPLE1,
        pickle.MEMOIZE,
        pickle.EMPTY_DICT,
        pickle.MEMOIZE,
        pickle.TUPLE,
        pickle.MEMOIZE,
        pickle.STOP,
    )
)
_REMEMBERED = pickle.MEMOIZE + pickle.POP + _PUT + pickle.MEMOIZE + pickle.POP


def put_in(message: Buffer) -> tuple[str, bytes] | None:
    """The id and the item's pickle, where a message is a plain `put(item)`; else None."""
    if not isinstance(message, bytes) or not message.endswith(_END):
        return None
    start = _FRAME.size
    if len(message) < start + len(_END):
        return None
    proto, opcode, length = _FRAME.unpack_from(message)
    # More than one frame, and there is no telling which of them ends with the item.
    if proto not in PROTOCOLS or opcode != pickle.FRAME or length != len(message) - start:
        return None
    if not message.startswith(_BEFORE_IDENT, start):
        return None
    ident = start + 3
    end = ident + message[ident - 1]
    if not message.startswith(_AFTER_IDENT, end):
        return None
    item = message[end + len(_AFTER_IDENT) : -len(_END)]
    data = b"".join((proto, message[start + 1 : end], _REMEMBERED, item, pickle.STOP))
    return str(message[ident:end], "utf-8"), data


_KIND = b"#RETURN"
_BEFORE_ITEM = (
    pickle.PROTO + bytes([PROTOCOL]) + pickle.BINUNICODE + struct.pack("<I", len(_KIND)) + _KIND
)
_AFTER_ITEM = pickle.TUPLE2 + pickle.STOP


def returned_item(data: Data) -> list[Buffer]:
    """The reply that gives a stock client an item: the object itself, which is unpickled over
    there and nowhere else."""
    item = memoryview(data)[: -len(pickle.STOP)]
    if len(item) < BULK_SIZE:
        return [b"".join((_BEFORE_ITEM, item, _AFTER_ITEM))]
    return [_BEFORE_ITEM, item, _AFTER_ITEM]
