"""`aiomanager stats`: what the host counts, once or again and again."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated

import anyio
import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

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
    "leased": "leased",
    "delayed": "delayed",
    "undone": "unfinished",
    "put": "puts",
    "done": "done",
    "again": "redeliveries",
    "getters": "waiting_getters",
    "putters": "waiting_putters",
}

# Wide enough for any table, where no terminal has to show it.
_UNLIMITED = 1000


def stats(
    address: AddressOption,
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
    authkey_file: AuthkeyFileOption = None,
    wait: WaitOption = 0.0,
    reconnect: ReconnectOption = 30.0,
    lane: LaneOption = None,
) -> None:
    """Show what waits in queues, and what was done.

    For each queue: items that wait (delayed: for the pause before a retry), the maxsize, items
    that were handed out and not settled (leased), all that are not done yet, how many were put,
    done and handed out again so far, and how many gets and puts wait. A stock host knows the
    number of waiting items alone.
    """
    connection = Connection(address, authkey_file, wait, reconnect, lane)

    async def main() -> None:
        async with connection.open() as manager:
            names = _names(manager, queues)
            show = _print_json if as_json else _Tables(live=watch).show
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


def _print_json(counts: Mapping[str, QueueStatistics]) -> None:
    for name, statistics in counts.items():
        typer.echo(json.dumps({"queue": name} | asdict(statistics)))


class _Tables:
    """Shows a table; `live`, in the place of the one before where a terminal can do that."""

    def __init__(self, *, live: bool) -> None:
        terminal = sys.stdout.isatty()
        self._console = Console(highlight=False, width=None if terminal else _UNLIMITED)
        self._live = Live(console=self._console, auto_refresh=False) if live and terminal else None

    def show(self, counts: Mapping[str, QueueStatistics]) -> None:
        table = _table(counts)
        if self._live is None:
            self._console.print(table)
        else:
            self._live.start()
            self._live.update(table, refresh=True)


def _table(counts: Mapping[str, QueueStatistics]) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 1, 0, 0))
    table.add_column("queue", style="bold")
    for title in _COLUMNS:
        table.add_column(title, justify="right", no_wrap=True)
    for name, each in counts.items():
        ended = (" shut down", "red") if each.is_shutdown else ""
        cells = [_cell(field, getattr(each, field)) for field in _COLUMNS.values()]
        table.add_row(Text.assemble(name, ended), *cells)
    return table


def _cell(field: str, value: int | None) -> Text:
    if value is None:
        return Text("?", "dim")
    if field == "maxsize" and value <= 0:
        return Text("any", "dim")
    return Text(f"{value:,}", "" if value else "dim")
