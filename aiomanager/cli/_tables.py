"""What queues count, as a table or as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from aiomanager import QueueStatistics

from . import _standard

Counts = Mapping[str, QueueStatistics]

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


@contextmanager
def shown(*, as_json: bool, live: bool) -> Generator[Callable[[Counts], None], None, None]:
    """A function that shows what was counted; `live`, in the place of what it showed before,
    where standard output can do that."""
    _standard.require_output()
    terminal = _standard.is_terminal(_standard.OUTPUT)
    console = Console(highlight=False, width=None if terminal else _UNLIMITED)
    if as_json:
        yield _print_json
    elif live and terminal:
        with Live(console=console, auto_refresh=False) as place:
            yield lambda counts: place.update(_table(counts), refresh=True)
    else:
        yield lambda counts: console.print(_table(counts))


def _print_json(counts: Counts) -> None:
    for name, statistics in counts.items():
        typer.echo(json.dumps({"queue": name} | asdict(statistics)))


def _table(counts: Counts) -> Table:
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
