"""Items as bytes: what a queue carries, and how it becomes an object again.

The host keeps frames and never looks inside, so it needs none of its users' classes. A frame
pickles as "unpickle these bytes", so that a peer which knows only the standard library receives
the object itself.
"""

from __future__ import annotations

import base64
import io
import json
import pickle
import pickletools
import struct
from collections.abc import Callable, Mapping
from multiprocessing.reduction import ForkingPickler
from typing import Any, cast

from .._ground.buffers import Buffer
from .._ground.errors import ConfigurationError, DecodeError, EncodeError

# Protocol 5 is the newest that every supported Python reads.
PROTOCOL = 5
# What programs of the standard library read and write: each Python from 3.4 on reads 4, which is
# also what Python 3.8 to 3.13 choose by themselves.
STOCK_PROTOCOL = 4

# Protocol 5 is protocol 4 with three more opcodes. A pickle that has none of them is one of
# protocol 4 but for its second byte.
_BYTEARRAY8 = b"\x96"
_ONLY_IN_5 = (_BYTEARRAY8, b"\x97", b"\x98")
_FIVE, _FOUR = pickle.PROTO + b"\x05", pickle.PROTO + b"\x04"
# How many opcodes of an item `without_protocol_5` looks at, which takes 20 ms. More are only in
# items of many parts, which then stay as they are.
_OPCODES = 20_000

# Bytes from this size on are put into their pickle by hand: the pickler would make room for half as
# much again, in memory that is new to the process and takes longer to have than to fill.
LARGE_BYTES = 64 * 1024
_BYTES = pickle.PROTO + bytes([STOCK_PROTOCOL]) + pickle.BINBYTES8


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


# Of what both pickle, only this is pickled by the standard library's way in order to be of use in
# another process; other things of that kind, such as sockets, pickle refuses.
_HANDLES = b"Connection"
# Queues of ours pickle by a function of this name, and for hosts in another way.
_QUEUES = b"_unpickled_queue"
_CLASS = pickle.STACK_GLOBAL
_SCALARS = frozenset((bytes, str, int, float, bool, type(None)))
_REDUCERS: dict[type, Any] = ForkingPickler._extra_reducers  # type: ignore[attr-defined]  # noqa: SLF001
_own_reducers = 0  # how many there were when somebody looked for a user's


def encode(item: object, protocol: int = PROTOCOL) -> bytes:
    """Pickle an item as the standard library does, which can pass on connections and sockets;
    raises `EncodeError` where that cannot be done."""
    if type(item) is bytes and len(item) >= LARGE_BYTES:
        return b"".join((_BYTES, struct.pack("<Q", len(item)), item, pickle.STOP))
    try:
        # `ForkingPickler` takes five times as long for a small item, as it is made of Python. So
        # it is asked only where its result can be another.
        if len(_REDUCERS) == _own_reducers or type(item) in _SCALARS or not _users_reduce():
            data = pickle.dumps(item, protocol)
            # Without that opcode there is no class in it.
            if data.find(_CLASS) < 0 or (data.find(_HANDLES) < 0 and data.find(_QUEUES) < 0):
                return data
    except Exception:  # noqa: S110 - it may know how to
        pass
    try:
        return dumps_for_hosts(item, protocol)
    except Exception as exc:
        raise EncodeError(
            f"this {type(item).__name__} cannot be pickled, so it cannot travel to another "
            f"process: {exc}. Put plain data or an instance of a module-level class instead."
        ) from exc


_for_hosts: dict[type, Callable[[Any], Any]] = {}


def pickle_for_hosts(kind: type, reduce: Callable[[Any], Any]) -> None:
    """Have what goes to a host pickled in a way of its own, as others there know only the standard
    library. For `_proxies/wrap`, which stands above this."""
    _for_hosts[kind] = reduce


class _PicklerForHosts(ForkingPickler):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.dispatch_table = {**self.dispatch_table, **_for_hosts}


def dumps_for_hosts(value: object, protocol: int) -> bytes:
    """Pickle what goes to a host, as the standard library does it, which knows how to send more
    than pickle does."""
    buffer = io.BytesIO()
    _PicklerForHosts(buffer, protocol).dump(value)
    return buffer.getvalue()


def _users_reduce() -> bool:
    """Whether a user, or a library of his, has told `ForkingPickler` how to pickle something."""
    global _own_reducers  # noqa: PLW0603
    if not all(map(_is_of_the_standard_library, _REDUCERS)):
        return True
    _own_reducers = len(_REDUCERS)
    return False


def _is_of_the_standard_library(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in {
        "array",
        "builtins",
        "functools",
        "multiprocessing",
        "socket",
    }


def without_protocol_5(data: Buffer) -> Buffer:
    """The same item for a Python before 3.8, which reads protocol 4 and no more. Nothing is
    unpickled for it. What cannot be had in that protocol, or only at great length, is returned as
    it is."""
    if data[:2] != _FIVE:
        return data
    data = bytes(data)
    if all(data.find(opcode) < 0 for opcode in _ONLY_IN_5):
        return _FOUR + data[2:]
    parts = [_FOUR]
    start = 2
    try:
        for count, (opcode, value, position) in enumerate(pickletools.genops(data)):
            if count == _OPCODES:
                return data
            assert position is not None
            parts.append(data[start:position])
            start = position
            if opcode.name == "BYTEARRAY8":
                assert isinstance(value, bytearray)
                parts.append(_BYTEARRAY + struct.pack("<Q", len(value)) + value + _MADE)
                start += 1 + 8 + len(value)
            elif opcode.name in ("PROTO", "FRAME"):  # a frame's length would be another now
                start += 2 if opcode.name == "PROTO" else 9
            elif opcode.name in ("NEXT_BUFFER", "READONLY_BUFFER"):
                return data
    except ValueError:
        return data  # it is no pickle, so whoever gets it shall see that
    return b"".join((*parts, data[start:]))


_BYTEARRAY = pickle.GLOBAL + b"builtins\nbytearray\n" + pickle.BINBYTES8
_MADE = pickle.TUPLE1 + pickle.REDUCE


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


# -- envelopes --------------------------------------------------------------------------------

# An item that has headers is in an envelope: a mark, their length, the headers as JSON, the pickle.
# One without is its bare pickle, which begins with another byte: an empty envelope costs nothing.
# The host takes the envelope off for a client of the standard library's.

Header = str | int | float | bytes
Headers = Mapping[str, Header]

_ENVELOPE = 0x04  # no pickle of protocol 2 or later begins with this byte
_START_OF_ENVELOPE = struct.Struct("!BI")

HEADERS_LIMIT = 16 * 1024
"""Bytes of the headers of an item, as JSON."""


def put_on(data: bytes, headers: Headers) -> bytes:
    """An item in an envelope with these headers.

    Raises:
        ConfigurationError: they are no small mapping of str to str, int, float or bytes.
    """
    packed = json.dumps({_key(key): _value(key, headers[key]) for key in headers}).encode()
    if len(packed) > HEADERS_LIMIT:
        raise ConfigurationError(
            f"the headers have {len(packed)} bytes, and {HEADERS_LIMIT} is the most that an item "
            "takes: put what is large into the item"
        )
    return b"".join((_START_OF_ENVELOPE.pack(_ENVELOPE, len(packed)), packed, data))


def taken_off(data: Buffer) -> Buffer:
    """The item without its envelope, if it has one; nothing is copied."""
    if not data or data[0] != _ENVELOPE:
        return data
    _, size = _START_OF_ENVELOPE.unpack_from(data)
    return memoryview(data)[_START_OF_ENVELOPE.size + size :]


def headers_of(data: Buffer) -> dict[str, Header]:
    """The headers of an item; none where it has no envelope, or one that nobody can read."""
    if not data or data[0] != _ENVELOPE:
        return {}
    try:
        _, size = _START_OF_ENVELOPE.unpack_from(data)
        loaded = json.loads(bytes(data[_START_OF_ENVELOPE.size : _START_OF_ENVELOPE.size + size]))
        headers = cast("dict[str, Any]", loaded)
        return {key: _read(value) for key, value in headers.items()}
    except (ValueError, struct.error, AttributeError, IndexError, TypeError, RecursionError):
        return {}


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise ConfigurationError(f"{key!r} names no header: give text")
    return key


def _value(key: str, value: object) -> object:
    if isinstance(value, bytes):
        return [base64.b64encode(value).decode()]  # no list is a header's value
    if isinstance(value, (str, int, float)):
        return value
    raise ConfigurationError(
        f"the header {key!r} is of type {type(value).__name__}: give str, int, float or bytes"
    )


def _read(value: Any) -> Header:
    return base64.b64decode(value[0]) if isinstance(value, list) else value
