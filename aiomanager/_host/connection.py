"""One connection that the host accepted: its handshake, its messages in, its messages out."""

from __future__ import annotations

import contextlib
import selectors
import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from .._broker.queue import HostedQueue
from .._ground.buffers import Buffer
from .._ground.errors import AuthenticationError
from .._wire.endpoint import Endpoint
from .._wire.framing import TURN_SIZE, MessageTooLarge, one_write
from .._wire.handshake import server_handshake
from .._wire.hello import Hello, read_hello
from .._wire.items import PROTOCOL, STOCK_PROTOCOL
from .._wire.passthrough import TOO_OLD, read_by_sender_of
from .._wire.seals import MessageForged
from .reactor import Reactor

# A peer that lets this much pile up unread is not read from until it has taken it.
SENDER_LIMIT = 4 * 1024**2
# Seconds from which on a peer that is alive counts as having read a large message that is out of
# this process: something as large must not be kept for as long as the peer is busy with it.
READ_WITHIN = 5.0
# Seconds until a peer that could not be read, for want of memory, is tried again.
REST = 0.1


def _unacknowledged() -> Callable[[socket.socket], int] | None:
    """What asks how many of the bytes that were sent have not arrived at the peer's system (TCP),
    or at the peer (a Unix socket), where the system tells."""
    if not sys.platform.startswith("linux"):
        return None
    import fcntl
    import termios

    def ask(sock: socket.socket) -> int:
        answer = fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4))
        return int.from_bytes(answer, sys.byteorder, signed=True)

    return ask


_outq = _unacknowledged()

_UNIX = getattr(socket, "AF_UNIX", None)  # of which none is there on Windows


class Peer:
    """A peer before and after it has shown that it knows the key.

    Args:
        authkey: what the peer must know.
        message_limit: bytes; a peer that announces a longer message is cut off.
        handshake_timeout: seconds for the whole handshake, after which the peer is cut off.
        on_authenticated: called once.
        on_hello: called with what a peer of ours says first; returns what it is answered.
        on_message: called with each message from then on.
        on_shed: called with the first bytes of one for which there was no memory.
        on_lost: called once, when the connection is gone for whatever reason.
        on_starved: called where there was no memory for what a peer sends.
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
        on_hello: Callable[[Peer, Hello], list[Buffer]],
        on_message: Callable[[Peer, Buffer], None],
        on_shed: Callable[[Peer, bytes], None],
        on_lost: Callable[[Peer], None],
        on_starved: Callable[[], None],
    ) -> None:
        self.closed = False
        self.ours = False  # a side of aiomanager, as the handshake has shown
        self.queues: set[HostedQueue] = set()  # where something of it may be left
        self.protocol = PROTOCOL  # the newest of pickle that it reads, as far as is known
        self._reactor = reactor
        self._sock = sock
        self._on_authenticated = on_authenticated
        self._on_hello = on_hello
        self._on_message = on_message
        self._on_lost = on_lost
        self._on_starved = on_starved
        handshake = server_handshake(authkey, sealed=sock.family != _UNIX)
        self._end = Endpoint(handshake, message_limit, partial(on_shed, self))
        self._sender: deque[memoryview] = deque()
        self._unsent = 0
        self._undelivered: Callable[[], None] | None = None
        self._sends = 0
        self._receive: Callable[[Buffer], None] | None = None  # once the peer is authenticated
        self._deadline = reactor.call_at(reactor.time() + handshake_timeout, self._too_slow)
        self._watched = 0
        self._resting = False
        self._watch()
        self._send_packed(self._end.to_send())

    def __str__(self) -> str:
        try:
            name = self._sock.getpeername()
        except OSError:
            name = None
        if isinstance(name, tuple):
            return f"a peer at {name[0]}, port {name[1]},"
        return "a peer on this machine"

    @property
    def idle(self) -> bool:
        """Whether everything that was sent to the peer is out of this process."""
        return not self._sender

    @property
    def held(self) -> int:
        """How many bytes of messages under way are kept for this peer."""
        return self._unsent + self._end.held

    def send(self, parts: Sequence[Buffer], undelivered: Callable[[], None] | None = None) -> bool:
        """Send a message, as far as the socket takes it now, the rest later.

        Returns False where the peer is known to be gone. Where it goes later, and is known not to
        have read everything, `undelivered` is called.
        """
        if self.closed:
            return False
        self._undelivered = undelivered
        self._sends += 1
        try:
            packed = self._end.pack(parts)
        except MemoryError:
            self._undelivered = None
            self.starve()
            return False
        return self._send_packed(packed)

    def _send_packed(self, packed: list[Buffer]) -> bool:
        if len(packed) == 1 and not self._sender:
            # Nearly every message is small and goes at once.
            part = packed[0]
            try:
                sent = self._sock.send(part)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError:
                self._undelivered = None
                self.close()
                return False
            if sent == len(part):
                return True
            packed = [memoryview(part)[sent:]]
        for part in packed:
            if len(part):
                self._sender.append(memoryview(part))
                self._unsent += len(part)
        if not self._write():
            self._undelivered = None  # the caller knows
            return False
        if self._undelivered is not None:
            self._expect_read(self._sends)
        return True

    def too_old(self, message: Buffer) -> bool:
        """Note by a request to the host itself, with which each connection begins, what the peer
        reads; refuse one that reads nothing of what is written here."""
        self.protocol = read_by_sender_of(message)
        return self.protocol < STOCK_PROTOCOL and self.send([TOO_OLD])

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

    def starve(self) -> None:
        """There is no memory for what is to be sent: cut the connection."""
        self.close()
        self._on_starved()

    def close(self, *, unread: bool = False) -> None:
        """Cut the connection; `on_lost` follows in a turn of its own, since a queue that is
        handing something to this peer must finish first.

        Args:
            unread: the peer went without having read everything.
        """
        if self.closed:
            return
        self.closed = True
        if not (unread or self._sender):
            self._undelivered = None
        self._deadline.cancel()
        self._reactor.unwatch(self._sock)
        # At once, and not when this object goes: that is known to so many that it takes a while.
        self._sender.clear()
        self._unsent = 0
        self._end.forget()
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        self._reactor.call_soon(self._lost)

    # -- inside -------------------------------------------------------------------------------

    def _expect_read(self, number: int) -> None:
        def by_now() -> None:
            if self._sender:
                self._expect_read(number)
            elif number == self._sends:
                self._undelivered = None

        self._reactor.call_at(self._reactor.time() + READ_WITHIN, by_now)

    def _lost(self) -> None:
        if self._undelivered is not None:
            self._undelivered()
        self._on_lost(self)

    def _watch(self) -> None:
        events = selectors.EVENT_READ
        if self._resting or self._unsent > SENDER_LIMIT:
            events = 0
        if self._sender:
            events |= selectors.EVENT_WRITE
        if events != self._watched and not self.closed:
            self._watched = events
            self._reactor.watch(self._sock, events, self._ready)

    def _ready(self, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._write()
        if self.closed or not events & selectors.EVENT_READ:
            return
        left = TURN_SIZE
        while left > 0 and (count := self._read()):
            left -= count
            self._take_in()
            if not self._end.midway:
                return

    def _read(self) -> int:
        """Read once; 0 where there is nothing more at the moment, or will never be."""
        try:
            count = self._end.read(self._sock)
        except (BlockingIOError, InterruptedError):
            return 0
        except (ConnectionResetError, BrokenPipeError):
            # How a system tells that its process has closed the connection, or was killed, before
            # it had read what came to it, or that it was closed already.
            self.close(unread=True)
            return 0
        except OSError:
            count = 0
        except MemoryError:
            self._rest()
            self._on_starved()
            return 0
        if not count:
            self.close(unread=self._undelivered is not None and self._is_unread())
        return count

    def _rest(self) -> None:
        """What cannot be read is there the next time too, and the time after."""
        self._resting = True
        self._watch()
        self._reactor.call_at(self._reactor.time() + REST, self._go_on)

    def _go_on(self) -> None:
        self._resting = False
        self._watch()

    def _is_unread(self) -> bool:
        """Whether a peer that has closed its end is known not to have all that it was sent."""
        try:
            # After its end, this is where the system says that something came too late.
            if self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                return True
            return _outq is not None and _outq(self._sock) > 0
        except OSError:
            return True

    def _take_in(self) -> None:
        try:
            if self._receive is None:
                self._shake()
            receive = self._receive
            while receive is not None and (message := self._end.next()) is not None:
                self._undelivered = None  # who asks again has read the answer before
                receive(message)
                receive = None if self.closed else self._receive
        except (AuthenticationError, MessageForged, MessageTooLarge) as exc:
            self._reactor.warn("%s was refused: %s", self, exc)
            self.close()
        except Exception as exc:
            # Nobody else must suffer from it, and this one must not wait for a reply for ever.
            self.close()
            self._reactor.failed("a message could not be handled; its connection is closed", exc)
            if isinstance(exc, MemoryError):
                self._on_starved()

    def _shake(self) -> None:
        try:
            self._end.shake()
        finally:
            self._send_packed(self._end.to_send())
        if self._end.greeted is not None and not self.closed:
            self._deadline.cancel()
            self.ours = self._end.greeted.ours
            self._receive = self._greet if self.ours else partial(self._on_message, self)
            self._on_authenticated(self)

    def _greet(self, message: Buffer) -> None:
        """The first message of a peer of ours."""
        try:
            answer = self._on_hello(self, read_hello(message))
        except ValueError as exc:
            raise AuthenticationError(str(exc)) from None
        self._receive = partial(self._on_message, self)
        self.send(answer)

    def _too_slow(self) -> None:
        self._reactor.warn("%s was refused: it did not authenticate in time", self)
        self.close()

    def _write(self) -> bool:
        """Send what the socket takes in one turn; False where the peer is gone."""
        left = TURN_SIZE
        try:
            while left > 0 and self._sender:
                offered, sent = self._send_some()
                self._forget(sent)
                left = left - sent if sent == offered else 0  # it is full
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.close()
            return False
        self._watch()
        return True

    def _send_some(self) -> tuple[int, int]:
        """How many bytes the socket was offered, and how many it has taken."""
        parts, size = one_write(self._sender)
        if not hasattr(self._sock, "sendmsg"):  # as on Windows
            return len(parts[0]), self._sock.send(parts[0])
        return size, self._sock.sendmsg(parts)

    def _forget(self, count: int) -> None:
        self._unsent -= count
        while count:
            part = self._sender[0]
            if count < len(part):
                self._sender[0] = part[count:]
                return
            count -= len(part)
            self._sender.popleft()
