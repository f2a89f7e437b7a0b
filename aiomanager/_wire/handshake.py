"""The handshake: both sides prove that they know the authkey.

With a peer of the standard library it is the standard library's, in the dialects of Python up to
3.11 (MD5) and from 3.12 on (a digest named in braces); a comment of CPython's
multiprocessing/connection.py describes it. It proves that somebody who has the key has answered,
and not that he is at the other end: whoever stands in between may pass challenges and answers on,
and keep the connection.

Between two sides of aiomanager it proves more. A challenge of ours names the role of who made it,
and the answer to it, which the standard library would not give, is also about the role of who
gives it. So

* an answer serves for nothing but what it was given for: not for a peer of the standard library's,
  not back to the side that it came from, and no client answers what another client has asked;
* both sides know what the other is, and nobody in between can make one of them take the other for
  a peer of the standard library's;
* both have a key for each direction of this session, from the authkey and both challenges, which
  seals what comes after (`seals`), unless both find that nobody can stand in between.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Generator, Sequence
from dataclasses import dataclass

from .._ground.buffers import Buffer
from .._ground.errors import AuthenticationError
from .seals import Seal

HANDSHAKE_LIMIT = 256  # what the standard library reads at most before it trusts a peer

_CHALLENGE = b"#CHALLENGE#"
_WELCOME = b"#WELCOME#"
_FAILURE = b"#FAILURE#"
_DIGESTS = ("md5", "sha256", "sha384", "sha3_256", "sha3_384")
_OLD_CHALLENGE_SIZE = 20  # a challenge of this length comes from Python 3.11 or older: MD5
_MD5_SIZE = 16

# How a challenge of ours begins. Its digest is named as Python 3.12 does it, and to peers of the
# standard library the rest is as good as any other.
_OURS = b"{sha256}aiomanager "
_SEALED, _OPEN = b"seal=1 ", b"seal=0 "
CLIENT, HOST = b"client", b"host"


class RelayedError(AuthenticationError):
    """What came was made for somebody else: the peer passes on what it was sent."""


@dataclass(frozen=True)
class Greeted:
    """What a handshake has shown.

    Attributes:
        ours: whether the peer is a side of aiomanager.
        sending, receiving: what seals the messages to it and those from it, where they are sealed.
    """

    ours: bool
    sending: Seal | None = None
    receiving: Seal | None = None


# A handshake yields bytes to send, or None to be sent the next message.
Handshake = Generator[bytes | None, Buffer, Greeted]


def client_handshake(authkey: bytes, *, sealed: bool = True) -> Handshake:
    """The side that connected: answer a challenge, then deliver one.

    Args:
        sealed: whether somebody could stand in between. What comes after is sealed where either
            side says so.
    """
    theirs = yield from _challenged()
    role = _role_of(theirs)
    if role not in (None, HOST):
        raise RelayedError("it asks what only another client asks, and passes on what it is told")
    ours = _new_challenge(CLIENT, sealed)
    if role is None:
        yield _answer(authkey, theirs)
    else:
        yield _mac_in_braces(authkey, theirs, CLIENT)
    yield from _welcomed()
    yield from _deliver(authkey, ours, [_NOT_OURS if role is None else HOST], theirs)
    if role is None:
        return Greeted(ours=False)
    return _session(authkey, host=theirs, client=ours, role=CLIENT)


def server_handshake(authkey: bytes, *, sealed: bool = True) -> Handshake:
    """The side that accepted: deliver a challenge, then answer one. Arguments as above."""
    ours = _new_challenge(HOST, sealed)
    answered = yield from _deliver(authkey, ours, [CLIENT, _NOT_OURS])
    theirs = yield from _challenged()
    if (_role_of(theirs) == CLIENT) is not (answered == CLIENT):
        raise RelayedError("it asks what another client asks it, and passes on what it is told")
    if answered == _NOT_OURS:
        yield _answer(authkey, theirs)
        yield from _welcomed()
        return Greeted(ours=False)
    yield _mac_in_braces(authkey, theirs, HOST, ours)
    yield from _welcomed()
    return _session(authkey, host=ours, client=theirs, role=HOST)


_NOT_OURS = b""  # the role of a peer of the standard library's


def _new_challenge(role: bytes, sealed: bool) -> bytes:
    return b"".join((_OURS, role, b" ", _SEALED if sealed else _OPEN, os.urandom(32)))


def _role_of(challenge: bytes) -> bytes | None:
    """The role of who made a challenge; None where it is none of ours."""
    if not challenge.startswith(_OURS):
        return None
    return challenge[len(_OURS) :].partition(b" ")[0]


def _wants_seals(challenge: bytes, role: bytes) -> bool:
    """Whether who made a challenge of ours has what comes after it sealed."""
    return not challenge[len(_OURS) + len(role) + 1 :].startswith(_OPEN)


def _session(authkey: bytes, *, host: bytes, client: bytes, role: bytes) -> Greeted:
    if not (_wants_seals(host, HOST) or _wants_seals(client, CLIENT)):
        return Greeted(ours=True)
    from_host, from_client = (
        Seal(hmac.digest(authkey, b"\0".join((b"session", sender, host, client)), "sha256"))
        for sender in (HOST, CLIENT)
    )
    if role == HOST:
        return Greeted(ours=True, sending=from_host, receiving=from_client)
    return Greeted(ours=True, sending=from_client, receiving=from_host)


def _challenged() -> Generator[bytes | None, Buffer, bytes]:
    message = bytes((yield None))
    if not message.startswith(_CHALLENGE):
        raise AuthenticationError("the peer does not speak the protocol of multiprocessing")
    return message[len(_CHALLENGE) :]


def _welcomed() -> Generator[bytes | None, Buffer, None]:
    if bytes((yield None)) != _WELCOME:
        raise AuthenticationError("the peer refused this side's authkey")


def _deliver(
    authkey: bytes, challenge: bytes, roles: Sequence[bytes], beside: bytes = b""
) -> Generator[bytes | None, Buffer, bytes]:
    """Deliver a challenge, and return which of these roles has answered it."""
    yield _CHALLENGE + challenge
    response = bytes((yield None))
    try:
        role = _verify(authkey, challenge, response, roles, beside)
    except AuthenticationError:
        yield _FAILURE
        raise
    yield _WELCOME
    return role


def _verify(
    authkey: bytes, challenge: bytes, response: bytes, roles: Sequence[bytes], beside: bytes
) -> bytes:
    # A response of a bare MD5's length is what Python 3.11 and older send.
    digest, mac = ("md5", response) if len(response) == _MD5_SIZE else _digest_of(response)
    for role in roles:
        if role == _NOT_OURS:
            expected = _mac(authkey, challenge, digest)
        elif digest == "sha256":
            expected = _mac(authkey, _answered_as(challenge, role, beside), digest)
        else:
            continue
        if hmac.compare_digest(expected, mac):
            return role
    raise AuthenticationError("the peer does not have this side's authkey")


def _mac_in_braces(authkey: bytes, challenge: bytes, role: bytes, beside: bytes = b"") -> bytes:
    """The answer of one side of ours to the other.

    Args:
        role: of who answers.
        beside: the challenge that this side has made, where the other knows it already.
    """
    return b"{sha256}" + _mac(authkey, _answered_as(challenge, role, beside), "sha256")


def _answered_as(challenge: bytes, role: bytes, beside: bytes) -> bytes:
    return b"\0".join((b"answer", role, challenge, beside))


def _answer(authkey: bytes, challenge: bytes) -> bytes:
    """The answer to a challenge of a peer of the standard library's."""
    if len(challenge) == _OLD_CHALLENGE_SIZE:
        return _mac(authkey, challenge, "md5")
    digest, _ = _digest_of(challenge)
    return b"{%s}%s" % (digest.encode(), _mac(authkey, challenge, digest))


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
