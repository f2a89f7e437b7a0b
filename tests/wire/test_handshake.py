"""The handshake of old and new Pythons."""

from __future__ import annotations

import hmac
import multiprocessing
from typing import Any

import pytest

from aiomanager._ground.errors import AuthenticationError
from aiomanager._wire.handshake import (
    HANDSHAKE_LIMIT,
    Handshake,
    client_handshake,
    server_handshake,
)
from tests.wire.peers import KEY, beside, stdlib

pytestmark = pytest.mark.every_python


def shake(handshake: Handshake, end: Any) -> None:
    """Carry a handshake out over a connection of the standard library."""
    try:
        step = next(handshake)
        while True:
            if step is None:
                step = handshake.send(end.recv_bytes(HANDSHAKE_LIMIT))
            else:
                end.send_bytes(step)
                step = next(handshake)
    except StopIteration:
        pass


def accept(end: Any, key: bytes) -> None:
    """What `multiprocessing.connection.Listener` does with a new connection."""
    stdlib.deliver_challenge(end, key)
    stdlib.answer_challenge(end, key)


def connect(end: Any, key: bytes) -> None:
    """What `multiprocessing.connection.Client` does with a new connection."""
    stdlib.answer_challenge(end, key)
    stdlib.deliver_challenge(end, key)


def test_our_client_with_the_standard_librarys_server():
    """Both prove that they have the key."""
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs, beside(accept, theirs, KEY) as raised:
        shake(client_handshake(KEY), ours)
    assert raised == []


def test_our_server_with_the_standard_librarys_client():
    """Both prove that they have the key."""
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs, beside(connect, theirs, KEY) as raised:
        shake(server_handshake(KEY), ours)
    assert raised == []


def test_our_client_with_our_server():
    """Both prove that they have the key."""
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs, beside(shake, server_handshake(KEY), theirs) as raised:
        shake(client_handshake(KEY), ours)
    assert raised == []


@pytest.mark.parametrize("key", [b"another key", b"", KEY + b"."])
def test_a_client_without_the_key_is_told_so(key: bytes):
    """The standard library's client sees the failure that it knows; our server gives the reason
    on its own side only."""
    ours, theirs = multiprocessing.Pipe()
    refusal = pytest.raises(AuthenticationError, match="does not have this side's authkey")
    with ours, theirs, beside(connect, theirs, key) as raised, refusal:
        shake(server_handshake(KEY), ours)
    assert [type(error) for error in raised] == [multiprocessing.AuthenticationError]


def test_a_server_without_the_key_is_refused():
    """Our client says what has happened."""
    ours, theirs = multiprocessing.Pipe()
    refusal = pytest.raises(AuthenticationError, match="refused this side's authkey")
    with ours, theirs, beside(accept, theirs, b"another key") as raised, refusal:
        shake(client_handshake(KEY), ours)
    assert [type(error) for error in raised] == [multiprocessing.AuthenticationError]


def old_mac(key: bytes, challenge: bytes) -> bytes:
    """How Python 3.11 and older answer whatever challenge."""
    return hmac.digest(key, challenge, "md5")


def test_a_client_of_an_old_python_answers_with_md5():
    """It takes the whole challenge, digest name and all, for random bytes."""
    handshake = server_handshake(KEY)
    challenge = next(handshake)
    assert challenge is not None
    assert next(handshake) is None
    assert handshake.send(old_mac(KEY, challenge.removeprefix(b"#CHALLENGE#"))) == b"#WELCOME#"
    assert next(handshake) is None
    answer = handshake.send(b"#CHALLENGE#" + b"c" * 20)
    assert answer == old_mac(KEY, b"c" * 20)


def test_a_server_of_an_old_python_gets_md5():
    """Its challenge is known by its length, and the answer has no digest name."""
    handshake = client_handshake(KEY)
    assert next(handshake) is None
    assert handshake.send(b"#CHALLENGE#" + b"c" * 20) == old_mac(KEY, b"c" * 20)


def test_md5_that_this_python_does_not_have(monkeypatch: pytest.MonkeyPatch):
    """The error says which side to update, and the peer still gets no more than the failure."""

    def digest(*args: object) -> bytes:
        raise ValueError("unsupported hash type")

    monkeypatch.setattr(hmac, "digest", digest)
    handshake = server_handshake(KEY)
    next(handshake)
    next(handshake)
    assert handshake.send(b"m" * 16) == b"#FAILURE#"
    with pytest.raises(AuthenticationError, match=r"can only authenticate by md5.*3\.12 or later"):
        next(handshake)


@pytest.mark.parametrize(
    "response", [b"", b"{sha256}", b"{crc32}1234", b"no braces at all", b"{" * 200, b"\xff" * 40]
)
def test_strange_responses_get_the_one_failure(response: bytes):
    """Whatever a stranger says, he reads the same ten bytes, and no traceback."""
    handshake = server_handshake(KEY)
    next(handshake)
    next(handshake)
    assert handshake.send(response) == b"#FAILURE#"
    with pytest.raises(AuthenticationError):
        next(handshake)


@pytest.mark.parametrize(
    "greeting", [b"", b"#WELCOME#", b"SSH-2.0-OpenSSH", b"#CHALLENGE#{crc32}x"]
)
def test_strange_servers_are_refused(greeting: bytes):
    """Our client answers no challenge but the protocol's."""
    handshake = client_handshake(KEY)
    next(handshake)
    with pytest.raises(AuthenticationError):
        handshake.send(greeting)


def test_challenges_are_not_repeated():
    """Each has 32 random bytes, so that an answer that was heard is of no use."""
    challenges = {next(server_handshake(KEY)) for _ in range(100)}
    assert len(challenges) == 100
    (length,) = {len(challenge or b"") for challenge in challenges}
    assert length == len(b"#CHALLENGE#{sha256}aiomanager host seal=1 ") + 32 < HANDSHAKE_LIMIT
