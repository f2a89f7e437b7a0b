"""One end of a connection, without any I/O.

A driver reads and writes: the host's selector, an event loop, or a thread that blocks. The end says
what is to be sent, and takes what was read:

    end = Endpoint(client_handshake(authkey))
    <send what end.to_send() gives, and read by end.read(socket), until it is greeted>
    <send what end.pack(parts) gives, and read by end.read(socket), until end.next() is a message>
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .._ground.buffers import Buffer
from .framing import MESSAGE_LIMIT, MessageReader, Source, pack
from .handshake import HANDSHAKE_LIMIT, Greeted, Handshake
from .seals import Seal


class Endpoint:
    """One end of a connection: the handshake, then messages both ways, sealed where that was
    agreed.

    Args:
        handshake: this side's part of it.
        limit: bytes of a message that comes after it.
        shed: as for `MessageReader`.

    Attributes:
        greeted: what the handshake has shown, once it is over.
    """

    def __init__(
        self,
        handshake: Handshake,
        limit: int = MESSAGE_LIMIT,
        shed: Callable[[bytes], object] | None = None,
    ) -> None:
        self.greeted: Greeted | None = None
        self._limit = limit
        self._reader = MessageReader(HANDSHAKE_LIMIT, shed)
        self._sending: Seal | None = None
        self._handshake = handshake
        self._to_send: list[Buffer] = []
        self._say(next(handshake))

    @property
    def midway(self) -> bool:
        """Whether a message has begun to come, and has not ended."""
        return self._reader.midway

    @property
    def held(self) -> int:
        """How many bytes are kept of a message that has not ended."""
        return self._reader.held

    def pack(self, parts: Sequence[Buffer]) -> list[Buffer]:
        """A message, as it is to be written; messages are written in the order of these calls."""
        return pack(parts, self._sending)

    def to_send(self) -> list[Buffer]:
        """What the handshake has to say now, as it is to be written."""
        said, self._to_send = self._to_send, []
        return said

    def read(self, source: Source) -> int:
        """Read once from a socket; how many bytes that were, 0 at its end."""
        return self._reader.read(source)

    def next(self) -> Buffer | None:
        """The next message after the handshake that is here as a whole; None where more has to be
        read first.

        Raises:
            AuthenticationError: the peer has failed in the handshake; `to_send` may have a word
                for it.
            MessageTooLarge: it announces a message over the limit.
            MessageForged: somebody else has sent a message, or it was changed.
            MemoryError: there is none for a message.
        """
        if self.greeted is None:
            self.shake()
        return None if self.greeted is None else self._reader.next()

    def shake(self) -> None:
        """Go on with the handshake as far as what was read allows; raises as `next`."""
        while self.greeted is None and (message := self._reader.next()) is not None:
            self._take(message)

    def forget(self) -> None:
        """Drop what has come of a message: nobody will read the rest."""
        self._reader = MessageReader()

    def _take(self, message: Buffer) -> None:
        try:
            self._say(self._handshake.send(message))
        except StopIteration as stop:
            self.greeted = greeted = stop.value
            self._sending, self._reader.seal = greeted.sending, greeted.receiving
            self._reader.limit = self._limit

    def _say(self, step: bytes | None) -> None:
        while step is not None:
            self._to_send += pack([step])
            step = next(self._handshake)
