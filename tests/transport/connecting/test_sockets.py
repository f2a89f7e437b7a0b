"""Sockets and pipes on this machine, and leaving at any moment."""

from __future__ import annotations

import contextlib
import random
import socket
import sys
import threading
import time
from multiprocessing import connection
from pathlib import Path
from typing import Any

import anyio
import pytest

from aiomanager import AuthenticationError, ConnectionLostError
from aiomanager._ground.addresses import Address
from aiomanager._transport.thread import ThreadTransport
from tests.support.hosts import KEY, serving
from tests.support.waiting import wait_until, while_busy

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform == "win32", reason="there are no unix sockets"),
]


async def test_a_full_backlog(transport: Any, socket_path: str):
    """Who finds no room waits for it, for as long as he has time."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(contextlib.closing(socket.socket(socket.AF_UNIX)))
        listener.bind(socket_path)
        listener.listen(0)
        listener.setblocking(False)
        waiting = 0
        while _connect(stack, socket_path):
            waiting += 1
        began = time.monotonic()
        with pytest.raises(ConnectionLostError, match="no host answered"):
            await transport(socket_path, 0.3).open("somebody")
        assert 0.2 < time.monotonic() - began < while_busy(0.9)
        async with anyio.create_task_group() as group:
            group.start_soon(transport(socket_path, 30).open, "somebody")
            for _ in range(waiting + 1):
                await wait_until(
                    lambda: _accept(stack, listener), description="one more has found room"
                )
            group.cancel_scope.cancel()
    Path(socket_path).unlink()


def _connect(stack: contextlib.ExitStack, path: str) -> bool:
    sock = stack.enter_context(contextlib.closing(socket.socket(socket.AF_UNIX)))
    sock.setblocking(False)
    return sock.connect_ex(path) == 0


def _accept(stack: contextlib.ExitStack, listener: socket.socket) -> bool:
    try:
        sock, _ = listener.accept()
    except BlockingIOError:
        return False
    stack.enter_context(contextlib.closing(sock))
    return True


async def test_left_at_any_moment(transport: Any, host: Any):
    """However far it has come, nothing stays open, at either end."""
    way = transport(("localhost", host.address[1]))
    (await way.open("somebody")).close()
    chance = random.Random(1)
    for _ in range(60):
        with anyio.move_on_after(chance.uniform(0, 0.004)):
            (await way.open("somebody")).close()
    await wait_until(lambda: not host._peers, description="the host has seen them all go")


# -- what multiprocessing's own client connects to ------------------------------------------------


def pipe(path: str, timeout: float) -> ThreadTransport:
    """Where there are no named pipes, that client's socket does as well."""
    return ThreadTransport(Address("pipe", path), KEY, timeout)


@pytest.mark.may_block(reason="the test ends a host")
async def test_a_pipe(socket_path: str):
    """It leads to a host as a socket does; from one with another key nothing is taken."""
    with serving(socket_path):
        connection = await pipe(socket_path, 5).open("somebody")
        connection.close()
        with pytest.raises(AuthenticationError):
            await ThreadTransport(Address("pipe", socket_path), b"another", 5).open("somebody")
    with pytest.raises(ConnectionLostError, match="no host at"):
        await pipe(socket_path, 5).open("somebody")


@pytest.mark.parametrize("says", [None, b"#CHALLENGE#" + b"r" * 300], ids=["nothing", "too much"])
async def test_a_pipe_to_one_who_is_no_host(socket_path: str, says: bytes | None):
    """The deadline and the limit are the same."""
    with connection.Listener(socket_path) as listener:
        accepted: list[Any] = []

        def accept() -> None:
            accepted.append(listener.accept())
            if says is not None:
                accepted[0].send_bytes(says)

        thread = threading.Thread(target=accept)
        thread.start()
        began = time.monotonic()
        with pytest.raises(ConnectionLostError):
            await pipe(socket_path, 0.4).open("somebody")
        assert time.monotonic() - began < while_busy(1.0)
        thread.join()
        accepted[0].close()


async def test_a_pipe_that_is_busy(socket_path: str, monkeypatch: pytest.MonkeyPatch):
    """Who waits leaves at the deadline; what comes later is closed."""
    let_through, closed = threading.Event(), threading.Event()

    class Late:
        def close(self) -> None:
            closed.set()

    def client(address: Any) -> Any:
        let_through.wait(10)
        return Late()

    monkeypatch.setattr(connection, "Client", client)
    with pytest.raises(ConnectionLostError, match="no host answered"):
        await pipe(socket_path, 0.2).open("somebody")
    let_through.set()
    await wait_until(closed.is_set, description="it is closed")
