"""Seals: each message of a session carries a tag that only the two sides can make.

A tag is keyed BLAKE2b (RFC 7693) of the message's place in the order of its direction and of the
message. So a message that was changed, repeated, left out, put elsewhere or sent back to where it
came from is refused. Nothing is hidden by it: whoever is between the two reads what they say.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Sequence
from hashlib import blake2b

from .._ground.buffers import Buffer
from .._ground.errors import ConnectionLostError

TAG_SIZE = 16
# A message up to this size costs less to copy than one more call to hash it does.
COPIED_SIZE = 1024

_place = struct.Struct("!Q").pack


class MessageForged(ConnectionLostError):
    """A message came that the other side did not send, or not now; the connection cannot go on."""


class Seal:
    """The tags of the messages of one direction of a session.

    Args:
        key: that of the direction, which no other session has.
    """

    __slots__ = ("_begun", "_count")

    def __init__(self, key: bytes) -> None:
        # With the key in it already, which is copied in a third of the time that it takes to put
        # it in.
        self._begun = blake2b(key=key, digest_size=TAG_SIZE)
        self._count = 0

    def tag(self, parts: Sequence[Buffer]) -> bytes:
        """The tag of the next message, which is given in parts."""
        mac = self._begun.copy()
        place = _place(self._count)
        self._count += 1
        if len(parts) == 1 and len(parts[0]) < COPIED_SIZE:
            mac.update(place + parts[0])
            return mac.digest()
        mac.update(place)
        for part in parts:
            mac.update(part)
        return mac.digest()

    def opened(self, message: Buffer) -> Buffer:
        """The next message without its tag; raises `MessageForged` where that is another's."""
        end = len(message) - TAG_SIZE
        if end < 0:
            raise MessageForged("a message came without a tag: something stands in between")
        if not isinstance(message, bytes):
            message = memoryview(message)
        body, tag = message[:end], message[end:]
        if not hmac.compare_digest(self.tag((body,)), tag):
            raise _forged()
        return body

    def check(self, size: int) -> Check:
        """Looks at the tag of the next message, of so many bytes with it, as it passes by."""
        mac = self._begun.copy()
        mac.update(_place(self._count))
        self._count += 1
        return Check(mac, size)


class Check:
    """The tag of a message that nobody keeps."""

    def __init__(self, mac: blake2b, size: int) -> None:
        self._mac = mac
        self._left = max(0, size - TAG_SIZE)
        self._tag = b""

    def update(self, piece: bytes) -> None:
        """Take the next piece of the message."""
        body = piece[: self._left]
        self._left -= len(body)
        self._mac.update(body)
        self._tag += piece[len(body) :]

    def end(self) -> None:
        """The message has passed; raises `MessageForged` where its tag is another's."""
        if not hmac.compare_digest(self._mac.digest(), self._tag):
            raise _forged()


def _forged() -> MessageForged:
    return MessageForged(
        "a message came that the other side did not send, or not now: something stands in between"
    )
