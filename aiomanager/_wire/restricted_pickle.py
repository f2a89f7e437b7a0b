"""What of a stock client's request may be read on the host's own thread, and what may not.

A pickle is a program. C's unpickler runs any, also one of a dozen bytes that asks for gigabytes of
memory, or whose parts share one another so that to hash or to print it takes for ever. So on the
reactor's thread it is not used on what peers send: `load_plain` knows the few opcodes of which the
standard library makes plain data, so many of them, and shares nothing but what is atomic. All else
is loaded on a thread of its connection's own, where it holds up nobody else; `check_memo` refuses
there what would hold up the whole process.
"""

from __future__ import annotations

import pickle
import re
import struct
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any

from .._ground.buffers import Buffer
from .items import PROTOCOL

# Of one request; each takes about half a microsecond.
OPCODES_LIMIT = 2000
NAME_LIMIT = 512  # characters of the id of an object, and of a method

# Requests are short and the same again and again: what they are made of is kept.
_CACHED = 512
_CACHED_SIZE = 256
_requests: dict[bytes, tuple[Any, ...]] = {}


class NotPlainError(Exception):
    """A pickle is more than plain data, or more of it than the reactor's thread should read."""


class _Mark:
    pass


_MARK = _Mark()
_ATOMS = (type(None), bool, int, float, str, bytes)

_UNSIGNED_2 = struct.Struct("<H")
_SIGNED_4 = struct.Struct("<i")
_UNSIGNED_4 = struct.Struct("<I")
_UNSIGNED_8 = struct.Struct("<Q")
_FLOAT = struct.Struct(">d")


def load_plain(message: Buffer) -> tuple[Any, ...]:
    """Read a request; raises `NotPlainError` where it is for another thread.

    What it returns may be shared with requests that looked the same, and is not to be changed.
    """
    if len(message) > _CACHED_SIZE:
        return _Plain(bytes(message)).load()
    message = bytes(message)
    request = _requests.get(message)
    if request is None:
        request = _Plain(message).load()
        if _is_constant(request):
            if len(_requests) >= _CACHED:
                _requests.clear()
            _requests[message] = request
    return request


def _is_constant(request: tuple[Any, ...]) -> bool:
    """Whether nobody could change what it holds; kwds are unpacked where they are used."""
    return len(request) == 4 and all(type(arg) in _ATOMS for arg in request[2])


class _Plain:
    """One request."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def load(self) -> tuple[Any, ...]:
        try:
            request = self._run()
        except (IndexError, KeyError, TypeError, ValueError, struct.error) as exc:
            raise NotPlainError from exc  # whatever is wrong with it, its worker says so
        if not isinstance(request, tuple) or len(request) not in (4, 5):
            raise NotPlainError
        ident, method, args, kwds = request[:4]
        if not (
            (ident is None or (type(ident) is str and len(ident) <= NAME_LIMIT))
            and type(method) is str
            and len(method) <= NAME_LIMIT
            and type(args) is tuple
            and type(kwds) is dict
        ):
            raise NotPlainError
        return request

    def _run(self) -> Any:
        operations, data, stack = _OPERATIONS, self._data, self.stack
        for _ in range(OPCODES_LIMIT):
            opcode = data[self._position]
            self._position += 1
            if opcode == _STOP:
                (value,) = stack
                return value
            operations[opcode](self)  # KeyError: no opcode of plain data
        raise NotPlainError

    def take(self, count: int) -> bytes:
        start, self._position = self._position, self._position + count
        if self._position > len(self._data):
            raise ValueError("it ends within an argument")
        return self._data[start : self._position]

    def number(self, kind: struct.Struct) -> Any:
        return kind.unpack(self.take(kind.size))[0]

    def since_mark(self) -> list[Any]:
        stack = self.stack
        at = len(stack) - 1
        while stack[at] is not _MARK:  # IndexError: there is none
            at -= 1
            if at < 0:
                raise ValueError("there is no mark")
        values = stack[at + 1 :]
        del stack[at:]
        return values

    def make_tuple(self, count: int) -> None:
        values = tuple(self.stack[-count:])
        if len(values) != count or _MARK in values:
            raise ValueError("it has too few values")
        del self.stack[-count:]
        self.stack.append(values)

    def extend(self, values: list[Any]) -> None:
        target: Any = self.stack[-1]
        if type(target) is not list:
            raise TypeError("only a list is appended to")
        into: list[Any] = target
        into.extend(values)

    def set_items(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(values) % 2:
            raise TypeError("only a dict has items set")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if type(key) not in _ATOMS:
                raise TypeError("to hash it might take for ever")
            target[key] = value

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise ValueError("a mark is no value")
        return value

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def get(self, index: int) -> None:
        value = self.memo[index]
        if type(value) not in _ATOMS:
            raise TypeError("what holds others is not shared")
        self.stack.append(value)

    def text(self, count: int) -> None:
        self.stack.append(str(self.take(count), "utf-8", "surrogatepass"))


_STOP = pickle.STOP[0]
_Operation = Callable[[_Plain], object]


def _push(make: Callable[[_Plain], Any]) -> _Operation:
    return lambda plain: plain.stack.append(make(plain))


_KNOWN: tuple[tuple[bytes, _Operation], ...] = (
    (pickle.PROTO, lambda plain: plain.take(1)),
    (pickle.FRAME, lambda plain: plain.take(8)),
    (pickle.MARK, _push(lambda plain: _MARK)),
    (pickle.NONE, _push(lambda plain: None)),
    (pickle.NEWTRUE, _push(lambda plain: True)),
    (pickle.NEWFALSE, _push(lambda plain: False)),
    (pickle.BININT1, _push(lambda plain: plain.take(1)[0])),
    (pickle.BININT2, _push(lambda plain: plain.number(_UNSIGNED_2))),
    (pickle.BININT, _push(lambda plain: plain.number(_SIGNED_4))),
    (pickle.LONG1, _push(
        lambda plain: int.from_bytes(plain.take(plain.take(1)[0]), "little", signed=True)
    )),
    (pickle.BINFLOAT, _push(lambda plain: plain.number(_FLOAT))),
    (pickle.SHORT_BINUNICODE, lambda plain: plain.text(plain.take(1)[0])),
    (pickle.BINUNICODE, lambda plain: plain.text(plain.number(_UNSIGNED_4))),
    (pickle.BINUNICODE8, lambda plain: plain.text(plain.number(_UNSIGNED_8))),
    (pickle.SHORT_BINBYTES, _push(lambda plain: plain.take(plain.take(1)[0]))),
    (pickle.BINBYTES, _push(lambda plain: plain.take(plain.number(_UNSIGNED_4)))),
    (pickle.BINBYTES8, _push(lambda plain: plain.take(plain.number(_UNSIGNED_8)))),
    (pickle.EMPTY_TUPLE, _push(lambda plain: ())),
    (pickle.EMPTY_LIST, _push(lambda plain: [])),
    (pickle.EMPTY_DICT, _push(lambda plain: {})),
    (pickle.TUPLE1, lambda plain: plain.make_tuple(1)),
    (pickle.TUPLE2, lambda plain: plain.make_tuple(2)),
    (pickle.TUPLE3, lambda plain: plain.make_tuple(3)),
    (pickle.TUPLE, _push(lambda plain: tuple(plain.since_mark()))),
    (pickle.APPEND, lambda plain: plain.extend([plain.pop()])),
    (pickle.APPENDS, lambda plain: plain.extend(plain.since_mark())),
    (pickle.SETITEM, lambda plain: plain.set_items([plain.pop(), plain.pop()][::-1])),
    (pickle.SETITEMS, lambda plain: plain.set_items(plain.since_mark())),
    (pickle.MEMOIZE, lambda plain: plain.put(len(plain.memo))),
    (pickle.BINPUT, lambda plain: plain.put(plain.take(1)[0])),
    (pickle.LONG_BINPUT, lambda plain: plain.put(plain.number(_UNSIGNED_4))),
    (pickle.BINGET, lambda plain: plain.get(plain.take(1)[0])),
    (pickle.LONG_BINGET, lambda plain: plain.get(plain.number(_UNSIGNED_4))),
)  # fmt: skip
_OPERATIONS = {opcode[0]: operation for opcode, operation in _KNOWN}


# -- on other threads -------------------------------------------------------------------------

# Opcodes whose arguments have a length of their own, by that; those with one or more lines; and
# those whose argument follows its length.
_LINES = re.escape(b"".join((
    pickle.INT, pickle.LONG, pickle.FLOAT, pickle.STRING, pickle.UNICODE, pickle.PERSID, pickle.GET,
)))  # fmt: skip
_SIZED = {
    opcode[0]: kind
    for kind, opcodes in (
        (struct.Struct("<B"), (
            pickle.LONG1, pickle.SHORT_BINSTRING, pickle.SHORT_BINBYTES, pickle.SHORT_BINUNICODE,
        )),
        (_UNSIGNED_4, (pickle.LONG4, pickle.BINSTRING, pickle.BINBYTES, pickle.BINUNICODE)),
        (_UNSIGNED_8, (pickle.BINBYTES8, pickle.BINUNICODE8, pickle.BYTEARRAY8)),
    )
    for opcode in opcodes
}  # fmt: skip
_FOUR = re.escape(b"".join((pickle.BININT, pickle.EXT4, pickle.LONG_BINGET)))
_TWO = re.escape(b"".join((pickle.BININT2, pickle.EXT2)))
_ONE = re.escape(
    b"".join((pickle.PROTO, pickle.BININT1, pickle.EXT1, pickle.BINGET, pickle.BINPUT))
)
_EIGHT = re.escape(b"".join((pickle.BINFLOAT, pickle.FRAME)))
_PUTS = re.escape(pickle.PUT + pickle.LONG_BINPUT)
_OTHERS = re.escape(bytes(_SIZED)) + _LINES + _FOUR + _TWO + _ONE + _EIGHT + _PUTS + re.escape(
    pickle.GLOBAL + pickle.INST + pickle.STOP
)  # fmt: skip
# As many opcodes as one can pass at once, short texts among them.
_RUN = re.compile(
    b"(?s:(?:[^%b]|[%b].|[%b]..|[%b].{4}|[%b].{8}|%b)*)"
    % (
        _OTHERS, _ONE, _TWO, _FOUR, _EIGHT,
        b"|".join(
            b"%b(?:%b)" % (re.escape(opcode), b"|".join(
                b"%b.{%d}" % (re.escape(bytes([size])), size) for size in range(40)
            ))
            for opcode in (pickle.SHORT_BINUNICODE, pickle.SHORT_BINBYTES, pickle.LONG1)
        ),
    )
)  # fmt: skip
_RUN_SIZE = 64 * 1024  # bytes that are passed at once: nobody else runs meanwhile
_PLACES = 1024  # what any pickle may ask for


def check_memo(pickled: Buffer) -> None:
    """Refuse, with an `UnpicklingError`, a pickle that asks for many more places in its memo than
    there are bytes in it: C's unpickler would make room for them all.

    Wherever it makes no sense, the unpickler finds it out.
    """
    view = memoryview(pickled)
    if not any(opcode in pickled for opcode in (pickle.LONG_BINPUT, pickle.PUT)):
        return
    position, size = 0, len(view)
    most = size + _PLACES
    while position < size:
        match = _RUN.match(view, position, min(size, position + _RUN_SIZE))
        assert match is not None
        if match.end() > position:
            position = match.end()
            continue
        opcode = view[position]
        position += 1
        if opcode in _SIZED:
            kind = _SIZED[opcode]
            if position + kind.size > size:
                return
            position += kind.size + kind.unpack_from(view, position)[0]
        elif opcode == pickle.LONG_BINPUT[0]:
            if position + 4 > size:
                return
            (index,) = _UNSIGNED_4.unpack_from(view, position)
            position += 4
            if index > most:
                raise pickle.UnpicklingError(f"a memo of {index} places, in {size} bytes")
        elif opcode in (pickle.GLOBAL + pickle.INST):
            position = _after_lines(view, position, 2)
        elif opcode == pickle.STOP[0]:
            return
        else:
            start, position = position, _after_lines(view, position, 1)
            line = bytes(view[start : min(position, start + 32)])
            if opcode == pickle.PUT[0] and not (len(line) < 20 and _index(line) <= most):
                raise pickle.UnpicklingError(f"a memo of {line!r} places, in {size} bytes")


def _index(line: bytes) -> int:
    try:
        return int(line)
    except ValueError:
        return 0  # the unpickler refuses it


def _after_lines(view: memoryview, position: int, count: int) -> int:
    for _ in range(count):
        match = re.compile(b"[^\n]*\n?").match(view, position)
        assert match is not None
        position = match.end()
    return position


def encode_plain(item: object) -> bytes:
    """Pickle an item that came in a plain request."""
    return pickle.dumps(item, PROTOCOL)


def encode_any(item: object) -> bytes:
    """Pickle an item as the standard library would, which can pass on connections and sockets."""
    return bytes(ForkingPickler.dumps(item, PROTOCOL))
