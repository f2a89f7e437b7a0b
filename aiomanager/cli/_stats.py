"""`aiomanager stats`: what the host counts, once or again and again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import anyio
import typer

from aiomanager import AsyncManager

from ._options import Connection, connected
from ._running import CommandError, run


@connected
def stats(
    connection: Connection,
    queues: Annotated[
        list[str] | None,
        typer.Argument(metavar="QUEUE", help="Which queues; left out, all that the host has."),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Go on until Ctrl-C or until the host ends.")
    ] = False,
    interval: Annotated[
        float,
        typer.Option("--interval", metavar="SECONDS", min=0.05, help="How often --watch looks."),
    ] = 1.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="One line of JSON for each queue.")
    ] = False,
) -> None:
    """Show what waits in queues, and what was done.

    For each queue: items that wait (delayed: for the pause before a retry), the maxsize, items
    that were handed out and not settled (leased), all that are not done yet, how many were put,
    done and handed out again so far, and how many gets and puts wait. A stock host knows the
    number of waiting items alone.
    """
    from ._tables import shown

    async def main() -> None:
        async with connection.open() as manager:
            names = _names(manager, queues)
            with shown(as_json=as_json, live=watch) as show:
                while True:
                    show({name: await manager.queue(name).statistics() for name in names})
                    if not watch:
                        return
                    await anyio.sleep(interval)

    run(main)


def _names(manager: AsyncManager, asked: Sequence[str] | None) -> Sequence[str]:
    if asked:
        return asked
    if manager.queue_names is None:
        raise CommandError("a stock host does not tell which queues it has: name them")
    return manager.queue_names
