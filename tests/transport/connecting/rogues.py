"""Servers that do not do what a host does, each named after what it does instead."""

from __future__ import annotations

import contextlib
import pickle
import socket
import struct
import threading
import time
from collections.abc import Callable
from multiprocessing import connection
from typing import Any, Self

from aiomanager._wire.framing import pack
from tests.support.hosts import KEY
from tests.support.waiting import wait_until_sync
from tests.support.wire import hear, stock_server_handshake


class Rogue:
    """Listens on TCP, and meets each peer on a thread of its own.

    Attributes:
        met: how many peers have connected.
        sent: how many bytes it could send to all of them.
    """

    key = KEY

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._listener = socket.create_server((host, port))
        self.address = self._listener.getsockname()[:2]
        self.met = 0
        self.sent = 0
        self._peers: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._ended = threading.Event()

    def meet(self, peer: socket.socket) -> None:
        """What it does with a peer; afterwards it waits until the peer has gone."""

    def __enter__(self) -> Self:
        self._run(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for peer in self._peers:
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for peer in self._peers:
            peer.close()

    def all_gone(self) -> None:
        """Wait until somebody has connected, and everybody has closed his connection."""
        wait_until_sync(
            lambda: self.met and not any(thread.is_alive() for thread in self._threads[1:]),
            description="every peer has closed its connection",
        )

    def _run(self, work: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=work, args=args, name="rogue")
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            self.met += 1
            self._peers.append(peer)
            self._run(self._meet, peer)

    def _meet(self, peer: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError):
            self.meet(peer)
            while peer.recv(65536):
                pass

    # -- what they have in common -------------------------------------------------------------

    def say(self, peer: socket.socket, data: bytes) -> None:
        """Send, and count."""
        peer.sendall(data)
        self.sent += len(data)

    def tell(self, peer: socket.socket, message: bytes) -> None:
        """Send a message."""
        self.say(peer, b"".join(bytes(part) for part in pack([message])))

    def drip(self, peer: socket.socket, data: bytes) -> None:
        """Send byte by byte, for longer than anybody waits."""
        for byte in data:
            self.say(peer, bytes([byte]))
            if self._ended.wait(0.02):
                return

    def shake(self, peer: socket.socket, steps: float = float("inf")) -> None:
        """The handshake of a stock host that has the key, or the beginning of it."""
        handshake = stock_server_handshake(self.key)
        with contextlib.suppress(StopIteration):
            step = next(handshake)
            while steps > 0:
                steps -= 1
                if step is None:
                    step = handshake.send(hear(peer))
                else:
                    self.tell(peer, step)
                    step = next(handshake)

    def accept_connection(self, peer: socket.socket) -> None:
        """Go along until the peer has asked to be accepted."""
        self.shake(peer)
        hear(peer)


class HasTheKey(Rogue):
    """Accepts every connection, as a host does."""

    def meet(self, peer: socket.socket) -> None:
        self.accept_connection(peer)
        self.tell(peer, pickle.dumps(("#RETURN", None)))


class Silent(Rogue):
    """Says nothing."""


class HangsUp(Rogue):
    """Has the key, and goes away after so many steps of the handshake."""

    steps = 0

    def meet(self, peer: socket.socket) -> None:
        self.shake(peer, self.steps)
        peer.shutdown(socket.SHUT_RDWR)


class HangsUpOnTheIntroduction(Rogue):
    """Has the key, and goes away when it is asked to take requests."""

    def meet(self, peer: socket.socket) -> None:
        self.accept_connection(peer)
        peer.shutdown(socket.SHUT_RDWR)


class Resets(Rogue):
    """Ends the connection with a reset."""

    def meet(self, peer: socket.socket) -> None:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()


class Drips(Rogue):
    """Sends a challenge byte by byte."""

    def meet(self, peer: socket.socket) -> None:
        self.drip(peer, struct.pack("!i", 250) + b"#CHALLENGE#{sha256}" + b"r" * 250)


class DripsItsAcceptance(Rogue):
    """Has the key, and answers the introduction byte by byte."""

    def meet(self, peer: socket.socket) -> None:
        self.accept_connection(peer)
        self.drip(peer, bytes(pack([pickle.dumps(("#RETURN", "x" * 1000))])[0]))


class Floods(Rogue):
    """Sends without end what is no message."""

    data = b"x" * 65536

    def meet(self, peer: socket.socket) -> None:
        while True:
            self.say(peer, self.data)


class FloodsWithMessages(Floods):
    """Sends a challenge, and then empty messages without end."""

    data = bytes(65536)

    def meet(self, peer: socket.socket) -> None:
        self.tell(peer, b"#CHALLENGE#{sha256}" + b"r" * 40)
        super().meet(peer)


class AnnouncesMuch(Floods):
    """Announces a challenge of 3 GiB, and sends it."""

    def meet(self, peer: socket.socket) -> None:
        self.say(peer, struct.pack("!iQ", -1, 3 * 2**30))
        super().meet(peer)


class AnnouncesABitTooMuch(Rogue):
    """Sends a challenge that is longer than any of the protocol's."""

    def meet(self, peer: socket.socket) -> None:
        self.tell(peer, b"#CHALLENGE#{sha256}" + b"r" * 240)


class HalfAHeader(Rogue):
    """Sends two bytes of the four of a length."""

    def meet(self, peer: socket.socket) -> None:
        self.say(peer, b"\0\0")


class NegativeLength(Rogue):
    """Announces less than nothing."""

    def meet(self, peer: socket.socket) -> None:
        self.say(peer, struct.pack("!i", -2))


class SpeaksHTTP(Rogue):
    """A web server."""

    def meet(self, peer: socket.socket) -> None:
        self.say(peer, b"HTTP/1.1 400 Bad Request\r\n\r\n")


class RefusesAccess(Rogue):
    """Has the key, and answers the introduction with an error."""

    def meet(self, peer: socket.socket) -> None:
        self.accept_connection(peer)
        self.tell(peer, pickle.dumps(("#TRACEBACK", "no room")))


class AnswersGarbage(Rogue):
    """Has the key, and answers the introduction with what is no pickle."""

    def meet(self, peer: socket.socket) -> None:
        self.accept_connection(peer)
        self.tell(peer, b"\x80\x05no pickle")


class UnknownDigest(Rogue):
    """Asks for a digest that does not exist."""

    def meet(self, peer: socket.socket) -> None:
        self.tell(peer, b"#CHALLENGE#{crc32}" + b"r" * 40)


class NoChallenge(Rogue):
    """Begins with the end of the protocol."""

    def meet(self, peer: socket.socket) -> None:
        self.tell(peer, b"#WELCOME#")


class WelcomesNobody(Rogue):
    """Answers the response to its challenge with what is no word of the protocol."""

    def meet(self, peer: socket.socket) -> None:
        self.tell(peer, b"#CHALLENGE#" + b"r" * 20)
        hear(peer)
        self.tell(peer, b"#PERHAPS#")


class WelcomesEverybody(Rogue):
    """Welcomes whoever comes, and does not have the key itself."""

    def meet(self, peer: socket.socket) -> None:
        self.tell(peer, b"#CHALLENGE#" + b"r" * 20)
        hear(peer)
        self.tell(peer, b"#WELCOME#")
        hear(peer)
        self.tell(peer, b"{sha256}" + b"r" * 32)


class HasAnotherKey(Rogue):
    """The standard library's server, with another key."""

    def meet(self, peer: socket.socket) -> None:
        theirs: Any = connection
        with connection.Connection(peer.detach()) as conn, contextlib.suppress(Exception):
            theirs.deliver_challenge(conn, b"another key")


class TakesAllOfIt(Rogue):
    """Has the key, answers the introduction at length, and from then on drips."""

    def meet(self, peer: socket.socket) -> None:
        self.accept_connection(peer)
        self.tell(peer, pickle.dumps(("#RETURN", "x" * 300_000)))
        hear(peer)
        self.drip(peer, bytes(pack([pickle.dumps(("#RETURN", "x" * 1000))])[0]))


class ReadsNothing(Rogue):
    """Has the key, and reads nothing after the introduction."""

    def meet(self, peer: socket.socket) -> None:
        self.accept_connection(peer)
        self.tell(peer, pickle.dumps(("#RETURN", None)))
        self._ended.wait(30)


class BlackHole:
    """Swallows packets, as a firewall does: a listener with a full backlog."""

    def __init__(self, host: str, port: int) -> None:
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((host, port))
        self._listener.listen(0)
        self._held: list[socket.socket] = []
        while len(self._held) < 3 or self._connects(self._held[-1]):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex((host, port))
            self._held.append(sock)

    def _connects(self, sock: socket.socket) -> bool:
        deadline = time.monotonic() + 0.1
        while time.monotonic() < deadline:
            try:
                sock.getpeername()
            except OSError:
                time.sleep(0.01)
            else:
                return True
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in [*self._held, self._listener]:
            sock.close()
