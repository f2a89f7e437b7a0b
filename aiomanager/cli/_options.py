"""What every command that talks to a host is told: where it is, and what opens it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from aiomanager import AsyncManager, connect

from ._addresses import typed
from ._running import CommandError

ADDRESS_VARIABLE = "AIOMANAGER_ADDRESS"
AUTHKEY_VARIABLE = "AIOMANAGER_AUTHKEY"

_PANEL = "Connection"


class Transport(StrEnum):
    """How to talk to the host."""

    stream = "stream"
    thread = "thread"


AddressOption = Annotated[
    str,
    typer.Option(
        "--address",
        "-a",
        envvar=ADDRESS_VARIABLE,
        metavar="ADDRESS",
        help="Where the host is: tcp://host:port, host:port, unix:///path or a path.",
        rich_help_panel=_PANEL,
    ),
]
AuthkeyFileOption = Annotated[
    Path | None,
    typer.Option(
        "--authkey-file",
        metavar="FILE",
        help=f"A file with the authkey; without it, the key is ${AUTHKEY_VARIABLE}.",
        rich_help_panel=_PANEL,
    ),
]
WaitOption = Annotated[
    float,
    typer.Option(
        "--wait",
        metavar="SECONDS",
        min=0,
        help="How long to wait for a host that is still starting.",
        rich_help_panel=_PANEL,
    ),
]
ReconnectOption = Annotated[
    float,
    typer.Option(
        "--reconnect",
        metavar="SECONDS",
        min=0,
        help="How long the host may be away before that is an error; inf for ever.",
        rich_help_panel=_PANEL,
    ),
]
TransportOption = Annotated[
    Transport | None,
    typer.Option(
        "--transport",
        help="How to talk to the host: the event loop's sockets, or worker threads. "
        "Left out, sockets where the address is one.",
        rich_help_panel=_PANEL,
    ),
]


@dataclass(frozen=True)
class Connection:
    """The connection options of one command."""

    address: str
    authkey_file: Path | None
    wait: float
    reconnect: float
    transport: Transport | None

    def open(self) -> AsyncManager:
        """The manager, to be used in `async with`.

        Raises `CommandError` where there is no key, and `ConfigurationError` for an address that
        is none.
        """
        authkey = read_authkey(self.authkey_file)
        if authkey is None:
            raise CommandError(
                f"no authkey: set ${AUTHKEY_VARIABLE} or give --authkey-file; it is the key that "
                "the host was started with"
            )
        return connect(
            typed(self.address),
            authkey,
            wait=self.wait,
            reconnect=self.reconnect,
            transport=None if self.transport is None else self.transport.value,
        )


def read_authkey(path: Path | None) -> str | bytes | None:
    """The key from the file, else from the environment, else None."""
    if path is None:
        given = os.environ.get(AUTHKEY_VARIABLE)
        if given == "":
            raise CommandError(f"${AUTHKEY_VARIABLE} is empty; make a key with: aiomanager keygen")
        return given
    try:
        key = path.read_bytes().strip()
    except OSError as exc:
        raise CommandError(f"cannot read the authkey: {exc}") from exc
    if not key:
        raise CommandError(f"{path} is empty; write a key to it with: aiomanager keygen {path}")
    return key
