"""The stream transport, whose sockets an event loop watches."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import anyio.to_thread
import pytest

from aiomanager._ground.addresses import parse
from aiomanager._transport.stream import StreamTransport
from tests.support.hosts import KEY, serving
from tests.support.waiting import wait_until

pytestmark = pytest.mark.every_python


@pytest.fixture
def host(socket_path: str) -> Iterator[Any]:
    """A host in this process."""
    with serving(socket_path) as server:
        yield server


@pytest.mark.anyio
async def test_a_connection_that_another_thread_closes(host: Any):
    """The event loop is told, and lets go of the socket itself: none bears that another thread
    changes what it watches. The host hears of the end, and so does who listens."""
    connection: Any = await StreamTransport(parse(host.address), KEY, 5.0).open(None)
    lost: list[Exception] = []
    connection.listen(lambda messages: None, lost.append)
    stop = connection._stop_listening
    threads: list[int] = []

    def stopped() -> None:
        threads.append(threading.get_ident())
        stop()

    connection._stop_listening = stopped
    await anyio.to_thread.run_sync(connection.close)
    await wait_until(lambda: connection._socket.fileno() == -1, description="it is closed")
    await wait_until(lambda: not host._peers, description="the host has heard of it")
    assert set(threads) == {threading.get_ident()}
