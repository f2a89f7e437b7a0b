"""Addresses as they are typed in a shell: `localhost:50000` is one, too."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from urllib.parse import quote

from ._running import CommandError

# As a server has it, and as `BaseManager` takes it.
ServerAddress = tuple[str, int] | str

_HOST_AND_PORT = re.compile(r"(?P<host>[^/:\\]*|\[[0-9a-fA-F:.]+\]):(?P<port>\d+)")
_SEPARATOR = re.compile(r"[/\\]")

# What a socket's path may have on every system; Linux takes four more.
_PATH_LIMIT = 103

# Where a host listens on all interfaces: recognised here, never chosen.
_EVERY_INTERFACE = ("0.0.0.0", "::")  # noqa: S104


def typed(text: str) -> str:
    """What `connect` and `QueueManager` take: `host:port` as a URL, everything else as it is."""
    if text.startswith("memory:"):
        raise CommandError(
            "memory:// is inside one process; between processes, start a host with: "
            "aiomanager serve"
        )
    match = _HOST_AND_PORT.fullmatch(text)
    if match is not None:
        return f"tcp://{match['host'] or '127.0.0.1'}:{match['port']}"
    if ":" in text and not _SEPARATOR.search(text):
        raise CommandError(
            f"{text!r} is no address: after the colon comes the number of a port "
            f"(for a socket of that name: ./{text})"
        )
    return text


def of_server(address: ServerAddress) -> str:
    """Where a server listens, as a URL that is good in every folder."""
    if not isinstance(address, tuple):
        if address.startswith("\0"):  # a name that is in no folder
            return f"unix://{quote(address)}"
        absolute = str(Path(address).absolute())
        fits = len(os.fsencode(absolute)) <= _PATH_LIMIT
        return f"unix://{quote(absolute if fits else address)}"
    host, port = address
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def from_elsewhere(address: ServerAddress) -> str:
    """The URL for a client that may be on another machine."""
    if isinstance(address, tuple) and address[0] in _EVERY_INTERFACE:
        return f"tcp://{socket.gethostname()}:{address[1]}"
    return of_server(address)
