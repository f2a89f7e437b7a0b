"""What every command that talks to a host is told: where it is, and what opens it."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, cast

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


@dataclass(frozen=True)
class Connection:
    """The connection options of one command; see `connected`."""

    address: Annotated[
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
    authkey_file: Annotated[
        Path | None,
        typer.Option(
            "--authkey-file",
            metavar="FILE",
            help=f"A file with the authkey; without it, the key is ${AUTHKEY_VARIABLE}.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    wait: Annotated[
        float,
        typer.Option(
            "--wait",
            metavar="SECONDS",
            min=0,
            help="How long to wait for a host that is still starting.",
            rich_help_panel=_PANEL,
        ),
    ] = 0.0
    reconnect: Annotated[
        float,
        typer.Option(
            "--reconnect",
            metavar="SECONDS",
            min=0,
            help="How long the host may be away before that is an error; inf for ever.",
            rich_help_panel=_PANEL,
        ),
    ] = 30.0
    transport: Annotated[
        Transport | None,
        typer.Option(
            "--transport",
            help="How to talk to the host: the event loop's sockets, or worker threads. "
            "Left out, sockets where the address is one.",
            rich_help_panel=_PANEL,
        ),
    ] = None

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


def connected(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `Connection`, in the place of its argument `connection`."""
    options = inspect.signature(Connection, eval_str=True).parameters

    @functools.wraps(command)
    def with_options(**values: Any) -> None:
        connection = Connection(**{name: values.pop(name) for name in options})
        command(connection=connection, **values)

    signature = inspect.signature(command, eval_str=True)
    # By keyword alone, as typer gives them: then those without a default may come last.
    parameters = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for own in signature.parameters.values()
        for parameter in (options.values() if own.name == "connection" else [own])
    ]
    cast("Any", with_options).__signature__ = signature.replace(parameters=parameters)
    return with_options


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
