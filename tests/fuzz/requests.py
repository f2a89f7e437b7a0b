"""What a peer with the key can send, out of bytes: requests of every shape, whole and damaged.

What names a class or a function of a module is loaded by a thread of its connection's own, which
does not run here: what a peer with the key may do by that is known, and no fuzzing finds it.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import struct
from typing import Any, ClassVar

from aiomanager._ground.buffers import Buffer
from aiomanager._wire.framing import pack
from aiomanager._wire.hello import OLD_CLIENT_PREFIX, pack_hello
from aiomanager._wire.messages import QUEUE_PREFIX, dump
from aiomanager._wire.requests import pack_request
from tests.fuzz.doubles import RUN, Connection, Host
from tests.fuzz.source import Source
from tests.support.wire import pack_tuple

ITEM = b"\x80\x05N."
JOBS, SMALL, NOWHERE = (QUEUE_PREFIX + name for name in ("jobs", "small", "nowhere"))
# What leads somewhere, more often than what does not.
IDENTS = (*[JOBS] * 10, *[SMALL] * 5, NOWHERE, "0", "", *[None] * 3)
METHODS = (
    *["put", "receive"] * 8, *["settle"] * 12, *["take"] * 4, *["cancel", "move"] * 2,
    "restore", "read", "hello", "task_done", "join", "shutdown",
    "statistics", "ping", "get", "get_nowait", "put_nowait",
    "empty", "full", "qsize", "maxsize", "__getattribute__", "#GETVALUE", "nothing", "", "_put",
)  # fmt: skip
FUNCTIONS = (
    "create", "accept_connection", "queues", "incref", "decref", "dummy", "debug_info",
    "number_of_objects", "shutdown", "_stop", "nothing",
)  # fmt: skip
ACTIONS = (*["nack"] * 3, "ack", "nack", "return", "nothing", 7, None)
VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 2**31, 2**63, -(2**70), 0.0, 0.5, -1.0, 1e308, float("inf"),
    float("nan"), "", "jobs", "small", "x", b"", ITEM, b"x" * 40, [], [[]], (), {}, {"x": 1},
    [ITEM] * 3, [b""], [None], (1, "ack", 0.0), [(1, "ack", 0.0)],
)  # fmt: skip
MOST = 12  # messages


def carry_out(connection: Connection, host: Host, source: Source, *, own: bool) -> None:
    """Send what the source says, and let time pass.

    Args:
        own: the peer has shown that it is a client of ours.
    """
    if own:
        connection.feed(_framed(_hello(source)))
        # Three items, of which two are out, so that there is something to go wrong with.
        connection.feed(_framed(pack_request(1, JOBS, "put", (None,), [ITEM] * 3)))
        connection.feed(_framed(pack_request(2, JOBS, "receive", (2, None))))
    for _ in range(MOST):
        if not source or connection.peer.closed:
            break
        match source.number(10):
            case 0 | 1 | 2 | 3:
                connection.feed(_framed(message(source, own)))
            case 4:
                connection.feed(_framed([damaged(b"".join(message(source, own)), source)]))
            case 5:
                connection.feed(_framed([bulk(source)]))
            case 6:
                connection.feed(_framed([source.take(source.number(64))]))
            case 7:
                for piece in source.pieces(_framed(message(source, own))):
                    connection.feed(piece)
            case 8:
                host.reactor.turn(source.choice((0.1, 1.0, 6.0)))
            case _:
                connection.take(source.number(2) == 1)
    if source.number(4) == 1:
        connection.feed(source.take(20))  # the length of something that never comes


def _hello(source: Source) -> list[Buffer]:
    if source.number(16) == 15:
        return [source.take(source.number(64))]
    said = {"run": RUN} if source.number(2) else {}
    return pack_hello(client="f", returns_within=source.number(9), **said)


def message(source: Source, own: bool) -> list[Buffer]:
    """A request as our clients send it, or as a pickle."""
    asked = request(source, own)
    if len(asked) == 5 and source.number(4):
        with contextlib.suppress(ValueError, TypeError, AttributeError, struct.error):
            return pack_tuple(asked)
    return dump(asked)


def request(source: Source, own: bool) -> tuple[Any, ...]:
    """A request that has the shape of one, nearly always."""
    if source.number(16) == 15:
        return tuple(source.choice(VALUES) for _ in range(source.number(7)))
    ident = source.choice(IDENTS)
    method = source.choice(FUNCTIONS if ident is None else METHODS)
    args = arguments(method, source)
    kwds: dict[str, Any] = {}
    if own and source.number(2):
        kwds = {"channel": source.choice(("c", "d", "", 1)), "number": source.number(4)}
    elif source.number(16) == 15:
        kwds = {source.choice(("x", "channel", "owner", "item", "block")): source.choice(VALUES)}
    if own and source.number(16) != 15:
        return ident, method, args, kwds, source.number(256)
    return ident, method, args, kwds


def arguments(method: str, source: Source) -> tuple[Any, ...]:
    """Those of the method, or any."""
    if source.number(8) == 7:
        return tuple(source.choice(VALUES) for _ in range(source.number(4)))
    timeout = source.choice((None, 0, 0.5, 1e9, float("inf"), float("nan")))
    match method:
        case "put":
            return [ITEM] * source.number(5), timeout
        case "receive":
            return source.number(5), timeout
        case "settle":
            return ([settlement(source) for _ in range(source.number(4))],)
        case "take":
            return ([source.number(8) for _ in range(source.number(4))],)
        case "move":
            return source.number(8), source.choice(("jobs", "small", "nowhere")), ITEM
        case "cancel":
            return (source.number(256),)
        case "shutdown":
            return (source.number(2) == 1,)
        case "get" | "put_nowait":
            return (True, timeout) if method == "get" else (None,)
        case "create" | "accept_connection":
            return (source.choice(("jobs", OLD_CLIENT_PREFIX, "x", "nothing")),)
        case _:
            return arguments_of_what_was_taken(method, source)


def arguments_of_what_was_taken(method: str, source: Source) -> tuple[Any, ...]:
    """Those of what comes after a take."""
    match method:
        case "restore":
            return source.number(8), 1, ITEM, source.number(2) == 1
        case "read":
            return (["c", "d"][: source.number(3)],)
        case "hello":
            return source.choice((None, 1)), source.choice((0, 5.0, -1, 1e9))
        case "task_done":
            return (source.number(3), RUN, ["c"])
        case _:
            return ()


def settlement(source: Source) -> tuple[Any, ...]:
    """One of a delivery that may be out."""
    delay = source.choice((0.0, 0.0, 1.0, -1.0, float("inf"), float("nan"), 10**400, "x"))
    return source.number(8), source.choice(ACTIONS), delay


def bulk(source: Source) -> bytes:
    """A message that says it has parts."""
    lengths = [source.choice((0, 1, 4, 2**32, 2**63)) for _ in range(source.number(4))]
    count = source.choice((0, 1, len(lengths), 1000, 2**32 - 1))
    return struct.pack(f"!BI{len(lengths)}Q", 1, count, *lengths) + source.take(source.number(40))


def damaged(message: bytes, source: Source) -> bytes:
    """The message with some bytes that are others, or without its end."""
    data = bytearray(message)
    for _ in range(source.number(4) + 1):
        data[source.number(len(data))] = source.number(256)
    return bytes(data[: source.number(len(data) + 1)] if source.number(4) == 3 else data)


class _Harmful(Exception):
    pass


class _Reader(pickle._Unpickler):
    """Unpickles in Python, so that one can look before it does what was asked for."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        raise _Harmful

    def _refuse(self) -> None:
        raise _Harmful  # in C these make a table of as many places as they say

    dispatch[pickle.LONG_BINPUT[0]] = dispatch[pickle.PUT[0]] = _refuse


def harmless(message: bytes) -> bool:
    """Whether unpickling it neither names anything nor asks for more than there is in it."""
    try:
        _Reader(io.BytesIO(message), buffers=[]).load()
    except _Harmful:
        return False
    except Exception:
        return True
    return True


def _framed(parts: list[Buffer]) -> bytes:
    return b"".join(pack(parts))
