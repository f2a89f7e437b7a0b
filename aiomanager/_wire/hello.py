"""The hello: what two sides of aiomanager tell each other before anything else.

Each says it with a dictionary, as JSON: the client first, then the host. That form is for all
versions, so that two which do not understand each other can say so. A feature is used where both
have it.

    client  version, features; a client of queues also says client (its name), run (of the host,
            where it was connected before) and returns_within (seconds for which it may come back);
            names is true where it wants to know what there is
    host    version, features, limits ({"message": bytes}), run, kept (seconds for which it
            remembers the client), and, where they were asked for, queues and objects (their names)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from .._ground.buffers import Buffer
from .._ground.errors import ConfigurationError

VERSION = 2
"""That of what is said after the hello. Version 1 knew no hello."""

FEATURES: Sequence[str] = ("headers", "declare")

# A client of version 1 gave its connection a name that begins like this.
OLD_CLIENT_PREFIX = "aiomanager-client:"

_MARK = b"\x03"  # no request begins with this byte, and no pickle

# Bytes of the hello of a client.
HELLO_LIMIT = 16 * 1024

Hello = Mapping[str, Any]


def pack_hello(**said: Any) -> list[Buffer]:
    """The hello of this side, with what it says beside its version and its features."""
    hello = {"version": VERSION, "features": list(FEATURES), **said}
    return [_MARK + json.dumps(hello, separators=(",", ":")).encode()]


def is_hello(message: Buffer) -> bool:
    """Whether a message begins as a hello does."""
    return message[:1] == _MARK


def read_hello(message: Buffer) -> Hello:
    """The hello of the other side; raises ValueError where it is none."""
    if not is_hello(message):
        raise ValueError("the other side did not say hello")
    try:
        loaded = json.loads(bytes(message[1:]))
    except RecursionError:
        raise ValueError("a hello is nested too deeply") from None
    hello = cast("dict[str, Any]", loaded)
    if not isinstance(loaded, dict) or type(hello.get("version")) is not int:
        raise ValueError("a hello is a dictionary with a version")
    return hello


def check_version(version: int, address: object) -> None:
    """Raise `ConfigurationError` where a host speaks another version than this client."""
    if version != VERSION:
        raise versions_differ(f"the host at {address}", version, VERSION)


def versions_differ(host: str, hosts: int, clients: int) -> ConfigurationError:
    """The error, for the client, of a host that does not understand it.

    Args:
        host: what the error calls it.
        hosts, clients: the versions of both.
    """
    return ConfigurationError(
        f"{host} speaks version {hosts} of aiomanager's protocol, and this client version "
        f"{clients}: install the same release of aiomanager on both sides"
    )


def features_of(hello: Hello) -> frozenset[str]:
    """What both sides have."""
    theirs = hello.get("features")
    return frozenset(FEATURES).intersection(theirs if isinstance(theirs, list) else ())
