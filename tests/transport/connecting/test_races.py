"""A host with several addresses, of which some are not good."""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

import aiomanager
from aiomanager import AuthenticationError, ConnectionLostError
from aiomanager._transport.approach import Place
from aiomanager._transport.connecting import interleaved
from tests.support.hosts import KEY
from tests.support.waiting import wait_until, while_busy
from tests.transport.connecting import rogues
from tests.transport.connecting.rogues import BlackHole, Rogue

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform != "linux", reason="only 127.0.0.1 is to be had"),
]


@pytest.fixture
def port(host: Any) -> int:
    """The host's port at 127.0.0.1."""
    return int(host.address[1])


@pytest.fixture
def hole(port: int) -> Iterator[str]:
    """An address with the host's port that swallows packets."""
    with BlackHole("127.0.0.2", port):
        yield "127.0.0.2"


async def test_an_address_that_swallows_packets(transport: Any, names: Any, port: int, hole: str):
    """It costs a quarter of a second, and that once."""
    names["several"] = [hole, "127.0.0.1"]
    way = transport(("several", port))
    for longest in (1.0, 0.2):
        began = time.monotonic()
        connection = await way.open("somebody")
        connection.close()
        assert time.monotonic() - began < while_busy(longest)


async def test_connect_by_a_name_with_a_bad_address(
    transport_name: Any, names: Any, port: int, hole: str
):
    """A program notices nothing."""
    names["several"] = [hole, "127.0.0.1"]
    async with aiomanager.connect(("several", port), KEY, transport=transport_name) as manager:
        await manager.queue("jobs").put(1)
        assert await manager.queue("jobs").get() == 1


async def test_there_is_time_for_each_address(transport: Any, names: Any, port: int):
    """However many there are before the good one, and however short the time."""
    bad = [f"127.0.0.{number}" for number in range(2, 8)]
    with contextlib.ExitStack() as stack:
        for ip in bad:
            stack.enter_context(BlackHole(ip, port))
        names["several"] = [*bad, "127.0.0.1"]
        connection = await transport(("several", port), 2.0).open("somebody")
        connection.close()


async def test_addresses_that_refuse(transport: Any, names: Any, port: int):
    """The next one is tried at once."""
    names["several"] = ["127.0.0.3", "127.0.0.4", "127.0.0.1"]
    began = time.monotonic()
    connection = await transport(("several", port)).open("somebody")
    connection.close()
    assert time.monotonic() - began < while_busy(0.2)


async def test_all_refuse(transport: Any, names: Any, port: int):
    """The error comes at once and names each of them."""
    names["several"] = ["127.0.0.3", "127.0.0.4"]
    began = time.monotonic()
    with pytest.raises(ConnectionLostError, match="no host at") as caught:
        await transport(("several", port)).open("somebody")
    assert "(127.0.0.3: Connection refused; 127.0.0.4: Connection refused)" in str(caught.value)
    assert time.monotonic() - began < while_busy(0.5)


async def test_one_refuses_and_one_swallows(transport: Any, names: Any, port: int, hole: str):
    """The whole time is used, and the error names both."""
    names["several"] = [hole, "127.0.0.3"]
    began = time.monotonic()
    with pytest.raises(ConnectionLostError, match="no host answered") as caught:
        await transport(("several", port), 0.5).open("somebody")
    assert "(127.0.0.2: no answer; 127.0.0.3: Connection refused)" in str(caught.value)
    assert 0.4 < time.monotonic() - began < while_busy(1.0)


@pytest.mark.parametrize(
    "kind",
    [rogues.HangsUp, rogues.Silent, rogues.SpeaksHTTP, rogues.HasAnotherKey],
    ids=lambda kind: kind.__name__,
)
async def test_an_address_at_which_is_somebody_else(
    transport: Any, names: Any, port: int, kind: type[Rogue]
):
    """A proxy, a web server: what connects first and is no host keeps nobody from the host."""
    with kind("127.0.0.2", port) as rogue:
        names["several"] = ["127.0.0.2", "127.0.0.1"]
        connection = await transport(("several", port), 2.0).open("somebody")
        connection.close()
        rogue.all_gone()
        assert rogue.met == 1


async def test_another_key_at_one_and_nobody_at_the_other(transport: Any, names: Any, port: int):
    """What says most is raised."""
    with rogues.HasAnotherKey("127.0.0.2", port):
        names["several"] = ["127.0.0.2", "127.0.0.3"]
        with pytest.raises(AuthenticationError, match="another authkey"):
            await transport(("several", port)).open("somebody")


async def test_the_others_are_closed(transport: Any, names: Any, port: int):
    """Whoever connects second was for nothing, and hears so."""
    with rogues.Silent("127.0.0.2", port) as first, rogues.Silent("127.0.0.3", port) as second:
        names["several"] = ["127.0.0.2", "127.0.0.3"]
        with pytest.raises(ConnectionLostError, match="no host answered"):
            await transport(("several", port), 0.5).open("somebody")
        assert first.met
        assert second.met
        first.all_gone()
        second.all_gone()


async def test_cancelled_in_the_race(transport: Any, names: Any, port: int, hole: str):
    """It leaves at once; all that was begun is closed, which the fixture looks at."""
    with BlackHole("127.0.0.3", port):
        names["several"] = [hole, "127.0.0.3"]
        began = time.monotonic()
        with anyio.move_on_after(0.4) as scope:
            await transport(("several", port), 30).open("somebody")
        assert scope.cancelled_caught
        assert time.monotonic() - began < while_busy(1.0)


async def test_cancelled_in_the_handshake(transport: Any):
    """The connection is closed soon, and not when its deadline is over."""
    with rogues.Silent() as rogue:
        way = transport(rogue.address, 100)
        async with anyio.create_task_group() as group:
            group.start_soon(way.open, "somebody")
            await wait_until(lambda: rogue.met, description="it has connected")
            group.cancel_scope.cancel()
        rogue.all_gone()


def test_families_take_turns():
    """The system's order holds within each, and it says which begins."""
    (a, b, c), (x, y) = (
        [Place(family, (name, 1)) for name in names]
        for family, names in ((socket.AF_INET6, "abc"), (socket.AF_INET, "xy"))
    )
    assert interleaved([a, b, c, x, y]) == [a, x, b, y, c]
    assert interleaved([x, y, a, x]) == [x, a, y]


async def test_a_socket_that_connects_to_itself(transport: Any, monkeypatch: pytest.MonkeyPatch):
    """Where nobody listens, the system may give a socket the very port that it is to connect to:
    that is no host, and would keep one from listening there."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    real = socket.socket.connect_ex

    def from_that_port(sock: socket.socket, where: Any) -> int:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))
        return real(sock, where)

    monkeypatch.setattr(socket.socket, "connect_ex", from_that_port)
    with pytest.raises(ConnectionLostError, match="refused"):
        await transport(("127.0.0.1", port)).open("somebody")
