"""The handshake: both sides prove that they know the authkey, in the dialects of Python up to 3.11
(MD5) and from 3.12 on (a digest named in braces). The protocol is described in a comment of
CPython's multiprocessing/connection.py."""

from __future__ import annotations

import hmac
import os
from collections.abc import Generator

from .._ground.errors import AuthenticationError
from .framing import Buffer

HANDSHAKE_LIMIT = 256  # what the standard library reads at most before it trusts a peer

# A handshake yields bytes to send, or None to be sent the next message.
Handshake = Generator[bytes | None, Buffer, None]

_CHALLENGE = b"#CHALLENGE#"
_WELCOME = b"#WELCOME#"
_FAILURE = b"#FAILURE#"
_DIGESTS = ("md5", "sha256", "sha384", "sha3_256", "sha3_384")
_OLD_CHALLENGE_SIZE = 20  # a challenge of this length comes from Python 3.11 or older: MD5
_MD5_SIZE = 16


def client_handshake(authkey: bytes) -> Handshake:
    """The side that connected: answer a challenge, then deliver one."""
    yield from _answer(authkey)
    yield from _deliver(authkey)


def server_handshake(authkey: bytes) -> Handshake:
    """The side that accepted: deliver a challenge, then answer one."""
    yield from _deliver(authkey)
    yield from _answer(authkey)


def _deliver(authkey: bytes) -> Handshake:
    challenge = b"{sha256}" + os.urandom(40)
    yield _CHALLENGE + challenge
    response = bytes((yield None))
    try:
        _verify(authkey, challenge, response)
    except AuthenticationError:
        yield _FAILURE
        raise
    yield _WELCOME


def _verify(authkey: bytes, challenge: bytes, response: bytes) -> None:
    # A response of a bare MD5's length is what Python 3.11 and older send.
    digest, mac = ("md5", response) if len(response) == _MD5_SIZE else _digest_of(response)
    if not hmac.compare_digest(_mac(authkey, challenge, digest), mac):
        raise AuthenticationError("the peer does not have this side's authkey")


def _answer(authkey: bytes) -> Handshake:
    message = bytes((yield None))
    if not message.startswith(_CHALLENGE):
        raise AuthenticationError("the peer does not speak the protocol of multiprocessing")
    challenge = message[len(_CHALLENGE) :]
    if len(challenge) == _OLD_CHALLENGE_SIZE:
        yield _mac(authkey, challenge, "md5")
    else:
        digest, _ = _digest_of(challenge)
        yield b"{%s}%s" % (digest.encode(), _mac(authkey, challenge, digest))
    if bytes((yield None)) != _WELCOME:
        raise AuthenticationError("the peer refused this side's authkey")


def _digest_of(message: bytes) -> tuple[str, bytes]:
    name, brace, rest = message[1:].partition(b"}")
    digest = name.decode("ascii", "replace")
    if not message.startswith(b"{") or not brace or digest not in _DIGESTS:
        raise AuthenticationError("the peer asks for a digest that multiprocessing does not use")
    return digest, rest


def _mac(authkey: bytes, challenge: bytes, digest: str) -> bytes:
    try:
        return hmac.digest(authkey, challenge, digest)
    except ValueError as exc:
        raise AuthenticationError(
            f"the peer's Python can only authenticate by {digest}, which this Python was built "
            "without; use Python 3.12 or later on both sides"
        ) from exc
