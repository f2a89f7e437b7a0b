"""Addresses as users write them."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from ._errors import ConfigurationError

AddressLike = str | os.PathLike[str] | tuple[str, int]

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
        return f"{self.kind}://{self.value}"


def parse(address: AddressLike) -> Address:
    """Read an address in any of its forms.

    Raises:
        ConfigurationError: it is none of them.
    """
    if isinstance(address, os.PathLike):
        address = os.fspath(address)
    if isinstance(address, (tuple, list)):
        if len(address) != 2 or not isinstance(address[0], str):
            raise _unknown(address)
        return Address("tcp", (address[0] or "127.0.0.1", _port(address[1], address)))
    if isinstance(address, bytes):
        address = os.fsdecode(address)
    if not isinstance(address, str) or not address:
        raise _unknown(address)
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
            host, port = parts.hostname, parts.port
        except ValueError as exc:
            raise _unknown(address) from exc
        if parts.username or parts.path not in ("", "/") or parts.query:
            raise _unknown(address)
        return Address("tcp", (host or "127.0.0.1", _port(port, address)))
    if scheme in ("redis", "valkey"):
        raise ConfigurationError(
            f"{address!r}: this version has no engine for Valkey and Redis; use {_FORMS}"
        )
    raise _unknown(address)


def _unix(path: str, address: object) -> Address:
    if not path:
        raise _unknown(address)
    if sys.platform == "win32":
        raise ConfigurationError(f"{address!r}: Python has no unix sockets on Windows; use tcp://")
    return Address("unix", path)


def _port(port: Any, address: object) -> int:
    if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65536:
        raise ConfigurationError(f"{address!r} has no port from 1 to 65535")
    return port


def _unknown(address: object) -> ConfigurationError:
    return ConfigurationError(f"{address!r} is no address; write {_FORMS}")
