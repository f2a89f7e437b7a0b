"""Sessions with a host that no decent client has, with the key and without it.

Nothing here names a class or a function of any module: what a peer with the key may do by that is
known, and no fuzzing finds it.
"""

from __future__ import annotations

import contextlib
import pickle
import random
import socket
import struct
from collections.abc import Callable
from typing import Any

from aiomanager._ground.buffers import Buffer
from aiomanager._wire.framing import pack
from aiomanager._wire.messages import QUEUE_PREFIX, dump
from tests.chaos import raw
from tests.fuzz.requests import harmless
from tests.support.wire import pack_tuple

QUEUE = "loot"  # of their own, so that what they do to it is nobody's loss
_SOME: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**31, 2**63, -(2**70), 1e308, float("inf"), float("nan"), "", "x", b"",
    b"\x80\x05N.", [], [[]], (), {}, {"x": 1}, [b""] * 3, [None], [(1, "ack", 0.0)], 0.0,
)  # fmt: skip
_METHODS = (
    "put", "receive", "settle", "cancel", "restore", "task_done", "join", "move", "qsize",
    "maxsize", "statistics", "ping", "get", "get_nowait", "nothing", "", "__class__", "_put",
)  # fmt: skip
_FUNCTIONS = ("create", "accept_connection", "queues", "incref", "decref", "dummy", "debug_info")


def malformed(kind: str, address: raw.Address, key: str, rng: random.Random) -> socket.socket:
    """Have a session of a kind, and return its socket as it was left."""
    if kind in UNAUTHENTICATED:
        sock = raw.connect(address, 2.0)
        with contextlib.suppress(OSError):
            UNAUTHENTICATED[kind](sock, rng)
        return sock
    client = raw.RawClient(address, key, f"{rng.getrandbits(64)}", timeout=2.0)
    with contextlib.suppress(OSError):
        AUTHENTICATED[kind](client, rng)
    # What it has leased goes back when it closes, and nobody waits for its replies.
    return client.sock


def _noise(sock: socket.socket, rng: random.Random) -> None:
    sock.sendall(rng.randbytes(rng.randrange(1, 3000)))


def _huge(sock: socket.socket, rng: random.Random) -> None:
    sock.sendall(struct.pack("!i", rng.choice((257, 2**20, 2**31 - 1))) + b"x" * rng.randrange(500))


def _huger(sock: socket.socket, rng: random.Random) -> None:
    sock.sendall(struct.pack("!iQ", -1, rng.choice((0, 5, 257, 2**40, 2**64 - 1))))


def _negative(sock: socket.socket, rng: random.Random) -> None:
    sock.sendall(struct.pack("!i", rng.randrange(-(2**31), -1)))


def _half_a_header(sock: socket.socket, rng: random.Random) -> None:
    sock.sendall(b"\0" * rng.randrange(4))
    if rng.random() < 0.5:
        sock.shutdown(socket.SHUT_WR)


def _wrong_answer(sock: socket.socket, rng: random.Random) -> None:
    sock.recv(4096)
    names = (b"", b"{md5}", b"{sha256}", b"{sha1}", b"{}", b"{" + rng.randbytes(8) + b"}", b"{")
    answer = rng.choice(names) + rng.randbytes(rng.choice((0, 16, 20, 32, 48, 200)))
    sock.sendall(struct.pack("!i", len(answer)) + answer)


def _empty_messages(sock: socket.socket, rng: random.Random) -> None:
    sock.sendall(struct.pack("!i", 0) * rng.randrange(1, 50))


def _reset(sock: socket.socket, rng: random.Random) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def _drip(sock: socket.socket, rng: random.Random) -> None:
    for byte in struct.pack("!i", 16) + rng.randbytes(rng.randrange(16)):
        sock.send(bytes([byte]))


UNAUTHENTICATED: dict[str, Callable[[socket.socket, random.Random], None]] = {
    "noise": _noise,
    "huge": _huge,
    "huger": _huger,
    "negative": _negative,
    "half a header": _half_a_header,
    "wrong answer": _wrong_answer,
    "empty messages": _empty_messages,
    "reset": _reset,
    "drip": _drip,
}


def _noise_after(client: raw.RawClient, rng: random.Random) -> None:
    client.send([rng.randbytes(rng.randrange(1, 500))])


def _mutated(client: raw.RawClient, rng: random.Random) -> None:
    message = bytearray(b"".join(_message(rng)))
    for _ in range(rng.randrange(1, 4)):
        message[rng.randrange(len(message))] = rng.choice(b"\0\x01\x7f\x80\xff()]}.NK")
    if harmless(bytes(message)):
        client.send([bytes(message)])


def _cut(client: raw.RawClient, rng: random.Random) -> None:
    message = b"".join(pack(_message(rng)))
    client.sock.sendall(message[: rng.randrange(len(message))])


def _bulk(client: raw.RawClient, rng: random.Random) -> None:
    counts = struct.pack("!BI", 1, rng.choice((0, 1, 2, 1000, 2**32 - 1)))
    client.send([counts + rng.randbytes(rng.randrange(64))])


def _odd_shape(client: raw.RawClient, rng: random.Random) -> None:
    shape = tuple(rng.choice(_SOME) for _ in range(rng.randrange(7)))
    client.send([pickle.dumps(rng.choice((shape, list(shape), rng.choice(_SOME))), 5)])


def _odd_request(client: raw.RawClient, rng: random.Random) -> None:
    for _ in range(rng.randrange(1, 5)):
        client.send(_message(rng))


def _odd_function(client: raw.RawClient, rng: random.Random) -> None:
    name = rng.choice((*_FUNCTIONS, "nothing"))
    client.send([pickle.dumps((None, name, (rng.choice(_SOME),), {}), 5)])


def _leave_in_mid_wait(client: raw.RawClient, rng: random.Random) -> None:
    client.ask(QUEUE, "put", [b"\x80\x05N."] * rng.randrange(1, 4), None, channel="c", number=1)
    client.ask(QUEUE, "receive", 3, None)
    client.ask(QUEUE, "receive", 3, 60.0)


def _message(rng: random.Random) -> list[Buffer]:
    request = _request(rng)
    if len(request) == 5 and rng.random() < 0.7:
        with contextlib.suppress(ValueError, TypeError, AttributeError, struct.error):
            return pack_tuple(request)
    return dump(request)


def _request(rng: random.Random) -> tuple[Any, ...]:
    ident = rng.choice((QUEUE_PREFIX + QUEUE, QUEUE_PREFIX + "nowhere", "0", "", QUEUE_PREFIX))
    args = tuple(rng.choice(_SOME) for _ in range(rng.randrange(4)))
    kwds: dict[str, Any] = {}
    if rng.random() < 0.5:
        channel, number = rng.choice(("c", 1, None, (1,))), rng.choice((1, 2, -1, 2**70))
        kwds = {"channel": channel, "number": number}
    if rng.random() < 0.1:
        kwds = {rng.choice(("x", "channel", "owner", "self")): rng.choice(_SOME)}
    if rng.random() < 0.3:
        return ident, rng.choice(_METHODS), args, kwds
    return ident, rng.choice(_METHODS), args, kwds, rng.choice((1, 2, -1, 2**70, "x", None))


AUTHENTICATED: dict[str, Callable[[raw.RawClient, random.Random], None]] = {
    "noise after": _noise_after,
    "mutated": _mutated,
    "cut": _cut,
    "bulk": _bulk,
    "odd shape": _odd_shape,
    "odd request": _odd_request,
    "odd function": _odd_function,
    "leave in mid wait": _leave_in_mid_wait,
}
