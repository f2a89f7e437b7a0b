"""What queues count, as a table or as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict

import typer
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
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
            yield lambda counts: place.update(_layout(counts, console, fold=True), refresh=True)
    else:
        yield lambda counts: console.print(_layout(counts, console, fold=False), crop=False)


def _print_json(counts: Counts) -> None:
    for name, statistics in counts.items():
        typer.echo(json.dumps({"queue": name} | asdict(statistics)))


def _layout(counts: Counts, console: Console, *, fold: bool) -> RenderableType:
    """A table where it is wide enough for all of it, else a name and what is counted below it.

    Args:
        fold: break a name that is wider than the terminal, which does it by itself where nothing
            has to know how many lines there are.
    """
    table = _table(counts)
    unlimited = console.options.update(width=_UNLIMITED)
    if console.measure(table, options=unlimited).maximum <= console.width:
        return table
    return Group(*(_block(name, each, fold=fold) for name, each in counts.items()))


def _block(name: str, each: QueueStatistics, *, fold: bool) -> RenderableType:
    title = _name(name, each)
    title.stylize("bold", 0, len(name))
    title.no_wrap, title.overflow = not fold, "fold" if fold else "ignore"
    cells = [
        Text.assemble((f"{column} ", "dim"), _cell(field, getattr(each, field)))
        for column, field in _COLUMNS.items()
    ]
    return Group(title, Padding(Columns(cells, padding=(0, 2)), (0, 0, 0, 2), expand=False))


def _name(name: str, each: QueueStatistics) -> Text:
    return Text.assemble(name, (" shut down", "red") if each.is_shutdown else "")


def _table(counts: Counts) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 1, 0, 0))
    table.add_column("queue", style="bold", no_wrap=True)
    for title in _COLUMNS:
        table.add_column(title, justify="right", no_wrap=True)
    for name, each in counts.items():
        cells = [_cell(field, getattr(each, field)) for field in _COLUMNS.values()]
        table.add_row(_name(name, each), *cells)
    return table


def _cell(field: str, value: int | None) -> Text:
    if value is None:
        return Text("?", "dim")
    if field == "maxsize" and value <= 0:
        return Text("any", "dim")
    return Text(f"{value:,}", "" if value else "dim")
