"""One connection of a host: what is known of what its peer has read."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

import pytest

from aiomanager._host import connection as module
from aiomanager._host.connection import Peer
from aiomanager._host.reactor import Reactor
from aiomanager._wire.framing import MessageReader, pack
from tests.support.hosts import KEY
from tests.support.waiting import wait_until_sync
from tests.support.wire import stock_handshake

pytestmark = pytest.mark.every_python

LARGE = b"l" * 20_000_000


class Connection:
    """A peer that has authenticated, and its own end."""

    def __init__(self, reactor: Reactor) -> None:
        self.reactor = reactor
        ours, self.end = socket.socketpair()
        ours.setblocking(False)
        self.messages: list[bytes] = []
        self.lost: list[Peer] = []
        self.undelivered: list[str] = []
        self.starved = 0
        self.peer = Peer(
            reactor,
            ours,
            authkey=KEY,
            message_limit=1 << 30,
            handshake_timeout=10,
            on_authenticated=lambda peer: None,
            on_hello=lambda peer, hello: [],
            on_message=lambda peer, message: self.messages.append(bytes(message)),
            on_shed=lambda peer, head: None,
            on_lost=self.lost.append,
            on_starved=self._starve,
        )
        self._shake()

    def turn(self) -> None:
        """Let the reactor do what there is to do."""
        self.reactor.call_soon(self.reactor.stop)
        self.reactor.run()
        self.reactor._stopping = False

    def _shake(self) -> None:
        reader, handshake = MessageReader(), stock_handshake(KEY)
        with contextlib.suppress(StopIteration):
            step = next(handshake)
            while True:
                if step is None:
                    self.turn()
                    while (message := reader.next()) is None:
                        reader.feed(self.end.recv(4096))
                    step = handshake.send(message)
                else:
                    self.say(step)
                    step = next(handshake)

    def _starve(self) -> None:
        self.starved += 1

    def say(self, message: bytes) -> None:
        """Send a message to the host."""
        for part in pack([message]):
            self.end.sendall(part)
        self.turn()

    def send(self, message: bytes, name: str) -> bool:
        """Let the host send a message."""
        return self.peer.send([message], lambda: self.undelivered.append(name))

    def until_lost(self) -> None:
        """Let the reactor notice the peer's end."""

        def is_lost() -> bool:
            self.turn()
            return bool(self.lost)

        wait_until_sync(is_lost, description="the peer's end is noticed")


@pytest.fixture
def connection() -> Iterator[Connection]:
    """A connection that is closed at the end."""
    reactor = Reactor()
    connection = Connection(reactor)
    yield connection
    connection.peer.close()
    connection.end.close()
    reactor.close()


@pytest.mark.parametrize("message", [b"small", LARGE], ids=["small", "large"])
def test_a_peer_that_goes_without_reading(connection: Connection, message: bytes):
    """Its system tells, and the message is known to be undelivered."""
    assert connection.send(message, "it")
    connection.end.close()
    connection.until_lost()
    assert connection.undelivered == ["it"]


def test_a_peer_that_has_read_everything(connection: Connection):
    """Its end means nothing for what it was sent."""
    connection.send(b"small", "it")
    connection.end.recv(4096)
    connection.end.close()
    connection.until_lost()
    assert connection.undelivered == []


def test_a_peer_that_has_read_a_part(connection: Connection):
    """A message is read as a whole or not."""
    connection.send(LARGE, "it")
    connection.turn()
    connection.end.recv(1000)
    connection.end.close()
    connection.until_lost()
    assert connection.undelivered == ["it"]


def test_a_peer_whose_end_came_before_the_answer(connection: Connection):
    """It was asked over TCP, and closed before the host has looked: its system refuses what comes
    after its end, which is read all the same as an end."""
    listener = socket.create_server(("127.0.0.1", 0))
    ours = socket.create_connection(listener.getsockname())
    theirs, _ = listener.accept()
    with listener, ours, theirs:
        ours.setblocking(False)
        connection.peer._sock, unused = ours, connection.peer._sock
        connection.reactor.unwatch(unused)
        connection.reactor.watch(ours, 1, connection.peer._ready)
        theirs.close()
        assert connection.send(b"small", "it")
        connection.until_lost()
        unused.close()
    assert connection.undelivered == ["it"]


def test_a_peer_that_asks_again_has_read_the_answer(connection: Connection):
    """Whatever happens after that."""
    connection.send(b"first", "first")
    connection.end.recv(4096)
    connection.say(b"a request")
    assert connection.messages == [b"a request"]
    connection.peer.send([b"an answer that need not arrive"])
    connection.end.close()
    connection.until_lost()
    assert connection.undelivered == []


def test_a_large_message_is_not_kept_for_a_busy_peer(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
):
    """Some time after it is out of this process it counts as read, and not before."""
    monkeypatch.setattr(module, "READ_WITHIN", 0.01)
    assert connection.send(LARGE, "it")
    for _ in range(5):
        connection.turn()
    assert connection.peer._undelivered is not None
    connection.end.setblocking(False)

    def is_forgotten() -> bool:
        with contextlib.suppress(BlockingIOError):
            while connection.end.recv(1 << 20):
                pass
        connection.turn()
        return connection.peer._undelivered is None

    wait_until_sync(is_forgotten, description="it counts as read")


@pytest.mark.parametrize("message", [b"small", LARGE], ids=["small", "large"])
def test_a_peer_that_is_gone_is_told_once(connection: Connection, message: bytes):
    """A send that fails says so, and nothing else does: the caller keeps what it sent."""
    connection.end.close()
    assert not connection.send(message, "it")
    assert not connection.send(message, "again")
    connection.until_lost()
    assert connection.undelivered == []
    assert len(connection.lost) == 1


def test_whether_a_peer_is_gone(connection: Connection):
    """Also where its end was not read yet, and not where it has only something to say."""
    assert not connection.peer.is_gone()
    connection.end.send(b"\0")
    assert not connection.peer.is_gone()
    os.read(connection.peer._sock.fileno(), 1)
    connection.end.close()
    assert connection.peer.is_gone()
    connection.peer.close()
    assert connection.peer.is_gone()


def test_large_messages_arrive_whole(connection: Connection):
    """In as many pieces as the socket takes, and in order with others."""
    reader = MessageReader()
    for message in (LARGE, b"small", b"m" * 300_000):
        connection.peer.send([message])
    received: list[int] = []
    while len(received) < 3:
        connection.turn()
        reader.feed(connection.end.recv(1 << 20))
        while (message_read := reader.next()) is not None:
            received.append(len(message_read))
    assert received == [len(LARGE), 5, 300_000]
    assert connection.peer.idle


def test_a_peer_that_cannot_be_read_for_want_of_memory(connection: Connection, monkeypatch):
    """It is tried again now and then; what it has said is not lost."""

    class Scarce:
        def recv(self, size: int) -> bytes:
            raise MemoryError

        def recv_into(self, buffer: memoryview) -> int:
            raise MemoryError

    def is_read() -> bool:
        connection.turn()
        return bool(connection.messages)

    read = MessageReader.read
    with monkeypatch.context() as patch:
        patch.setattr(MessageReader, "read", lambda reader, _: read(reader, Scarce()))
        connection.say(b"word")
        for _ in range(100):
            connection.turn()
        assert connection.starved == 1
    wait_until_sync(is_read, description="it is read")
    assert connection.messages == [b"word"]


def test_a_message_that_there_is_no_memory_to_send(connection: Connection, monkeypatch):
    """Nobody has it, and the peer is not left waiting for it."""

    def pack(parts: object, seal: object) -> list[bytes]:
        raise MemoryError

    monkeypatch.setattr("aiomanager._wire.endpoint.pack", pack)
    assert not connection.send(b"word", "it")
    connection.until_lost()
    assert (connection.starved, connection.undelivered) == (1, [])
