"""`aiomanager stats`: what the host counts, once or again and again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import anyio
import typer
from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table

from aiomanager import AsyncManager, QueueStatistics

from ._options import (
    AddressOption,
    AuthkeyFileOption,
    Connection,
    LaneOption,
    ReconnectOption,
    WaitOption,
)
from ._running import CommandError, run

_COLUMNS = {
    "waiting": "qsize",
    "maxsize": "maxsize",
    "handed out": "leased",
    "delayed": "delayed",
    "unfinished": "unfinished",
    "put": "puts",
    "done": "done",
    "redelivered": "redeliveries",
    "getters": "waiting_getters",
    "putters": "waiting_putters",
}


def stats(
    address: AddressOption,
    queues: Annotated[
        list[str] | None,
        typer.Argument(metavar="[QUEUE]...", help="Which queues; left out, all that the host has."),
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
    authkey_file: AuthkeyFileOption = None,
    wait: WaitOption = 0.0,
    reconnect: ReconnectOption = 30.0,
    lane: LaneOption = None,
) -> None:
    """Show what waits in the queues, what was handed out, and what was done.

    A stock host knows the number of waiting items alone.
    """
    connection = Connection(address, authkey_file, wait, reconnect, lane)

    async def main() -> None:
        async with connection.open() as manager:
            names = _names(manager, queues)
            if watch and not as_json:
                await _watch(manager, names, interval)
                return
            while True:
                counts = await _look(manager, names)
                if not as_json:
                    Console().print(_table(counts))
                for name, statistics in counts.items() if as_json else ():
                    typer.echo(json.dumps({"queue": name} | asdict(statistics)))
                if not watch:
                    return
                await anyio.sleep(interval)

    run(main)


async def _watch(manager: AsyncManager, names: Sequence[str], interval: float) -> None:
    with Live(_table(await _look(manager, names)), auto_refresh=False) as live:
        while True:
            await anyio.sleep(interval)
            live.update(_table(await _look(manager, names)), refresh=True)


def _names(manager: AsyncManager, asked: Sequence[str] | None) -> Sequence[str]:
    if asked:
        return asked
    if manager.queue_names is None:
        raise CommandError("a stock host does not tell which queues it has: name them")
    return manager.queue_names


async def _look(manager: AsyncManager, names: Sequence[str]) -> dict[str, QueueStatistics]:
    return {name: await manager.queue(name).statistics() for name in names}


def _table(counts: dict[str, QueueStatistics]) -> RenderableType:
    table = Table(box=None, header_style="bold")
    table.add_column("queue")
    for title in _COLUMNS:
        table.add_column(title, justify="right")
    for name, statistics in counts.items():
        ended = " [red](shut down)[/red]" if statistics.is_shutdown else ""
        cells = [_cell(title, getattr(statistics, field)) for title, field in _COLUMNS.items()]
        table.add_row(f"{name}{ended}", *cells)
    return table


def _cell(title: str, value: int | None) -> str:
    if value is None:
        return "[dim]?[/dim]"
    if title == "maxsize" and value <= 0:
        return "[dim]any[/dim]"
    return f"{value:,}" if value else "[dim]0[/dim]"
