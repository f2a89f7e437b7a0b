"""The thread transport, where its threads outlive those who wait for them."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

import anyio
import pytest

from aiomanager._ground.addresses import parse
from aiomanager._transport.blocking import BlockingSocket
from aiomanager._transport.thread import ThreadTransport
from aiomanager._wire.endpoint import Endpoint
from aiomanager._wire.handshake import client_handshake
from tests.support.waiting import wait_until


class Late(ThreadTransport):
    """Its connections come when they are let through."""

    def __init__(self) -> None:
        super().__init__(parse("tcp://127.0.0.1:1"), b"key", connect_timeout=5)
        self.began = threading.Event()
        self.let_through = threading.Event()
        self.closed = threading.Event()

    def _connect(self, name: str | None, said: Any, approach: Any) -> Any:
        self.began.set()
        assert self.let_through.wait(10)
        return approach.hold(self), None

    def close(self) -> None:
        self.closed.set()


@pytest.mark.anyio
async def test_a_connection_that_nobody_waits_for_any_more():
    """The thread that brings it closes it."""
    transport = Late()
    async with anyio.create_task_group() as group:
        group.start_soon(transport.open, None)
        await wait_until(transport.began.is_set, description="the thread connects")
        group.cancel_scope.cancel()
    assert not transport.closed.is_set()
    transport.let_through.set()
    await wait_until(transport.closed.is_set, description="the connection is closed")


@pytest.mark.parametrize("timeout", [None, 30])
def test_a_connection_that_is_closed_while_a_thread_begins_to_wait_for_it(timeout):
    """The thread ends, also where the next socket would have been given the number of this one."""
    for _ in range(500):
        here, there = socket.socketpair()
        blocking = BlockingSocket(here, Endpoint(client_handshake(b"key")))
        begins = threading.Event()

        def receive(blocking: BlockingSocket = blocking, begins: threading.Event = begins) -> None:
            begins.set()
            with contextlib.suppress(OSError, EOFError):
                blocking.receive(timeout)

        thread = threading.Thread(target=receive, daemon=True)
        thread.start()
        begins.wait()
        blocking.close()
        others = socket.socketpair()
        thread.join(5)
        stays = thread.is_alive()
        for sock in (there, *others):
            sock.close()
        assert not stays
