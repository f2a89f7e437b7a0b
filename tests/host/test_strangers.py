"""Contract: what strangers, the slow and the broken can do to a host, which is very little."""

from __future__ import annotations

import contextlib
import errno
import logging
import multiprocessing
import os
import pickle
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from aiomanager._host.reactor import WARNINGS
from aiomanager._host.server import QueueServer
from aiomanager._wire.framing import pack
from aiomanager._wire.handshake import server_handshake
from tests.support.hosted_calls import Call
from tests.support.hosts import (
    KEY,
    authenticated,
    dial,
    is_closed,
    listens,
    script,
    serving,
    stock_client,
    stock_queue,
)
from tests.support.waiting import wait_until_sync

pytestmark = pytest.mark.every_python

CHALLENGE_SIZE = 4 + len(next(server_handshake(KEY)) or b"")

GARBAGE = [
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,
    struct.pack("!i", 2**31 - 1),
    struct.pack("!i", -2),
    struct.pack("!iQ", -1, 2**62),
    struct.pack("!i", 257),
    bytes(pack([b"{sha256}" + b"x" * 32])[0]),
    bytes(pack([b"x" * 16])[0]),
    bytes(pack([b"{md99}"])[0]),
    bytes(pack([b""])[0]),
]


@pytest.fixture
def host() -> Iterator[QueueServer]:
    """A host that gives strangers a fifth of a second."""
    with serving(("127.0.0.1", 0), handshake_timeout=0.2) as server:
        yield server


def everything_from(sock: socket.socket) -> bytes:
    """What comes over a connection until its end."""
    sock.settimeout(5)
    data = b""
    with contextlib.suppress(ConnectionError):
        while piece := sock.recv(4096):
            data += piece
    return data


def works(host: QueueServer) -> bool:
    """Whether a healthy client is served."""
    jobs = stock_queue(host.address)
    jobs.put("healthy")
    return jobs.get() == "healthy"  # type: ignore[no-any-return]


# -- strangers --------------------------------------------------------------------------------


def test_a_silent_peer_is_cut(host: QueueServer):
    """When its time for the handshake is over; it has seen the challenge and nothing else."""
    began = time.monotonic()
    with dial(host.address) as silent:
        assert len(everything_from(silent)) == CHALLENGE_SIZE
    assert 0.1 < time.monotonic() - began < 3


def test_a_slow_peer_is_cut(host: QueueServer):
    """The time is for the whole handshake, not for each byte of it."""
    with dial(host.address) as slow:
        ended = threading.Event()

        def drip() -> None:
            with contextlib.suppress(OSError):
                for byte in bytes(pack([b"x" * 250])[0]):
                    slow.send(bytes([byte]))
                    if ended.wait(0.02):
                        break

        dripping = threading.Thread(target=drip)
        dripping.start()
        assert len(everything_from(slow)) == CHALLENGE_SIZE
        ended.set()
        dripping.join()


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_cut_at_once(garbage: bytes):
    """With at most the one word of refusal that the protocol has."""
    with serving(handshake_timeout=60) as host:
        with dial(host.address) as peer:
            peer.sendall(garbage)
            answer = everything_from(peer)[CHALLENGE_SIZE:]
        assert answer in (b"", bytes(pack([b"#FAILURE#"])[0]))
        assert works(host)


def test_a_wrong_key(host: QueueServer):
    """The standard library's client gets the error that it knows."""
    with pytest.raises(multiprocessing.AuthenticationError):
        stock_client(host.address, "jobs", key=b"not the key of this host")
    assert works(host)


def test_three_hundred_strangers_at_once(host: QueueServer):
    """Silent, half-way and with garbage: others are served at once, and when the strangers' time
    is over the host is as before, though they still hold their ends."""
    assert works(host)
    wait_until_sync(lambda: not host._peers, description="nobody is connected")
    before = psutil.Process().num_fds()
    strangers = [dial(host.address) for _ in range(300)]
    try:
        for number, stranger in enumerate(strangers):
            with contextlib.suppress(OSError):
                if number % 3 == 1:
                    stranger.send(b"\0\0")
                elif number % 3 == 2:
                    stranger.send(GARBAGE[number % len(GARBAGE)])
        began = time.monotonic()
        assert works(host)
        assert time.monotonic() - began < 1
        wait_until_sync(lambda: not host._peers, timeout=3, description="all strangers are gone")
        assert not host._newcomers
        # The host is in this process, as are the strangers' ends.
        assert psutil.Process().num_fds() <= before + len(strangers)
    finally:
        for stranger in strangers:
            stranger.close()


def test_too_many_strangers_push_one_another_out():
    """The oldest goes; whoever authenticates is out of their way."""
    with (
        serving(handshake_timeout=60, unauthenticated_limit=3) as host,
        authenticated(host.address) as friend,
        contextlib.ExitStack() as stack,
    ):
        strangers = [stack.enter_context(dial(host.address)) for _ in range(5)]
        assert is_closed(strangers[0])
        assert is_closed(strangers[1])
        assert works(host)
        friend.send((None, "dummy", (), {}))
        assert friend.recv() == ("#RETURN", None)
        assert len(host._newcomers) <= 3


def test_strangers_cannot_fill_the_log(caplog: pytest.LogCaptureFixture):
    """A few lines, and later how many there would have been."""
    with caplog.at_level(logging.WARNING), serving() as host:
        for _ in range(100):
            with dial(host.address) as stranger:
                stranger.sendall(b"garbage!")
                assert is_closed(stranger)
        assert len(caplog.records) == WARNINGS
        assert "a peer on this machine was refused" in caplog.text


# -- peers that have the key ------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        b"", b"no pickle", pickle.dumps(None), pickle.dumps(()), pickle.dumps((1, 2, 3)),
        pickle.dumps(([], "get", (), {})), pickle.dumps(("aiomanager-queue:jobs", "get", 5, {})),
        pickle.dumps(("aiomanager-queue:jobs", "get", (), {}, 7)), pickle.dumps((None,) * 4),
        pickle.dumps(("no such object", "get", (), {})), pickle.dumps((None, "_stop", (), {})),
        pickle.dumps((None, "create", (), {})), pickle.dumps((None, "create", ([],), {})),
        pickle.dumps((None, "shutdown_", (), {})), b"\x01" + b"\xff" * 20, b"\x80\x05\x93.",
        pickle.dumps(("aiomanager-queue:jobs", ["get"], (), {})), b"\x80\x04" * 40_000,
    ],
    ids=range(18),
)  # fmt: skip
def test_malformed_requests(host: QueueServer, message: bytes):
    """Each gets an error for an answer, and the connection goes on."""
    with authenticated(host.address) as conn:
        conn.send_bytes(message)
        kind, _ = conn.recv()
        assert kind in ("#TRACEBACK", "#ERROR")
        conn.send((None, "dummy", (), {}))
        assert conn.recv() == ("#RETURN", None)


def test_messages_over_the_limit_are_not_read():
    """Whoever announces one is cut, and nobody else suffers."""
    with serving(message_limit=10_000) as host:
        with authenticated(host.address) as conn:
            conn.send(("aiomanager-queue:jobs", "put", (b"x" * 9_000,), {}))
            assert conn.recv() == ("#RETURN", None)
            conn.send(("aiomanager-queue:jobs", "put", (b"x" * 11_000,), {}))
            with pytest.raises((EOFError, ConnectionError)):
                conn.recv()
        assert host.queues["jobs"].qsize() == 1
        assert works_beside(host)


def test_one_who_does_not_read_is_not_read_from(host: QueueServer):
    """What piles up for him is bounded by what he asked for before it did."""
    host.queues["jobs"].put([pickle.dumps(b"x" * 1_000_000)] * 60, None, Call())
    with authenticated(host.address) as conn:
        sent = 0
        conn_fd = socket.socket(fileno=os.dup(conn.fileno()))
        conn_fd.setblocking(False)
        request = bytes(pack([pickle.dumps(("aiomanager-queue:jobs", "get", (), {}))])[0])
        with conn_fd, contextlib.suppress(BlockingIOError):
            for _ in range(60):
                sent += conn_fd.send(request)
        wait_until_sync(
            lambda: any(peer._unsent > 4_000_000 for peer in host._peers),
            description="replies pile up",
        )
        assert works_beside(host)
        assert all(peer._unsent < 70_000_000 for peer in host._peers)


def works_beside(host: QueueServer) -> bool:
    """Whether a healthy client is served at another queue."""
    small = stock_queue(host.address, "small")
    small.put("healthy")
    return small.get() == "healthy"  # type: ignore[no-any-return]


def test_a_half_sent_message_and_the_end(host: QueueServer):
    """Whoever is killed while sending has sent nothing."""
    request = pickle.dumps(("aiomanager-queue:jobs", "put", (b"x" * 1000,), {}))
    packed = bytes(pack([request])[0])
    for cut in (1, 4, 5, 500, len(packed) - 1):
        with authenticated(host.address) as conn:
            os.write(conn.fileno(), packed[:cut])
    wait_until_sync(lambda: not host._peers, description="all are gone")
    assert host.queues["jobs"].empty()


def test_a_worker_whose_object_ends_the_thread(host: QueueServer):
    """`sys.exit()` in a user's class ends its connection, and nothing else."""
    with serving(types={"exits": (Exits, None, None, None)}) as server:
        client = stock_client(server.address, "exits")
        with pytest.raises((EOFError, ConnectionError)):
            client.exits().now()
        assert works(server)


class Exits:
    def now(self) -> None:
        raise SystemExit


# -- what runs out ----------------------------------------------------------------------------

_FEW_DESCRIPTORS = """
import resource, sys
from aiomanager import QueueManager
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
manager = QueueManager(
    sys.argv[1], b"a key of the tests, long enough", queues={"jobs": 0}, handshake_timeout=3600
)
manager.serve_forever()
"""


def test_without_descriptors_the_host_goes_on(socket_path: str):
    """Who is connected is served, strangers give way, and the processor is left in peace."""
    with script(_FEW_DESCRIPTORS, socket_path) as process:
        wait_until_sync(lambda: listens(socket_path), timeout=20, description="it listens")
        jobs = stock_queue(socket_path)
        assert jobs.empty()
        strangers = [dial(socket_path) for _ in range(100)]
        try:
            usage = psutil.Process(process.pid)
            before = usage.cpu_times()
            for _ in range(20):
                jobs.put("x")
                assert jobs.get() == "x"
                time.sleep(0.02)  # time in which a host that spins would be seen to
            after = usage.cpu_times()
            assert after.user + after.system - before.user - before.system < 0.3
            # The oldest stranger goes for each newcomer that finds no room.
            newcomer = stock_queue(socket_path)
            newcomer.put("y")
            assert newcomer.get() == "y"
        finally:
            for stranger in strangers:
                stranger.close()
        process.terminate()
        _, log = process.communicate(timeout=10)
    assert process.returncode == 0
    assert os.strerror(errno.EMFILE) in log
    assert log.count("cannot accept") <= 10


def test_without_threads_the_host_goes_on(host: QueueServer, monkeypatch: pytest.MonkeyPatch):
    """A call that needs one gets an error, and queues need none."""
    jobs = stock_queue(host.address)
    # Large, and not a put of an item and nothing else: for a thread of its connection's own.
    jobs.put(b"x" * 100_000, True)
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("aiomanager-objects"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    other = stock_queue(host.address)
    errors: list[Exception] = []

    def put_from_another_connection() -> None:
        try:
            other.put(b"x" * 100_000, True)
        except Exception as exc:
            errors.append(exc)

    thread = threading.Thread(target=put_from_another_connection)
    thread.start()
    thread.join(10)
    assert "the host is overloaded: can't start new thread" in str(errors[0])
    assert works_beside(host)


def test_a_connection_answers_at_once_and_notices_a_dead_peer(host: QueueServer):
    """The options of TCP: no delay, and probes that find a peer dead in less than half a minute."""
    jobs = stock_queue(host.address)
    assert jobs.empty()
    (peer, *_) = host._peers
    sock = peer._sock
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        idle, interval, count = (
            sock.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
        assert idle + interval * count <= 25
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 25_000


def test_large_items_over_tcp_take_no_delays(host: QueueServer):
    """Header and body leave in one write: nothing waits 40 ms for an acknowledgement."""
    jobs = stock_queue(host.address)
    began = time.monotonic()
    for _ in range(50):
        host.queues["jobs"].put([pickle.dumps(b"x" * 20_000)], None, Call())
        jobs.get()
    assert time.monotonic() - began < 1.5


def test_callers_of_any(host: QueueServer):
    """A connection may be used for functions of the server after it was accepted."""
    with authenticated(host.address) as conn:
        request: Any
        for request in (
            (None, "accept_connection", ("somebody",), {}),
            (None, "dummy", (), {}),
            ("aiomanager-queue:jobs", "put", (1,), {}),
        ):
            conn.send(request)
            assert conn.recv() == ("#RETURN", None)
        conn.send((None, "number_of_objects", (), {}))
        assert conn.recv() == ("#RETURN", 2)
