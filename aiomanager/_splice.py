"""Items cut out of a stock client's requests, and set into the replies to one, as they are.

A pickle is a program for a stack machine, with a memo of what may be needed again. The standard
library's clients send a put as

    PROTO FRAME MARK ident MEMOIZE "put" MEMOIZE <item> TUPLE1 MEMOIZE EMPTY_DICT MEMOIZE TUPLE
    MEMOIZE STOP

and what stands there for the item is the item's own program, but for one thing: its memo begins
with the two strings. With these in front, put into the memo and off the stack again, it runs
alone. So the host need not unpickle what passes through it: it runs nothing of a user's, needs none
of his classes, and is faster. Whatever is pickled in another way goes the long way.

A large item is not even copied. It has several frames, which only matter to unpicklers that read
from a file and which the last opcodes are counted in. So the message becomes the item's pickle
where it is: its ends are overwritten by programs of the same lengths, with no-ops for what is over.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Container

from ._backlog import Data
from ._frames import PROTOCOL
from ._wire import BULK_SIZE, Buffer

# From Python 3.8 on, every pickle that nobody asked to be another begins with one of these.
PROTOCOLS = (pickle.PROTO + b"\x04", pickle.PROTO + b"\x05")

_FRAME = struct.Struct("<2scQ")
_BEFORE_IDENT = pickle.MARK + pickle.SHORT_BINUNICODE
_IDENT = _FRAME.size + len(_BEFORE_IDENT) + 1  # where the id begins, after its length
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


_NO_OP = pickle.NONE + pickle.POP
# What is in front of an item loses its frame and the mark, and has two more pops.
_PADDING = _NO_OP * 4
_PADDED_END = _NO_OP * 3 + pickle.STOP


def put_in(message: Buffer, idents: Container[str]) -> tuple[str, Data] | None:
    """The id and the item's pickle, where a message is a plain `put(item)` for one of `idents`;
    else None. A large message is the item's from then on."""
    end = _end_of_ident(message)
    if not end:
        return None
    ident = str(message[_IDENT:end], "utf-8")
    if ident not in idents:
        return None
    if isinstance(message, bytes):
        item = message[end + len(_AFTER_IDENT) : -len(_END)]
        start = message[_FRAME.size + 1 : end]
        return ident, b"".join((message[:2], start, _REMEMBERED, item, pickle.STOP))
    start = bytes(message[_IDENT - 2 : end])
    message[2 : end + len(_AFTER_IDENT)] = b"".join((_PADDING, start, _REMEMBERED))
    message[-len(_END) :] = _PADDED_END
    return ident, message


def _end_of_ident(message: Buffer) -> int:
    """Where the id ends in a plain `put(item)`; 0 in anything else."""
    if len(message) < _IDENT + len(_END) or message[-len(_END) :] != _END:
        return 0
    proto, opcode, length = _FRAME.unpack_from(message)
    if proto not in PROTOCOLS or opcode != pickle.FRAME:
        return 0
    # In more than one frame a small item is none that the standard library's pickler has made.
    if isinstance(message, bytes) and length != len(message) - _FRAME.size:
        return 0
    if message[_FRAME.size : _IDENT - 1] != _BEFORE_IDENT:
        return 0
    end: int = _IDENT + message[_IDENT - 1]
    return end if message[end : end + len(_AFTER_IDENT)] == _AFTER_IDENT else 0


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
