"""`aiomanager shutdown` and `aiomanager keygen`."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

import typer

from . import _standard
from ._options import Connection, connected
from ._running import complain, run


@connected
def shutdown(
    connection: Connection,
    queues: Annotated[
        list[str] | None, typer.Argument(metavar="QUEUE", help="The queues to shut down.")
    ] = None,
    host: Annotated[
        bool, typer.Option("--host", help="End the host, with all its queues and their items.")
    ] = False,
    immediate: Annotated[
        bool, typer.Option("--immediate", help="Drop the items that wait in the queues.")
    ] = False,
) -> None:
    """Shut down queues, or the host itself.

    That ends every producer and consumer of a queue, in every process: puts fail from now on, and
    gets go on until the queue is empty.
    """
    if bool(queues) == host:
        raise typer.BadParameter("name queues, or give --host")
    if host and immediate:
        raise typer.BadParameter("--immediate is for queues: the end of a host drops everything")

    async def main() -> None:
        async with connection.open() as manager:
            if host:
                await manager.shutdown()
            for name in queues or ():
                await manager.queue(name).shutdown(immediate)

    run(main)


def keygen(
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="A new file to write the key to, which only you can read; left out, the key "
            "goes to standard output.",
        ),
    ] = None,
) -> None:
    """Make a new authkey.

    It has 256 random bits, as text that fits into $AIOMANAGER_AUTHKEY.
    """
    key = secrets.token_urlsafe(32)
    try:
        if path is None:
            _standard.require_output()
            typer.echo(key)
            return
        path.touch(mode=0o600, exist_ok=False)
        path.write_text(f"{key}\n", encoding="ascii")
    except FileExistsError:
        complain(f"{path} is there already, and hosts may use the key in it")
        raise typer.Exit(1) from None
    except OSError as exc:
        complain(f"cannot write the key: {exc}")
        raise typer.Exit(1) from None
