"""Somebody without the key who stands between our two sides, or who is taken for a host: he runs
code in none of them, and both notice.

With a side of the standard library's this cannot be had, and the last test shows it.
"""

from __future__ import annotations

import contextlib
import pickle
import queue
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import anyio.to_thread
import pytest

import aiomanager
from aiomanager import AioManagerError
from aiomanager._host.server import QueueServer
from tests.support.hosts import KEY, serving, stock_client
from tests.support.wire import hear, say

pytestmark = pytest.mark.every_python

ran: list[str] = []


@pytest.fixture
def host() -> Iterator[QueueServer]:
    """A host that listens on TCP."""
    with serving(("127.0.0.1", 0)) as server:
        yield server


class Code:
    """Runs when it is unpickled."""

    def __reduce__(self) -> Any:
        return _run, ("here",)


def _run(where: str) -> None:
    ran.append(where)


@contextlib.contextmanager
def in_between(act: Callable[[socket.socket], object]) -> Iterator[tuple[str, int]]:
    """Somebody who listens, and does something with each connection that comes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads: list[threading.Thread] = []

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    sock, _ = listener.accept()
                    sock.settimeout(5)
                    threads.append(threading.Thread(target=meet, args=(sock,)))
                    threads[-1].start()

        def meet(sock: socket.socket) -> None:
            with sock, contextlib.suppress(OSError, EOFError, struct.error):
                act(sock)

        accepting = threading.Thread(target=serve)
        accepting.start()
        try:
            yield listener.getsockname()
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            accepting.join(10)
            for thread in threads:
                thread.join(10)


def pass_on(one: socket.socket, other: socket.socket) -> None:
    """The whole handshake, word for word: both sides are who they say."""
    for here, there in ((other, one), (one, other)) * 3:
        say(there, hear(here))


@pytest.mark.anyio
async def test_a_relay_cannot_speak_for_the_client(host: Any, transport: Any):
    """What it sends to the host is not read, let alone run; the client's call fails."""
    told = threading.Event()

    def relay(victim: socket.socket) -> None:
        with socket.create_connection(host.address) as up:
            up.settimeout(5)
            pass_on(victim, up)
            say(up, pickle.dumps(Code()))
            with pytest.raises((EOFError, ConnectionResetError)):
                hear(up)
            told.set()

    with in_between(relay) as address:
        with pytest.raises(AioManagerError):
            async with _connect(address, transport):
                pass
        assert await anyio.to_thread.run_sync(told.wait, 5)
    assert ran == []


@pytest.mark.anyio
async def test_a_relay_cannot_speak_for_the_host(host: Any, transport: Any):
    """What it answers is not unpickled by the client."""

    def relay(victim: socket.socket) -> None:
        with socket.create_connection(host.address) as up:
            up.settimeout(5)
            pass_on(victim, up)
            hear(victim)
            say(victim, pickle.dumps(Code()))
            hear(victim)

    with in_between(relay) as address, pytest.raises(AioManagerError, match="in between"):
        async with _connect(address, transport):
            pass
    assert ran == []


@pytest.mark.anyio
async def test_a_relay_that_only_passes_on_changes_nothing(host: Any):
    """The two sides understand each other, and nobody else is part of it."""

    def relay(victim: socket.socket) -> None:
        with socket.create_connection(host.address) as up:
            back = threading.Thread(target=_pump, args=(up, victim))
            back.start()
            _pump(victim, up)
            back.join(10)

    with in_between(relay) as address:
        async with _connect(address, "stream") as manager:
            queue = manager.queue("jobs")
            await queue.put("item")
            assert await queue.get(timeout=5) == "item"


@pytest.mark.anyio
async def test_a_relay_that_takes_the_clients_answer_for_its_own(host: Any):
    """It answers the host's challenge with what a client of ours says, and goes on as a client of
    the standard library's would: the host takes it for none."""
    refused = threading.Event()

    def relay(victim: socket.socket) -> None:
        with socket.create_connection(host.address) as up:
            up.settimeout(5)
            say(victim, hear(up))
            say(up, hear(victim))
            assert hear(up) == b"#WELCOME#"
            say(up, b"#CHALLENGE#" + b"c" * 20)
            with pytest.raises((EOFError, ConnectionResetError)):
                hear(up)
            refused.set()

    with in_between(relay) as address:
        with pytest.raises(AioManagerError):
            async with _connect(address, "stream"):
                pass
        assert await anyio.to_thread.run_sync(refused.wait, 5)


@pytest.mark.anyio
async def test_a_client_answers_no_other_client(transport: Any):
    """A server without the key passes what one client asks on to a second one, which has it."""
    asked: queue.Queue[bytes] = queue.Queue()
    answered: list[bytes] = []
    both = iter((True, False))

    def rogue(victim: socket.socket) -> None:
        first = next(both, None)
        if first:
            say(victim, b"#CHALLENGE#{sha256}" + b"x" * 40)
            hear(victim)
            say(victim, b"#WELCOME#")
            asked.put(hear(victim))
            hear(victim)
        elif first is False:
            say(victim, asked.get(timeout=5))
            answered.append(hear(victim))

    errors: list[Exception] = []

    async def connect(address: tuple[str, int]) -> None:
        try:
            async with _connect(address, transport):
                pass
        except AioManagerError as exc:
            errors.append(exc)

    with in_between(rogue) as address:
        async with anyio.create_task_group() as group:
            group.start_soon(connect, address)
            group.start_soon(connect, address)
    assert next(both, None) is None
    assert answered == []
    assert len(errors) == 2
    assert any("passes on" in str(error) for error in errors)


def test_with_a_stock_client_a_relay_keeps_the_connection(host: Any):
    """What the security page says: nothing seals what a client of the standard library says."""

    def relay(victim: socket.socket) -> None:
        with socket.create_connection(host.address) as up:
            up.settimeout(5)
            pass_on(victim, up)
            say(up, pickle.dumps((None, "create", ("jobs",), {})))
            say(victim, pickle.dumps(("#RETURN", pickle.loads(hear(up))[1])))
            hear(victim)

    with in_between(relay) as address:
        assert stock_client(address, "jobs")


def _connect(address: Any, transport: Any) -> Any:
    return aiomanager.connect(address, KEY, transport=transport, connect_timeout=2)


def _pump(here: socket.socket, there: socket.socket) -> None:
    with contextlib.suppress(OSError):
        here.settimeout(5)
        while data := here.recv(65536):
            there.sendall(data)
        there.shutdown(socket.SHUT_WR)
