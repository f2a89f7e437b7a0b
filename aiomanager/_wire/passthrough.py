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

from .._ground.buffers import Buffer
from .framing import BULK_SIZE
from .items import PROTOCOL, STOCK_PROTOCOL, taken_off, without_protocol_5

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


def put_in(message: Buffer, idents: Container[str]) -> tuple[str, Buffer] | None:
    """The id and the item's pickle, where a message is a plain `put(item)` for one of `idents`;
    else None. A large message is the item's from then on."""
    end = _end_of_ident(message)
    if not end:
        return _old_put_in(bytes(message), idents) if message[:2] == _OLD else None
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


# Up to Python 3.7 there are no frames, strings have longer lengths, and what is put into the memo
# has its number there.
_OLD = pickle.PROTO + b"\x03"
_OLD_BEFORE_IDENT = _OLD + pickle.MARK
_OLD_PUT = pickle.BINUNICODE + b"\x03\x00\x00\x00put" + pickle.BINPUT + b"\x01"
_OLD_LENGTH = struct.Struct("<I")


def _old_put_in(message: bytes, idents: Container[str]) -> tuple[str, Buffer] | None:
    """`put_in` for a request of a Python up to 3.7."""
    start = len(_OLD_BEFORE_IDENT)
    if not message.startswith(_OLD_BEFORE_IDENT + pickle.BINUNICODE) or len(message) < start + 5:
        return None
    ident_end = start + 5 + _OLD_LENGTH.unpack_from(message, start + 1)[0]
    begin = message[start:ident_end] + pickle.BINPUT + b"\x00"
    ident = str(message[start + 5 : ident_end], "utf-8", "replace")
    item = ident_end + 2 + len(_OLD_PUT)
    end = _old_end(message)
    if ident not in idents or not message.startswith(begin + _OLD_PUT, start) or not item < end:
        return None
    alone = (_OLD, begin, pickle.POP, _OLD_PUT, pickle.POP, message[item:end], pickle.STOP)
    return ident, b"".join(alone)


def _old_end(message: bytes) -> int:
    """Where the item ends; 0 where it is not all that there is."""
    for size in (1, 4):  # of the number in the memo
        number = int.from_bytes(message[-1 - size : -1], "little")
        end = b"".join(
            (
                pickle.TUPLE1,
                _old_memo(number - 2),
                pickle.EMPTY_DICT,
                _old_memo(number - 1),
                pickle.TUPLE,
                _old_memo(number),
                pickle.STOP,
            )
        )
        if message.endswith(end):
            return len(message) - len(end)
    return 0


def _old_memo(number: int) -> bytes:
    if 0 <= number < 256:
        return pickle.BINPUT + bytes([number])
    return pickle.LONG_BINPUT + struct.pack("<I", number & 0xFFFFFFFF)


_KIND = b"#RETURN"
_BEFORE_ITEM = (
    pickle.PROTO
    + bytes([STOCK_PROTOCOL])
    + pickle.BINUNICODE
    + struct.pack("<I", len(_KIND))
    + _KIND
)
_AFTER_ITEM = pickle.TUPLE2 + pickle.STOP


def returned_item(data: Buffer, protocol: int = PROTOCOL) -> list[Buffer]:
    """The reply that gives a stock client an item: the object itself, which is unpickled over
    there and nowhere else.

    Args:
        protocol: the newest that the client reads.
    """
    data = taken_off(data)
    if protocol < PROTOCOL:
        data = without_protocol_5(data)
    item = memoryview(data)[: -len(pickle.STOP)]
    if len(item) < BULK_SIZE:
        return [b"".join((_BEFORE_ITEM, item, _AFTER_ITEM))]
    return [_BEFORE_ITEM, item, _AFTER_ITEM]


def read_by_sender_of(message: Buffer) -> int:
    """The newest pickle protocol that the sender of a request reads."""
    if message[:1] != pickle.PROTO or len(message) == 1 or message[1] < 3:
        return 2
    # Pythons that choose 3 by themselves, up to 3.7, read 4 and not 5.
    return STOCK_PROTOCOL if message[1] == 3 else PROTOCOL


_REFUSAL = (
    b"a host of aiomanager needs clients with Python 3.4 or later: it speaks pickle protocol 4, "
    b"and this one no more than 2"
)
# The reply to those who read nothing newer, in the type that is `str` to Python 2.
TOO_OLD = (
    pickle.PROTO + b"\x02" + pickle.SHORT_BINSTRING + b"\x0a#TRACEBACK"
    + pickle.BINSTRING + struct.pack("<i", len(_REFUSAL)) + _REFUSAL + pickle.TUPLE2 + pickle.STOP
)  # fmt: skip
