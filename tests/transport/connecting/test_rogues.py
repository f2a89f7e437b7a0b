"""Whatever answers instead of a host: an error of ours within the deadline, and nothing is kept."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

import aiomanager
from aiomanager import AuthenticationError, ConnectionLostError
from aiomanager._transport import connecting
from aiomanager._transport.base import call_function
from tests.support.hosts import KEY
from tests.support.waiting import while_busy
from tests.transport.connecting import rogues
from tests.transport.connecting.rogues import Rogue

pytestmark = [pytest.mark.anyio, pytest.mark.every_python]

TIMEOUT = 0.4
LATE = 0.6  # seconds that a busy machine may add

NO_HOSTS = {
    rogues.Silent: "no host answered",
    rogues.HangsUpOnTheIntroduction: "it closed the connection",
    rogues.Resets: "it closed the connection",
    rogues.Drips: "no host answered",
    rogues.DripsItsAcceptance: "no host answered",
    rogues.Floods: "the limit here is 256",
    rogues.AnnouncesMuch: "the limit here is 256",
    rogues.AnnouncesABitTooMuch: "the limit here is 256",
    rogues.HalfAHeader: "no host answered",
    rogues.NegativeLength: "another protocol",
    rogues.SpeaksHTTP: "the limit here is 256",
    rogues.RefusesAccess: "no room",
    rogues.AnswersGarbage: "no host at",
}
STRANGERS = [
    rogues.FloodsWithMessages,
    rogues.UnknownDigest,
    rogues.NoChallenge,
    rogues.WelcomesNobody,
    rogues.WelcomesEverybody,
    rogues.HasAnotherKey,
]


@contextmanager
def within(seconds: float, error: type[Exception], match: str) -> Iterator[None]:
    """The block raises this error, no later than this."""
    began = time.monotonic()
    with pytest.raises(error, match=match) as caught:
        yield
    assert time.monotonic() - began < while_busy(seconds + LATE)
    assert type(caught.value) is error


@pytest.mark.parametrize("kind, match", NO_HOSTS.items(), ids=[k.__name__ for k in NO_HOSTS])
async def test_what_is_no_host(transport: Any, kind: type[Rogue], match: str):
    """The error says what it did; its connections are closed, however often it was tried."""
    with kind() as rogue:
        with within(TIMEOUT, ConnectionLostError, match):
            await transport(rogue.address, TIMEOUT).open("somebody")
        rogue.all_gone()


async def test_who_resets_at_the_very_moment_of_connecting(
    transport: Any, monkeypatch: pytest.MonkeyPatch
):
    """It is told from a host that is not there, though the system has another word for it."""
    made = connecting._made

    def made_late(sock: socket.socket, _: int) -> socket.socket:
        assert select.select([sock], [], [], 5)[0]
        return made(sock, 0)

    with rogues.Resets() as rogue:
        monkeypatch.setattr(connecting, "_made", made_late)
        with within(TIMEOUT, ConnectionLostError, "it closed the connection"):
            await transport(rogue.address, TIMEOUT).open("somebody")
        rogue.all_gone()


@pytest.mark.parametrize("steps", range(6))
async def test_one_who_hangs_up_at_any_step(transport: Any, steps: int):
    """There is no host, which is said at once."""
    with rogues.HangsUp() as rogue:
        rogue.steps = steps
        with within(0, ConnectionLostError, "it closed the connection"):
            await transport(rogue.address).open("somebody")
        rogue.all_gone()
        assert rogue.met == 1


@pytest.mark.parametrize("kind", STRANGERS, ids=lambda kind: kind.__name__)
async def test_who_does_not_have_the_key(transport: Any, kind: type[Rogue]):
    """He is refused at once, whatever he says."""
    with kind() as rogue:
        with within(0, AuthenticationError, "has another authkey"):
            await transport(rogue.address).open("somebody")
        rogue.all_gone()
        assert rogue.met == 1


@pytest.mark.parametrize("kind", [rogues.Floods, rogues.AnnouncesMuch], ids=lambda k: k.__name__)
async def test_who_does_not_have_the_key_fills_no_memory(transport: Any, kind: type[Rogue]):
    """Of what he sends nothing is kept, and hardly anything read."""
    before = psutil.Process().memory_info().rss
    with kind() as rogue:
        with pytest.raises(ConnectionLostError):
            await transport(rogue.address).open("somebody")
        rogue.all_gone()
    assert psutil.Process().memory_info().rss - before < 32 * 2**20


async def test_after_the_handshake_messages_may_be_long_and_their_time_is_short(transport: Any):
    """An answer has to begin and to end within its timeout, from a host that has the key too."""
    with rogues.TakesAllOfIt() as rogue:
        connection = await transport(rogue.address).open("somebody")
        with within(TIMEOUT, ConnectionLostError, "the host does not answer"):
            await connection.converse(call_function("queues"), TIMEOUT)
        connection.close()
        rogue.all_gone()


async def test_a_request_that_nobody_reads(transport: Any):
    """To send it takes no longer than the answer may."""
    with rogues.ReadsNothing() as rogue:
        connection = await transport(rogue.address).open("somebody")
        with within(TIMEOUT, ConnectionLostError, "the host does not answer"):
            await connection.converse(call_function("queues", b"x" * 2**26), TIMEOUT)
        connection.close()


async def test_connect_has_that_deadline(transport_name: Any):
    """It hands `connect_timeout` on, and raises what the transport does."""
    with rogues.Drips() as rogue:
        with within(TIMEOUT, ConnectionLostError, "no host answered"):
            async with aiomanager.connect(
                rogue.address, KEY, transport=transport_name, connect_timeout=TIMEOUT
            ):
                pass
        rogue.all_gone()
