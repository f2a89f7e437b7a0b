"""`aiomanager serve`: a host of queues, until a signal."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import signal
from pathlib import Path
from types import FrameType
from typing import Annotated, cast

import typer

from aiomanager import AioManagerError, QueueManager

from . import _standard
from ._addresses import ServerAddress, from_elsewhere, of_server, typed
from ._options import ADDRESS_VARIABLE, AUTHKEY_VARIABLE, read_authkey
from ._running import CommandError, complain, one_line, show_warnings, warn


def serve(
    queues: Annotated[
        list[str],
        typer.Option(
            "--queue",
            "-q",
            metavar="NAME[=MAXSIZE]",
            help="A queue to host, and how many items may wait in it; without a number, any.",
        ),
    ],
    address: Annotated[
        str | None,
        typer.Argument(
            metavar="ADDRESS",
            envvar=ADDRESS_VARIABLE,
            help="Where to listen: tcp://host:port, host:port (port 0: any that is free), "
            "unix:///path or a path; left out, a private socket.",
        ),
    ] = None,
    authkey_file: Annotated[
        Path | None,
        typer.Option(
            "--authkey-file",
            metavar="FILE",
            help=f"A file with the authkey; without it, the key is ${AUTHKEY_VARIABLE}; "
            "without either, a new one is made and printed.",
        ),
    ] = None,
    lease_timeout: Annotated[
        float | None,
        typer.Option(
            "--lease-timeout",
            metavar="SECONDS",
            min=0,
            help="When an item that a live consumer has not settled goes to somebody else; "
            "left out, never.",
        ),
    ] = None,
    handshake_timeout: Annotated[
        float,
        typer.Option(
            "--handshake-timeout",
            metavar="SECONDS",
            min=0,
            help="How long a new connection may take to authenticate.",
        ),
    ] = 10.0,
    allow_short_key: Annotated[
        bool, typer.Option("--allow-short-key", help="Accept a key of less than 16 bytes.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Say what clients need as one line of JSON.")
    ] = False,
) -> None:
    """Host queues until SIGINT or SIGTERM.

    The first line on standard output says that clients can connect. The authkey is never given as
    an argument, where every user of the machine would see it.
    """
    show_warnings()
    sizes = _sizes(queues)
    try:
        authkey = read_authkey(authkey_file)
        made = secrets.token_urlsafe(32) if authkey is None else None
        manager = QueueManager(
            None if address is None else typed(address),
            authkey or made,
            queues=sizes,
            lease_timeout=lease_timeout,
            handshake_timeout=handshake_timeout,
            allow_short_key=allow_short_key,
        )
        server = manager.get_server()
        listening = cast("ServerAddress", server.address)
    except (AioManagerError, CommandError) as exc:
        complain(one_line(exc))
        raise typer.Exit(1) from None

    def stop(_number: int, _frame: FrameType | None) -> None:
        server.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    if as_json:
        description = {
            "address": of_server(listening),
            "queues": sizes,
            "pid": os.getpid(),
        }
        lines = json.dumps(description | ({"authkey": made} if made else {}))
    else:
        lines = "\n".join(_description(listening, sizes, made, authkey_file))
    try:
        typer.echo(lines)
    except OSError as exc:
        warn(f"cannot say what clients need: {exc}")  # clients may know
        _standard.discard_output()
    server.serve_forever()


def _sizes(queues: list[str]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for queue in queues:
        name, size = _name_and_size(queue)
        if name in sizes:
            raise typer.BadParameter(f"{name!r} is there twice", param_hint="--queue")
        sizes[name] = size
    return sizes


def _name_and_size(text: str) -> tuple[str, int]:
    name, equals, size = text.partition("=")
    try:
        return name, int(size) if equals else 0
    except ValueError:
        raise typer.BadParameter(
            f"{text!r}: the maxsize is a number, as in {name}=1000", param_hint="--queue"
        ) from None


def _description(
    address: ServerAddress,
    sizes: dict[str, int],
    made: str | None,
    authkey_file: Path | None,
) -> list[str]:
    names = [f"{name} (at most {size})" if size > 0 else name for name, size in sizes.items()]
    lines = [f"ready: {of_server(address)} hosts {', '.join(names)}", "clients need:"]
    url = shlex.quote(from_elsewhere(address))
    lines.append(f"  export {ADDRESS_VARIABLE}={url}")
    if made is not None:
        lines.append(f"  export {AUTHKEY_VARIABLE}={made}")
    elif authkey_file is not None:
        lines.append(f"  --authkey-file {shlex.quote(str(authkey_file))}, or a copy of it")
    else:
        lines.append(f"  the same ${AUTHKEY_VARIABLE}")
    return lines
