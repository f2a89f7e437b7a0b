"""The wire protocol of `multiprocessing.managers`, without any I/O.

Three things, each usable from a blocking socket, an event loop or the host's selector:

* messages: a length, then that many bytes (`pack`, `MessageReader`);
* the handshake: both sides prove that they know the authkey (`client_handshake`,
  `server_handshake`), in the dialects of Python up to 3.11 (MD5) and from 3.12 on (a digest named
  in braces); the protocol is described in a comment of CPython's multiprocessing/connection.py;
* requests and replies: pickled tuples (`dump`, `load`).

Between aiomanager and its own host two things are added, and sent to nobody else: a fifth element
of a request is its id, which its reply carries as third; and a message may hold large buffers
beside its pickle, so that nobody copies an item's bytes in order to frame or to unpickle them.
"""

from __future__ import annotations

import contextlib
import hmac
import mmap
import os
import pickle
import struct
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from itertools import islice
from typing import Any, Protocol

from .._ground.errors import AuthenticationError, ConnectionLostError
from .items import PROTOCOL, STOCK_PROTOCOL

Buffer = bytes | bytearray | memoryview

_SHORT = struct.Struct("!i")
_LONG = struct.Struct("!Q")
_BULK = struct.Struct("!BI")
_BULK_MARK = 0x01  # no pickle of protocol 2 or later begins with this byte
_SHORT_MAX = 0x7FFFFFFF

# Buffers from this size on travel beside the pickle. Below it a copy costs less than a part does.
BULK_SIZE = 64 * 1024

# What one read of small messages may bring. The memory for it is allocated each time, which for
# more than this costs several times as much as the read itself.
READ_SIZE = 64 * 1024
# And where there is no memory for that: what was given back lies in pieces.
LEAST_READ_SIZE = 4 * 1024
# So much is kept of a message that is let pass for want of memory: it may say who sent it.
HEAD_SIZE = 64
# A message that is larger than what the socket holds is written while the other side reads it, and
# read while it writes; after so many bytes it is others' turn.
TURN_SIZE = 2 * 1024**2
PARTS_PER_WRITE = 64  # well below the smallest IOV_MAX
# Messages from this size on get memory that the system hands out page by page as it is written: one
# that is announced and never comes costs nothing, and nothing is moved as it grows.
# Below it memory that was used before is had several times faster.
MAPPED_SIZE = 4 * 1024**2
# Memory from this size on is given back to the system by a thread of its own.
RELEASED_APART = 64 * 1024**2

# A message larger than this is refused by either side; it bounds what one peer can make another
# allocate. Hosts and clients take a limit of their own, up to this one.
MESSAGE_LIMIT = 4 * 1024**3

HANDSHAKE_LIMIT = 256  # what the standard library reads at most before it trusts a peer

# The id of a hosted queue in the manager protocol is its name, so that it is the same after a
# restart of the host, and a client sees by it that the host is one of ours.
QUEUE_PREFIX = "aiomanager-queue:"

# What the error of a host of ours has for an attribute where the host does not have a name.
NOT_HERE = "aiomanager_not_here"


def not_here(name: str, names: Sequence[str]) -> KeyError:
    """The error of a host that does not have a name, but these. No KeyError of an object has its
    attribute; to clients that know only the standard library it is one like any other."""
    known = ", ".join(names) or "nothing"
    error = KeyError(f"no queue or object is registered here as {name!r}; there is: {known}")
    setattr(error, NOT_HERE, name)
    return error


# A client of ours says who it is in the name that the protocol gives to each connection.
CLIENT_PREFIX = "aiomanager-client:"


def pack(parts: Sequence[Buffer]) -> list[Buffer]:
    """Put the length before a message that is given in parts; small messages become one part."""
    if len(parts) == 1 and len(parts[0]) < BULK_SIZE:
        return [_SHORT.pack(len(parts[0])) + parts[0]]
    size = sum(map(len, parts))
    header = _SHORT.pack(size) if size <= _SHORT_MAX else _SHORT.pack(-1) + _LONG.pack(size)
    if size < BULK_SIZE:
        # One write for header and body: two would wait for each other's acknowledgement on TCP.
        return [b"".join((header, *parts))]
    if len(parts[0]) < BULK_SIZE:
        return [header + parts[0], *parts[1:]]
    return [header, *parts]


def one_write(parts: Iterable[Buffer]) -> tuple[list[memoryview], int]:
    """As much of a message as one write is given, and how many bytes that is."""
    chosen: list[memoryview] = []
    size = 0
    for part in islice(parts, PARTS_PER_WRITE):
        chosen.append(memoryview(part)[: TURN_SIZE - size])
        size += len(chosen[-1])
        if size == TURN_SIZE:
            break
    return chosen, size


def unsent(parts: Sequence[Buffer], sent: int) -> list[Buffer]:
    """What is left of a message of which so many bytes were sent."""
    for number, part in enumerate(parts):
        if sent < len(part):
            return [memoryview(part)[sent:], *parts[number + 1 :]]
        sent -= len(part)
    return []


class MessageTooLarge(ConnectionLostError):
    """A peer announced a message over the limit; the connection cannot go on."""


class Source(Protocol):
    """What can be read from: a socket."""

    def recv(self, size: int, /) -> bytes: ...
    def recv_into(self, buffer: memoryview, /) -> int: ...


class MessageReader:
    """Cuts a stream of bytes into messages, one `next` at a time, so that the limit can change
    between two of them. A large message is read into a buffer of its own and handed out without
    a copy.

    Args:
        limit: bytes of a message.
        shed: is given the first bytes of a message for which there was no memory, when the rest of
            it has passed. Without it `next` raises `MemoryError`.
    """

    def __init__(
        self, limit: int = MESSAGE_LIMIT, shed: Callable[[bytes], object] | None = None
    ) -> None:
        self.limit = limit
        self._shed = shed
        self._passing = 0  # bytes that are still to come of a message that is let pass
        self._head = b""
        self._pending: bytes = b""  # read, and not yet cut
        self._position = 0
        self._body: bytearray | memoryview | None = None  # a large message on its way
        self._filled = 0

    @property
    def midway(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._body is not None or self._passing > 0 or self._position < len(self._pending)

    @property
    def held(self) -> int:
        """How many bytes it keeps of a message that has not ended."""
        return self._filled + len(self._pending) - self._position

    def read(self, source: Source) -> int:
        """Read once, as much as the source has or there is use for; 0 at its end."""
        if self._body is None or self._filled == len(self._body):
            try:
                data = source.recv(READ_SIZE)
            except MemoryError:
                data = source.recv(LEAST_READ_SIZE)
            self.feed(data)
            return len(data)
        # No more than that: what a peer writes meanwhile would come with it, without an end.
        end = self._filled + TURN_SIZE
        count = source.recv_into(memoryview(self._body)[self._filled : end])
        self._filled += count
        return count

    def feed(self, data: bytes) -> None:
        """Take what was read from the peer."""
        if self._position < len(self._pending):
            data = self._pending[self._position :] + data
        self._pending, self._position = data, 0
        if self._body is not None:
            self._gather(self._body)

    def next(self) -> Buffer | None:
        """Return the next complete message, or None where more has to be read first."""
        if self._passing:
            self._pass()
        if self._body is None:
            if not self._pending:
                return None
            start, size = self._announced()
            if size < 0:
                return None
            if size > self.limit:
                raise MessageTooLarge(
                    f"a message of {size} bytes was announced; the limit here is {self.limit}"
                )
            if size < BULK_SIZE:
                end = start + size
                if len(self._pending) < end:
                    return None
                message = self._pending[start:end]
                if end == len(self._pending):
                    # A connection that waits must not keep what it read last.
                    self._pending, self._position = b"", 0
                else:
                    self._position = end
                return message
            try:
                body = _space(size)
            except MemoryError:
                if self._shed is None:
                    raise
                self._position, self._passing, self._head = start, size, b""
                return self.next()
            self._body, self._position = body, start
            self._gather(body)
        if self._filled < len(self._body):
            return None
        body, self._body, self._filled = self._body, None, 0
        return body

    def _pass(self) -> None:
        end = min(self._position + self._passing, len(self._pending))
        wanted = HEAD_SIZE - len(self._head)
        self._head += self._pending[self._position : min(end, self._position + wanted)]
        self._passing -= end - self._position
        self._pending, self._position = self._pending[end:], 0
        if not self._passing and self._shed is not None:
            self._shed(self._head)

    def _gather(self, body: bytearray | memoryview) -> None:
        count = min(len(self._pending) - self._position, len(body) - self._filled)
        end = self._position + count
        with memoryview(self._pending) as view, memoryview(body) as into:
            # Into a bytearray itself it would go by way of a copy.
            into[self._filled : self._filled + count] = view[self._position : end]
        self._filled += count
        self._pending, self._position = self._pending[end:], 0

    def _announced(self) -> tuple[int, int]:
        """Where the next body starts and its length; (0, -1) while that is not known."""
        have = len(self._pending) - self._position
        if have < _SHORT.size:
            return 0, -1
        (size,) = _SHORT.unpack_from(self._pending, self._position)
        start = self._position + _SHORT.size
        if size != -1:
            if size < 0:
                raise MessageTooLarge("a peer sent a negative length: it speaks another protocol")
            return start, size
        if have < _SHORT.size + _LONG.size:
            return 0, -1
        (size,) = _LONG.unpack_from(self._pending, start)
        return start + _LONG.size, size


def _space(size: int) -> bytearray | memoryview:
    """Memory for a large message."""
    if size < MAPPED_SIZE:
        return bytearray(size)
    # Without these flags it would be shared with processes that are forked, where there are such.
    private = {"flags": mmap.MAP_PRIVATE} if hasattr(mmap, "MAP_PRIVATE") else {}
    try:
        return memoryview(_Memory(-1, size, **private))
    except OSError as exc:
        raise MemoryError(f"there is no memory for a message of {size} bytes") from exc


class _Memory(mmap.mmap):
    """Memory of a large message, from the system and back to it."""

    def __del__(self) -> None:
        # 40 ms and more for each GiB, for which nobody has to wait: `close` lets others run.
        if not self.closed and len(self) >= RELEASED_APART:  # closed where none was to be had
            with contextlib.suppress(RuntimeError):  # no thread to be had
                threading.Thread(
                    target=self._release, name="aiomanager-memory", daemon=True
                ).start()

    def _release(self) -> None:
        # As part of a cycle it may have views still; then it goes with the last of them.
        with contextlib.suppress(BufferError):
            self.close()


# -- requests and replies ---------------------------------------------------------------------


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
    position = _BULK.size + _LONG.size * (count + 1)
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


# -- the handshake ----------------------------------------------------------------------------

# A handshake yields bytes to send, or None to be sent the next message.
Handshake = Generator[bytes | None, Buffer, None]

_CHALLENGE = b"#CHALLENGE#"
_WELCOME = b"#WELCOME#"
_FAILURE = b"#FAILURE#"
_DIGESTS = ("md5", "sha256", "sha384", "sha3_256", "sha3_384")
_OLD_CHALLENGE_SIZE = 20  # a challenge of this length comes from Python 3.11 or older: MD5
_MD5_SIZE = 16


def client_handshake(authkey: bytes) -> Handshake:
    """The side that connected: answer a challenge, then deliver one."""
    yield from _answer(authkey)
    yield from _deliver(authkey)


def server_handshake(authkey: bytes) -> Handshake:
    """The side that accepted: deliver a challenge, then answer one."""
    yield from _deliver(authkey)
    yield from _answer(authkey)


def _deliver(authkey: bytes) -> Handshake:
    challenge = b"{sha256}" + os.urandom(40)
    yield _CHALLENGE + challenge
    response = bytes((yield None))
    try:
        _verify(authkey, challenge, response)
    except AuthenticationError:
        yield _FAILURE
        raise
    yield _WELCOME


def _verify(authkey: bytes, challenge: bytes, response: bytes) -> None:
    # A response of a bare MD5's length is what Python 3.11 and older send.
    digest, mac = ("md5", response) if len(response) == _MD5_SIZE else _digest_of(response)
    if not hmac.compare_digest(_mac(authkey, challenge, digest), mac):
        raise AuthenticationError("the peer does not have this side's authkey")


def _answer(authkey: bytes) -> Handshake:
    message = bytes((yield None))
    if not message.startswith(_CHALLENGE):
        raise AuthenticationError("the peer does not speak the protocol of multiprocessing")
    challenge = message[len(_CHALLENGE) :]
    if len(challenge) == _OLD_CHALLENGE_SIZE:
        yield _mac(authkey, challenge, "md5")
    else:
        digest, _ = _digest_of(challenge)
        yield b"{%s}%s" % (digest.encode(), _mac(authkey, challenge, digest))
    if bytes((yield None)) != _WELCOME:
        raise AuthenticationError("the peer refused this side's authkey")


def _digest_of(message: bytes) -> tuple[str, bytes]:
    name, brace, rest = message[1:].partition(b"}")
    digest = name.decode("ascii", "replace")
    if not message.startswith(b"{") or not brace or digest not in _DIGESTS:
        raise AuthenticationError("the peer asks for a digest that multiprocessing does not use")
    return digest, rest


def _mac(authkey: bytes, challenge: bytes, digest: str) -> bytes:
    try:
        return hmac.digest(authkey, challenge, digest)
    except ValueError as exc:
        raise AuthenticationError(
            f"the peer's Python can only authenticate by {digest}, which this Python was built "
            "without; use Python 3.12 or later on both sides"
        ) from exc
