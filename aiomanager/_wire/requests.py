"""Requests of aiomanager's own clients: plain data, which a host reads without running anything.

A request names a queue, a method and, where it changes something, its channel and its number there;
its arguments are a short JSON list; and what is bytes, or a long list of numbers, travels beside it
as frames, which nobody copies or looks into. How large, how deep and how many is bounded before
anything is made of it.

    mark, flags, request id, number | lengths of the parts | lengths of the frames, where there are
    several | queue, method and channel | arguments | frames
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple, TypeVar

from .._ground.buffers import Buffer
from .framing import BULK_SIZE

MARK = b"\x02"  # no pickle of protocol 2 or later begins with this byte, and no bulk message

_HEADER = struct.Struct("!cBQQHHI")
_AGAIN = 1  # a flag: it was sent before
_FLAGS_AT = 1

# What a request holds at most, beside the bytes of its frames.
NAMES_LIMIT = 2048
ARGUMENTS_LIMIT = 32 * 1024
FRAMES_LIMIT = 64 * 1024

_SETTLEMENT = struct.Struct("!QBd")
_ACTIONS = ("ack", "nack", "return", "reject")
_CODES = {action: code for code, action in enumerate(_ACTIONS)}

# Most requests have the names, the arguments and the lengths of others. What they are made of is
# kept, as long as it is short and there is not too much of it.
_CACHED = 512
_CACHED_SIZE = 512
_names: dict[bytes, tuple[str, ...]] = {}
_packed_names: dict[tuple[str, ...], bytes] = {}
_arguments: dict[bytes, Sequence[Any]] = {}
_packed_arguments: dict[tuple[str, tuple[Any, ...]], bytes] = {}
_cuts: dict[bytes, struct.Struct] = {}

_encode = json.JSONEncoder(separators=(",", ":")).encode

K = TypeVar("K")
V = TypeVar("V")


class Request(NamedTuple):
    """A request as the host reads it.

    Attributes:
        channel, number: where it changes something, for its repetitions; else "" and 0.
        again: it was sent before, and may have been run.
    """

    request_id: int
    ident: str
    method: str
    args: Sequence[Any]
    frames: Sequence[Buffer]
    channel: str = ""
    number: int = 0
    again: bool = False


def pack_request(
    request_id: int,
    ident: str,
    method: str,
    args: tuple[Any, ...] = (),
    frames: Sequence[Buffer] = (),
    channel: str = "",
    number: int = 0,
) -> list[Buffer]:
    """The parts of the message that asks for something; large frames are parts of their own."""
    names = _packed_names.get((ident, method, channel))
    if names is None:
        names = f"{ident}\0{method}\0{channel}".encode()
        _keep(_packed_names, (ident, method, channel), names)
    arguments = _pack_arguments(method, args)
    count = len(frames)
    header = _HEADER.pack(MARK, 0, request_id, number, len(names), len(arguments), count)
    if not count:
        return [header + names + arguments]
    if count == 1:
        (frame,) = frames
        if len(frame) < BULK_SIZE:
            return [b"".join((header, names, arguments, frame))]
        return [b"".join((header, names, arguments)), frame]
    lengths = list(map(len, frames))
    packed = struct.pack(f"!{count}Q", *lengths)
    if sum(lengths) < BULK_SIZE or max(lengths) < BULK_SIZE:
        return [b"".join((header, packed, names, arguments, *frames))]
    parts: list[Buffer] = []
    small: list[Buffer] = [header, packed, names, arguments]
    for frame in frames:
        if len(frame) < BULK_SIZE:
            small.append(frame)
        else:
            parts += (b"".join(small), frame)
            small = []
    return [*parts, b"".join(small)] if small else parts


def repeated(parts: Sequence[Buffer]) -> list[Buffer]:
    """The same request, sent again."""
    first = bytearray(parts[0])
    first[_FLAGS_AT] |= _AGAIN
    return [bytes(first), *parts[1:]]


def is_request(message: Buffer) -> bool:
    """Whether a message begins as a request does."""
    return message[:1] == MARK


def request_id_of(head: bytes) -> int:
    """The id of a request that begins like this; raises ValueError where that is too short."""
    try:
        return int(_HEADER.unpack_from(head)[2])
    except struct.error as exc:
        raise ValueError(f"this is no request: {exc}") from exc


def read_request(message: Buffer) -> Request:
    """Read a request; raises ValueError where it is none, or holds more than a request may.

    What it holds may be shared with others that looked the same, and is not to be changed.
    """
    is_small = isinstance(message, bytes)
    if not is_small:
        message = memoryview(message).toreadonly()
    try:
        _, flags, request_id, number, names_size, arguments_size, count = _HEADER.unpack_from(
            message
        )
        if names_size > NAMES_LIMIT or arguments_size > ARGUMENTS_LIMIT or count > FRAMES_LIMIT:
            raise ValueError("a request holds more names, arguments or frames than one may")
        position = _HEADER.size + (8 * count if count > 1 else 0)
        end_of_names = position + names_size
        start = end_of_names + arguments_size
        names: Any = message[position:end_of_names]
        arguments: Any = message[end_of_names:start]
        if not is_small:
            names, arguments = bytes(names), bytes(arguments)
        ident, method, channel = _names.get(names) or _read_names(names)
        args = _arguments.get(arguments)
        if args is None:
            args = _read_arguments(arguments)
        frames: Sequence[Buffer]
        if count == 1 and start <= len(message):
            frames = (message[start:],)
        elif count > 1:
            frames = _cut(message, start, bytes(message[_HEADER.size : position]), count)
        elif start == len(message):
            frames = ()
        else:
            raise ValueError("a request is not as long as it says")
    except struct.error as exc:
        raise ValueError(f"a request is shorter than it says: {exc}") from exc
    except RecursionError:
        raise ValueError("the arguments of a request are nested too deeply") from None
    again = bool(flags & _AGAIN)
    return Request(request_id, ident, method, args, frames, channel, number, again)


# -- long lists of numbers --------------------------------------------------------------------


def pack_ids(delivery_ids: Sequence[int]) -> bytes:
    """Ids of deliveries as a frame."""
    return struct.pack(f"!{len(delivery_ids)}Q", *delivery_ids)


def read_ids(frame: Buffer) -> Sequence[int]:
    """The ids that a frame holds."""
    count, rest = divmod(len(frame), 8)
    if rest:
        raise ValueError("a list of ids ends within one")
    return struct.unpack(f"!{count}Q", frame)


def pack_settlements(settlements: Sequence[tuple[int, str, float]]) -> bytes:
    """Settlements as a frame."""
    pack = _SETTLEMENT.pack
    return b"".join([pack(ident, _CODES[action], delay) for ident, action, delay in settlements])


def read_settlements(frame: Buffer) -> list[tuple[int, str, float]]:
    """The settlements that a frame holds."""
    try:
        return [
            (ident, _ACTIONS[code], delay) for ident, code, delay in _SETTLEMENT.iter_unpack(frame)
        ]
    except (struct.error, IndexError) as exc:
        raise ValueError(f"a list of settlements is none: {exc}") from exc


# -- inside -----------------------------------------------------------------------------------


def _pack_arguments(method: str, args: tuple[Any, ...]) -> bytes:
    try:
        packed = _packed_arguments.get((method, args))
    except TypeError:  # a list among them
        return _encode(args).encode()
    if packed is None:
        packed = _encode(args).encode()
        _keep(_packed_arguments, (method, args), packed)
    return packed


def _read_names(packed: bytes) -> tuple[str, ...]:
    names = tuple(str(packed, "utf-8").split("\0"))
    if len(names) != 3:
        raise ValueError("a request names a queue, a method and a channel")
    if len(packed) <= _CACHED_SIZE:
        _keep(_names, packed, names)
    return names


def _read_arguments(packed: bytes) -> Sequence[Any]:
    args: Sequence[Any] = json.loads(str(packed, "ascii"))
    if type(args) is not list:
        raise ValueError("the arguments of a request are a list")
    if len(packed) <= _CACHED_SIZE:
        _keep(_arguments, packed, args)
    return args


def _cut(message: Buffer, start: int, lengths: bytes, count: int) -> Sequence[Buffer]:
    cut = _cuts.get(lengths)
    if cut is not None and isinstance(message, bytes):
        if start + cut.size != len(message):
            raise ValueError("the frames of a request do not add up to its length")
        return cut.unpack_from(message, start)
    sizes = struct.unpack(f"!{count}Q", lengths)
    if start + sum(sizes) != len(message):
        raise ValueError("the frames of a request do not add up to its length")
    if count <= _CACHED_SIZE // 8 and isinstance(message, bytes):
        _keep(_cuts, lengths, struct.Struct("s".join(map(str, sizes)) + "s"))
    return [message[a:b] for a, b in pairwise(accumulate(sizes, initial=start))]


def _keep(cache: dict[K, V], key: K, value: V) -> None:
    if len(cache) >= _CACHED:
        cache.clear()
    cache[key] = value
