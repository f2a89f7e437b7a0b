"""Messages in a stream of bytes: a length, then that many bytes, as `multiprocessing.connection`
has it (`pack`, `MessageReader`)."""

from __future__ import annotations

import contextlib
import mmap
import struct
import threading
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Protocol

from .._ground.buffers import Buffer
from .._ground.errors import ConnectionLostError
from .seals import TAG_SIZE, Check, Seal

_SHORT = struct.Struct("!i")
_LONG = struct.Struct("!Q")
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


def pack(parts: Sequence[Buffer], seal: Seal | None = None) -> list[Buffer]:
    """Put the length before a message that is given in parts, and its tag behind it where it is
    sealed; small messages become one part."""
    if seal is not None:
        tag = seal.tag(parts)
        if len(parts) == 1 and len(parts[0]) < BULK_SIZE - TAG_SIZE:
            return [b"".join((_SHORT.pack(len(parts[0]) + TAG_SIZE), parts[0], tag))]
        parts = [*parts, tag]
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
        limit: bytes of a message, a tag not counted.
        shed: is given the first bytes of a message for which there was no memory, when the rest of
            it has passed. Without it `next` raises `MemoryError`.
    """

    def __init__(
        self, limit: int = MESSAGE_LIMIT, shed: Callable[[bytes], object] | None = None
    ) -> None:
        self.limit = limit
        self.seal: Seal | None = None  # from the next message on each one has a tag
        self._shed = shed
        self._passing = 0  # bytes that are still to come of a message that is let pass
        self._head = b""
        self._check: Check | None = None  # of its tag
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
        message = self._next()
        if message is None or self.seal is None:
            return message
        return self.seal.opened(message)

    def _next(self) -> Buffer | None:
        if self._passing:
            self._pass()
        if self._body is None:
            if not self._pending:
                return None
            start, size = self._announced()
            if size < 0:
                return None
            if size > self.limit and (self.seal is None or size > self.limit + TAG_SIZE):
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
                self._check = None if self.seal is None else self.seal.check(size)
                return self._next()
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
        if self._check is not None:
            self._check.update(self._pending[self._position : end])
        self._passing -= end - self._position
        self._pending, self._position = self._pending[end:], 0
        if not self._passing and self._shed is not None:
            if self._check is not None:
                self._check.end()
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
