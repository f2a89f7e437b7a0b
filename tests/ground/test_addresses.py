"""Addresses: every form in which a user may write one, and what it leads to."""

from __future__ import annotations

import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import aiomanager
from aiomanager import ConfigurationError, ConnectionLostError, QueueManager
from aiomanager._ground.addresses import parse
from tests.support.hosts import KEY, serving

pytestmark = pytest.mark.every_python


@pytest.mark.parametrize(
    "written,kind,value",
    [
        (("localhost", 50000), "tcp", ("localhost", 50000)),
        (["localhost", 50000], "tcp", ("localhost", 50000)),
        (("", 50000), "tcp", ("127.0.0.1", 50000)),
        ("tcp://localhost:50000", "tcp", ("localhost", 50000)),
        ("tcp://localhost:50000/", "tcp", ("localhost", 50000)),
        ("tcp://[::1]:50000", "tcp", ("::1", 50000)),
        ("localhost:50000", "tcp", ("localhost", 50000)),
        ("10.0.0.5:50000", "tcp", ("10.0.0.5", 50000)),
        (b"example.com:80", "tcp", ("example.com", 80)),
        ("[::1]:50000", "tcp", ("::1", 50000)),
        (":50000", "tcp", ("127.0.0.1", 50000)),
        ("jobs.sock", "unix", "jobs.sock"),
        ("./localhost:50000", "unix", "./localhost:50000"),
        ("/run/jobs:1", "unix", "/run/jobs:1"),
        (Path("localhost:50000"), "unix", "localhost:50000"),
        ("unix://localhost:50000", "unix", "localhost:50000"),
        (b"/run/\xe4", "unix", "/run/\udce4"),
        ("/run/two\nlines", "unix", "/run/two\nlines"),
        ("\0jobs", "unix", "\0jobs"),
        (b"\0jobs", "unix", "\0jobs"),
        ("\0jobs://a:1\0", "unix", "\0jobs://a:1\0"),
        ("unix://\0jobs", "unix", "\0jobs"),
        ("unix://%00jobs", "unix", "\0jobs"),
        (Path("/run/jobs.sock"), "unix", "/run/jobs.sock"),
        (b"/run/jobs.sock", "unix", "/run/jobs.sock"),
        ("/run/50%41", "unix", "/run/50%41"),
        ("unix:///run/jobs.sock", "unix", "/run/jobs.sock"),
        ("unix:///run/50%2541", "unix", "/run/50%41"),
        ("unix:///run/my%20jobs", "unix", "/run/my jobs"),
        ("memory://", "memory", ""),
        ("memory://tests", "memory", "tests"),
    ],
    ids=str,
)
def test_each_form(written: Any, kind: str, value: Any):
    """And the URL of what was read leads there again."""
    address = parse(written)
    assert (address.kind, address.value) == (kind, value)
    assert parse(str(address)) == address
    assert str(address).isprintable()
    str(address).encode()


@pytest.mark.parametrize(
    "written,message",
    [
        ("", "'' is no address; write a"),
        (50000, "50000 is no address"),
        (("localhost",), "is no address"),
        ((1, "localhost"), "is no address"),
        ("unix://", "'unix://' is no address"),
        ("http://localhost:80", "'http://localhost:80' is no address"),
        ("tcp://[::1", r"'tcp://\[::1' is no address"),
        ("tcp://me@localhost:1", "is no address"),
        ("tcp://localhost:1/queue", "is no address"),
        ("tcp://localhost", "has no port from 1 to 65535"),
        ("tcp://localhost:many", "has no port from 1 to 65535"),
        ("tcp://localhost:65536", "has no port from 1 to 65535"),
        (("localhost", 65536), "has no port from 1 to 65535"),
        (("localhost", "80"), "has no port from 1 to 65535"),
        ("tcp://localhost:0", "port 0 is for hosts"),
        ("localhost:65536", "has no port from 1 to 65535"),
        ("localhost:0", "port 0 is for hosts"),
        (
            "localhost:http",
            r"'localhost:http' is no address: after the colon.*: ./localhost:http\)",
        ),
        ("jobs:1.sock", "for a socket of that name: ./jobs:1.sock"),
        ("::1:50000", "a host that has colons of its own stands in brackets"),
        ("localhost", "'localhost' has no port: write localhost:50000"),
        ("10.0.0.5", "'10.0.0.5' has no port"),
        ("jobs\0.sock", "no path has a NUL in it"),
        ("redis://localhost", "no engine for Valkey and Redis"),
    ],
    ids=str,
)
def test_what_is_no_address(written: Any, message: str):
    """The error says what one looks like, before anything is tried."""
    with pytest.raises(ConfigurationError, match=message):
        aiomanager.connect(written, KEY)


@pytest.fixture
def port() -> Iterator[int]:
    """Where a host listens, on loopback."""
    with serving(("127.0.0.1", 0)) as host:
        assert isinstance(host.address, tuple)
        yield host.address[1]


@pytest.fixture(params=["plain", "50%41", "zwei Wörter"])
def path(request: pytest.FixtureRequest, scratch: Path) -> Iterator[Path]:
    """Where a host listens, in a file system."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        path = Path(folder) / request.param
        with serving(str(path)):
            yield path


@pytest.mark.anyio
async def test_connect_by_each_form_of_a_port(port: int, transport: Any):
    """A pair, or a URL."""
    for address in (
        ("127.0.0.1", port),
        ("", port),
        f"tcp://localhost:{port}",
        f"localhost:{port}",
    ):
        async with aiomanager.connect(address, KEY, transport=transport) as manager:
            await manager.queue("jobs").put("an item")
            assert await manager.queue("jobs").get_nowait() == "an item"


@pytest.mark.anyio
async def test_connect_by_each_form_of_a_path(path: Path, transport: Any):
    """A str, a Path, or the URL that a manager has for others."""
    async with aiomanager.connect(path, KEY, transport=transport) as manager:
        url = manager.address
    for address in (str(path), url):
        async with aiomanager.connect(address, KEY, transport=transport) as manager:
            await manager.queue("jobs").put("an item")
            assert await manager.queue("jobs").get_nowait() == "an item"


@pytest.fixture
def ipv6_port() -> Iterator[int]:
    """Where a host listens, on the loopback of IPv6."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with serving(("::1", 0)) as host:
        assert isinstance(host.address, tuple)
        yield host.address[1]


@pytest.mark.anyio
async def test_connect_by_ipv6(ipv6_port: int, transport: Any):
    """In the brackets that URLs have for it."""
    async with aiomanager.connect(f"tcp://[::1]:{ipv6_port}", KEY, transport=transport) as manager:
        assert manager.address == f"tcp://[::1]:{ipv6_port}"
        assert await manager.queue("jobs").empty()


@pytest.mark.anyio
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has abstract names")
async def test_connect_by_an_abstract_name(socket_path: str, transport: Any):
    """As it is, or by the URL that a manager has for others, which any terminal can show; before a
    host is there that is said, or waited for."""
    name = "\0" + socket_path
    refusal = pytest.raises(ConnectionLostError, match=f"no host at unix://%00{socket_path}")
    with refusal:
        async with aiomanager.connect(name, KEY, transport=transport):
            pass
    async with anyio.create_task_group() as group:
        reached = anyio.Event()

        async def reach() -> None:
            async with aiomanager.connect(name, KEY, transport=transport, wait=20):
                reached.set()

        group.start_soon(reach)
        async with aiomanager.host({"jobs": 0}, address=name, authkey=KEY) as host:
            assert host.address == f"unix://%00{socket_path}"
            with anyio.fail_after(20):
                await reached.wait()
            async with aiomanager.connect(host.address, KEY, transport=transport) as manager:
                await manager.queue("jobs").put("an item")
                assert await host.queue("jobs").get() == "an item"


def test_a_host_listens_at_a_url(socket_path: str):
    """As anywhere; what clients of the standard library need is `address`, a pair or a path."""
    for url, address in (
        ("tcp://127.0.0.1:0", ("127.0.0.1", 0)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        (f"unix://{socket_path}", socket_path),
        (socket_path.encode(), socket_path),
        ("unix://%00jobs", "\0jobs"),
    ):
        assert QueueManager(url, KEY).address == address
    with pytest.raises(ConfigurationError, match="'http://localhost' is no address"):
        QueueManager("http://localhost", KEY)
    with pytest.raises(ConfigurationError, match="cannot listen on memory://"):
        QueueManager("memory://", KEY)
