"""Addresses as users write them."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from ._errors import ConfigurationError

AddressLike = str | os.PathLike[str] | tuple[str, int]
"""An address as users write it."""

_FORMS = (
    "a (host, port) pair, a socket path, tcp://host:port, unix:///path, memory:// or memory://name"
)


@dataclass(frozen=True)
class Address:
    """Where a host is.

    Attributes:
        kind: how to get there.
        value: what `BaseManager` takes (a pair or a path); the name for `memory`.
    """

    kind: Literal["tcp", "unix", "pipe", "memory"]
    value: Any

    def __str__(self) -> str:
        if self.kind == "tcp":
            host, port = self.value
            return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"
        return f"{self.kind}://{quoted(self.value)}"


def quoted(path: str) -> str:
    """A path as a URL has it: `parse` reads %25 as a percent sign."""
    return path.replace("%", "%25")


def parse(address: AddressLike, *, listening: bool = False) -> Address:
    """Read an address in any of its forms. To listen on, port 0 is good: any free one.

    Raises:
        ConfigurationError: it is none of them.
    """
    given: Any = address  # users write what they like
    if isinstance(given, (tuple, list)):
        if len(given) != 2 or not isinstance(given[0], str):
            raise _unknown(given)
        return _tcp(given[0], given[1], given, listening)
    if not isinstance(given, (str, bytes, os.PathLike)) or not given:
        raise _unknown(given)
    return _parse_text(os.fsdecode(given), listening)


def _parse_text(address: str, listening: bool) -> Address:
    if address.startswith("\\\\"):
        return Address("pipe", address)
    if "://" not in address:
        return _unix(address, address)
    scheme, _, rest = address.partition("://")
    if scheme == "unix":
        return _unix(unquote(rest), address)
    if scheme == "memory":
        return Address("memory", unquote(rest))
    if scheme == "tcp":
        try:
            parts = urlsplit(address)
            host = parts.hostname
        except ValueError as exc:
            raise _unknown(address) from exc
        try:
            port = parts.port
        except ValueError:
            port = None
        if parts.username or parts.path not in ("", "/") or parts.query:
            raise _unknown(address)
        return _tcp(host, port, address, listening)
    if scheme in ("redis", "valkey"):
        raise ConfigurationError(
            f"{address!r}: this version has no engine for Valkey and Redis; use {_FORMS}"
        )
    raise _unknown(address)


def _unix(path: str, address: object) -> Address:
    # The system would take a path to end at a NUL, and find another socket. Abstract names, which
    # begin with one, may have more of them.
    if not path or ("\0" in path and path[0] != "\0"):
        raise _unknown(address)
    if sys.platform == "win32":
        raise ConfigurationError(f"{address!r}: Python has no unix sockets on Windows; use tcp://")
    return Address("unix", path)


def _tcp(host: str | None, port: Any, address: object, listening: bool) -> Address:
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port < 65536:
        raise ConfigurationError(f"{address!r} has no port from 1 to 65535")
    if not port and not listening:
        raise ConfigurationError(f"{address!r}: port 0 is for hosts, which take any free one")
    if "\0" in (host or ""):
        raise _unknown(address)
    # An empty host is every interface to a host, as in the standard library.
    everywhere = "0.0.0.0"  # noqa: S104 - a host says so in its log
    return Address("tcp", (host or (everywhere if listening else "127.0.0.1"), port))


def _unknown(address: object) -> ConfigurationError:
    return ConfigurationError(f"{address!r} is no address; write {_FORMS}")
