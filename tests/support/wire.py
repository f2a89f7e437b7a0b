"""Messages over a blocking socket, as a client of the standard library or as one of ours, for tests
that speak to a host without the client under test."""

from __future__ import annotations

import hmac
import struct
from collections.abc import Generator, Sequence
from multiprocessing import connection
from socket import AF_UNIX, socket
from typing import Any

from aiomanager._ground.buffers import Buffer
from aiomanager._wire.endpoint import Endpoint
from aiomanager._wire.framing import MessageReader, pack
from aiomanager._wire.handshake import client_handshake
from aiomanager._wire.hello import Hello, pack_hello, read_hello
from aiomanager._wire.requests import pack_ids, pack_request, pack_settlements

_stdlib: Any = connection


def say(sock: socket, message: bytes) -> None:
    """Write one message, as it is."""
    sock.sendall(b"".join(bytes(part) for part in pack([message])))


def hear(sock: socket) -> bytes:
    """Read one message, as it stands on the wire, and nothing of the next; raises EOFError."""
    (size,) = struct.unpack("!i", _exactly(sock, 4))
    return _exactly(sock, size)


def _exactly(sock: socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        if not (piece := sock.recv(size - len(data))):
            raise EOFError
        data += piece
    return data


class StockMessages:
    """The messages of a client that knows only the standard library, past the handshake."""

    def __init__(self, sock: socket, key: bytes) -> None:
        self._sock = sock
        self._reader = MessageReader()
        _stdlib.answer_challenge(self, key)
        _stdlib.deliver_challenge(self, key)

    def send(self, parts: Sequence[Buffer]) -> None:
        """Send one message."""
        for part in pack(parts):
            self._sock.sendall(part)

    def receive(self) -> Buffer:
        """Wait for one message; raises EOFError at the end of the connection."""
        while (message := self._reader.next()) is None:
            if not self._reader.read(self._sock):
                raise EOFError("the host closed the connection")
        return message

    def send_bytes(self, message: bytes) -> None:
        self.send([message])

    def recv_bytes(self, limit: int | None = None) -> bytes:
        return bytes(self.receive())


class OwnMessages:
    """The messages of a client of ours, past the handshake and the hello.

    Args:
        client: the name that it gives itself; None for one that only looks.

    Attributes:
        hello: what the host has said.
    """

    def __init__(self, sock: socket, key: bytes, client: str | None = None, **said: Any) -> None:
        self._sock = sock
        self._end = Endpoint(client_handshake(key, sealed=sock.family != AF_UNIX))
        while self._end.greeted is None:
            self._read()
            self._end.shake()
            for part in self._end.to_send():
                self._sock.sendall(part)
        if client is not None:
            said = {"client": client, "returns_within": 10.0, **said}
        self.send(pack_hello(**said))
        self.hello: Hello = read_hello(self.receive())

    def send(self, parts: Sequence[Buffer]) -> None:
        """Send one message."""
        for part in self._end.pack(parts):
            self._sock.sendall(part)

    def receive(self) -> Buffer:
        """Wait for one message; raises EOFError at the end of the connection."""
        while (message := self._end.next()) is None:
            self._read()
        return message

    def _read(self) -> None:
        if not self._end.read(self._sock):
            raise EOFError("the host closed the connection")


def stock_handshake(key: bytes) -> Generator[bytes | None, Buffer, None]:
    """What a client of Python 3.11 or older says: it yields bytes to send, or None to be sent the
    next message."""
    challenge = bytes((yield None)).removeprefix(b"#CHALLENGE#")
    yield hmac.digest(key, challenge, "md5")
    assert bytes((yield None)) == b"#WELCOME#"
    yield b"#CHALLENGE#" + b"c" * 20
    assert bytes((yield None)) == hmac.digest(key, b"c" * 20, "md5")
    yield b"#WELCOME#"


def stock_server_handshake(key: bytes) -> Generator[bytes | None, Buffer, None]:
    """The same for a server."""
    yield b"#CHALLENGE#" + b"c" * 20
    assert bytes((yield None)) == hmac.digest(key, b"c" * 20, "md5")
    yield b"#WELCOME#"
    challenge = bytes((yield None)).removeprefix(b"#CHALLENGE#")
    yield hmac.digest(key, challenge, "md5")
    assert bytes((yield None)) == b"#WELCOME#"


def pack_tuple(request: tuple[Any, ...]) -> list[Buffer]:
    """The message of `(ident, method, args, {"channel":, "number":}, id)`; raises ValueError where
    that cannot be a request."""
    ident, method, args, kwds, request_id = request
    channel, number = kwds.get("channel", ""), kwds.get("number", 0)
    types = type(ident), type(request_id), type(channel), type(number)
    if types != (str, int, str, int):
        raise ValueError("a request has a queue, an id, a channel and a number")
    frames: Sequence[Buffer] = ()
    try:
        if method == "put":
            frames, args = args[0], args[1:]
        elif method in ("move", "restore"):
            frames, args = args[2:3], (*args[:2], *args[3:])
        elif method == "take":
            frames, args = (pack_ids(args[0]),), args[1:]
        elif method == "settle":
            frames, args = (pack_settlements(args[0]),), args[1:]
    except (IndexError, KeyError, TypeError, struct.error) as exc:
        raise ValueError(f"these are no arguments of {method!r}: {exc}") from exc
    if type(frames) not in (list, tuple) or not all(isinstance(f, Buffer) for f in frames):
        raise ValueError("what is put is a list of bytes-like frames")
    return pack_request(request_id, ident, method, tuple(args), frames, channel, number)
