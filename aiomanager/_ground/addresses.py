"""Addresses as users write them."""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from .errors import ConfigurationError

AddressLike = str | bytes | os.PathLike[str] | tuple[str, int]
"""An address as users write it."""

ServerAddress = tuple[str, int] | str
"""Where a server listens, as `BaseManager` has it: a pair, or a path."""

_FORMS = (
    "a (host, port) pair, a socket path, tcp://host:port, unix:///path, memory:// or memory://name"
)

KNOWN_SCHEMES = frozenset({"tcp", "unix", "pipe", "memory"})
# What `engines/registry` has engines for beside these.
OTHER_SCHEMES: set[str] = set()

_HOST_AND_PORT = re.compile(r"(?P<host>[^:]*|\[[^\[\]]*\]):(?P<port>[0-9]+)")
_SEPARATOR = re.compile(r"[/\\]")
# What a URL must not have as it is: `parse` reads `%25` as a percent sign, and no message and no
# command line can hold the NUL with which an abstract name begins, or bytes that are no text.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f%\udc80-\udcff]")


@dataclass(frozen=True)
class Address:
    """Where a host is.

    Attributes:
        kind: how to get there: tcp, unix, pipe, memory, or the scheme of another engine.
        value: what `BaseManager` takes (a pair, a path, or an abstract name behind a NUL); the name
            for `memory`; for another engine the URL as it is, which that reads.
    """

    kind: str
    value: Any

    def __str__(self) -> str:
        if self.kind in ("tcp", "unix"):
            return url_of(self.value)
        if self.kind not in KNOWN_SCHEMES:
            return str(self.value)
        return f"{self.kind}://{quoted(self.value)}"


def url_of(address: ServerAddress) -> str:
    """Where a server listens, as a URL, for messages and command lines."""
    if isinstance(address, str):
        return f"unix://{quoted(address)}"
    host, port = address[:2]
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def quoted(path: str) -> str:
    """A path as a URL has it, from which `parse` reads it; an abstract name begins with `%00`."""
    return _UNPRINTABLE.sub(lambda match: f"%{ord(match[0]) & 0xFF:02X}", path)


def parse(address: AddressLike, *, listening: bool = False) -> Address:
    """Read an address in any of its forms. To listen on, port 0 is good: any free one.

    Text without a slash that looks like a host and a port is that, whatever files there are: a
    socket of that name is `./localhost:50000`, or a `Path`, which is always a path.

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
    if isinstance(given, os.PathLike):
        return _parse_path(os.fsdecode(given), given)
    return _parse_text(os.fsdecode(given), listening)


def is_abstract(path: str) -> bool:
    """Whether it is a name that is in no file system, on Linux."""
    return path.startswith("\0")


def _parse_text(address: str, listening: bool) -> Address:
    if address.startswith("\0") or "://" not in address:
        return _parse_plain(address, listening)
    scheme, _, rest = address.partition("://")
    if scheme == "unix":
        return _unix(unquote(rest, errors="surrogateescape"), address)
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
    if scheme in OTHER_SCHEMES:
        return Address(scheme, address)
    if scheme in ("redis", "valkey"):
        raise ConfigurationError(
            f"{address!r}: this version has no engine for Valkey and Redis; use {_FORMS}"
        )
    raise _unknown(address)


def _parse_path(path: str, address: object) -> Address:
    return Address("pipe", path) if path.startswith("\\\\") else _unix(path, address)


def _parse_plain(text: str, listening: bool) -> Address:
    """Text without a scheme."""
    if text.startswith("\0") or _SEPARATOR.search(text):
        return _parse_path(text, text)
    match = _HOST_AND_PORT.fullmatch(text)
    if match is not None:
        return _tcp(match["host"].strip("[]"), int(match["port"]), text, listening)
    if ":" in text:
        raise ConfigurationError(
            f"{text!r} is no address: after the colon comes the number of a port, and a host that "
            f"has colons of its own stands in brackets (for a socket of that name: ./{text})"
        )
    if _is_host(text):
        raise ConfigurationError(f"{text!r} has no port: write {text}:50000, with its number")
    return _unix(text, text)


def _is_host(text: str) -> bool:
    try:
        return text == "localhost" or bool(ipaddress.IPv4Address(text))
    except ValueError:
        return False


def _unix(path: str, address: object) -> Address:
    if not path:
        raise _unknown(address)
    # The system would take a path to end at a NUL, and find another socket. Abstract names, which
    # begin with one, may have more of them.
    if "\0" in path:
        if not is_abstract(path):
            raise ConfigurationError(f"{address!r} is no address: no path has a NUL in it")
        if sys.platform != "linux":
            raise ConfigurationError(f"{address!r}: abstract names are there on Linux alone")
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
