"""Sides of other versions: each says which it is, at once, and the error names both.

Version 1 knew no hello: its hosts and clients are played here as they were.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import aiomanager
from aiomanager import ConfigurationError
from aiomanager._wire.endpoint import Endpoint
from aiomanager._wire.handshake import server_handshake
from aiomanager._wire.hello import FEATURES, VERSION, pack_hello, read_hello
from tests.support.hosts import KEY, authenticated, dial, script, serving
from tests.support.own_client import client
from tests.support.wire import OwnMessages

pytestmark = pytest.mark.every_python

_VERSION_1 = """
import sys
from multiprocessing import managers

class Server(managers.Server):
    public = [*managers.Server.public, "queues"]

    def queues(self, connection):
        return ["jobs"], 2**32

server = Server({}, sys.argv[1], b"a key of the tests, long enough", "pickle")
print("ready", flush=True)
server.serve_forever()
"""


@pytest.fixture
def host() -> Iterator[Any]:
    """A host of this version."""
    with serving() as server:
        yield server


@pytest.fixture
def host_of_version_1(socket_path: str) -> Iterator[str]:
    """What one answers who asks whether it is a host of ours."""
    with script(_VERSION_1, socket_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield socket_path
    Path(socket_path).unlink()  # which it leaves when it is killed


@pytest.mark.anyio
async def test_a_host_of_version_1(host_of_version_1: str, transport: Any):
    """The client does not take it for one of the standard library's."""
    began = time.monotonic()
    with pytest.raises(ConfigurationError, match=r"speaks version 1 .* this client version 2"):
        async with aiomanager.connect(host_of_version_1, KEY, transport=transport):
            pass
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "asked",
    [(None, "queues", (), {}), (None, "accept_connection", ("aiomanager-client:f00",), {})],
    ids=["looks", "connects"],
)
def test_a_client_of_version_1(host: Any, asked: tuple[Any, ...]):
    """It is told, whether it looks what there is or connects again."""
    with authenticated(host.address) as conn:
        conn.send(asked)
        kind, error = conn.recv()
    assert (kind, type(error)) == ("#ERROR", ConfigurationError)
    assert "speaks version 2" in str(error)
    assert "this client version 1" in str(error)
    assert len(host._clients) == 0


def test_a_client_of_a_later_version(host: Any, caplog: pytest.LogCaptureFixture):
    """It learns by the hello which version the host has, and is no client of it."""
    with dial(host.address) as sock:
        messages = OwnMessages(sock, KEY, "later", version=VERSION + 1)
        assert messages.hello["version"] == VERSION
        assert len(host._clients) == 0
    assert f"speaks version {VERSION + 1}, this host {VERSION}" in caplog.text


@pytest.mark.anyio
async def test_a_host_of_a_later_version(later_host: tuple[str, int], transport: Any):
    """The client says so; it has sent no request."""
    with pytest.raises(ConfigurationError, match=r"speaks version 3 .* this client version 2"):
        async with aiomanager.connect(later_host, KEY, transport=transport):
            pass


@pytest.fixture
def later_host() -> Iterator[tuple[str, int]]:
    """A host that says hello as one of the version after this."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                with sock:
                    end = Endpoint(server_handshake(KEY))
                    while (message := end.next()) is None:
                        sock.sendall(b"".join(end.to_send()))
                        assert end.read(sock)
                    said = {**read_hello(message), "version": VERSION + 1}
                    sock.sendall(b"".join(end.pack(pack_hello(**said))))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=serve)
        serving.start()
        yield listener.getsockname()
        listener.shutdown(socket.SHUT_RDWR)
        serving.join(10)


def test_each_side_says_what_it_has(host: Any):
    """The version, the features and the limits; what there is, where it was asked for."""
    with client(host, names=True) as one:
        hello = dict(one.hello)
    assert hello["version"] == VERSION
    assert hello["features"] == list(FEATURES)
    assert hello["limits"] == {"message": host.settings.message_limit}
    assert hello["queues"] == ["jobs", "small"]
    with client(host) as one:
        assert "queues" not in one.hello
