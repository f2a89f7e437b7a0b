"""One connection that the host accepted: its handshake, its messages in, its messages out."""

from __future__ import annotations

import contextlib
import selectors
import socket
from collections import deque
from collections.abc import Callable, Sequence

from ._errors import AuthenticationError
from ._reactor import Reactor, logger
from ._wire import (
    HANDSHAKE_LIMIT,
    Buffer,
    Handshake,
    MessageReader,
    MessageTooLarge,
    pack,
    server_handshake,
)

READ_SIZE = 256 * 1024
# A peer that lets this much pile up unread is not read from until it has taken it.
OUTBOX_LIMIT = 4 * 1024**2
PARTS_PER_WRITE = 64  # well below the smallest IOV_MAX


class Peer:
    """A peer before and after it has shown that it knows the key.

    Args:
        authkey: what the peer must know.
        message_limit: bytes; a peer that announces a longer message is cut off.
        handshake_timeout: seconds for the whole handshake, after which the peer is cut off.
        on_authenticated: called once.
        on_message: called with each message from then on.
        on_lost: called once, when the connection is gone for whatever reason.
    """

    def __init__(
        self,
        reactor: Reactor,
        sock: socket.socket,
        *,
        authkey: bytes,
        message_limit: int,
        handshake_timeout: float,
        on_authenticated: Callable[[Peer], None],
        on_message: Callable[[Peer, Buffer], None],
        on_lost: Callable[[Peer], None],
    ) -> None:
        self.closed = False
        self.accepted = False  # has sent the `accept_connection` of the manager protocol
        self._reactor = reactor
        self._sock = sock
        self._message_limit = message_limit
        self._on_authenticated = on_authenticated
        self._on_message = on_message
        self._on_lost = on_lost
        self._reader = MessageReader(HANDSHAKE_LIMIT)
        self._outbox: deque[memoryview] = deque()
        self._unsent = 0
        self._handshake: Handshake | None = server_handshake(authkey)
        self._deadline = reactor.call_at(reactor.time() + handshake_timeout, self._too_slow)
        self._watched = 0
        self._watch()
        self._shake(next(self._handshake))

    def send(self, parts: Sequence[Buffer]) -> bool:
        """Send a message, as far as the socket takes it now, the rest later.

        Returns False where the peer is known to be gone.
        """
        if self.closed:
            return False
        for part in pack(parts):
            if len(part):
                self._outbox.append(memoryview(part))
                self._unsent += len(part)
        self._write()
        return not self.closed

    def is_gone(self) -> bool:
        """Whether the peer has ended, also where nobody has read its end yet."""
        if self.closed:
            return True
        try:
            return self._sock.recv(1, socket.MSG_PEEK) == b""
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            return True

    def close(self) -> None:
        """Cut the connection; `on_lost` follows in a turn of its own, since a queue that is
        handing something to this peer must finish first."""
        if self.closed:
            return
        self.closed = True
        self._deadline.cancel()
        self._reactor.unwatch(self._sock)
        self._outbox.clear()
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        self._reactor.call_soon(lambda: self._on_lost(self))

    @property
    def idle(self) -> bool:
        """Whether everything that was sent to the peer is out of this process."""
        return not self._outbox

    @property
    def authenticated(self) -> bool:
        return self._handshake is None

    # -- inside -------------------------------------------------------------------------------

    def _watch(self) -> None:
        events = 0 if self._unsent > OUTBOX_LIMIT else selectors.EVENT_READ
        if self._outbox:
            events |= selectors.EVENT_WRITE
        if events != self._watched and not self.closed:
            self._watched = events
            self._reactor.watch(self._sock, events, self._ready)

    def _ready(self, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._write()
        if events & selectors.EVENT_READ and not self.closed:
            self._read()

    def _read(self) -> None:
        try:
            data = self._sock.recv(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._reader.feed(data)
        try:
            while not self.closed and (message := self._reader.next()) is not None:
                self._received(message)
        except (AuthenticationError, MessageTooLarge) as exc:
            logger.warning("a peer was refused: %s", exc)
            self.close()

    def _received(self, message: Buffer) -> None:
        if self._handshake is None:
            self._on_message(self, message)
            return
        try:
            self._shake(self._handshake.send(message))
        except StopIteration:
            self._finish_handshake()

    def _shake(self, step: bytes | None) -> None:
        handshake = self._handshake
        assert handshake is not None
        try:
            while step is not None:
                self.send([step])
                step = next(handshake)
        except StopIteration:
            self._finish_handshake()

    def _finish_handshake(self) -> None:
        self._handshake = None
        self._deadline.cancel()
        self._reader.limit = self._message_limit
        self._on_authenticated(self)

    def _too_slow(self) -> None:
        logger.warning("a peer was refused: it did not authenticate in time")
        self.close()

    def _write(self) -> None:
        try:
            while self._outbox:
                self._sent(self._send_some())
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.close()
            return
        self._watch()

    def _send_some(self) -> int:
        if hasattr(self._sock, "sendmsg"):
            return self._sock.sendmsg(
                [self._outbox[i] for i in range(min(len(self._outbox), PARTS_PER_WRITE))]
            )
        return self._sock.send(self._outbox[0])  # Windows has no sendmsg

    def _sent(self, count: int) -> None:
        self._unsent -= count
        while count:
            part = self._outbox[0]
            if count < len(part):
                self._outbox[0] = part[count:]
                return
            count -= len(part)
            self._outbox.popleft()
