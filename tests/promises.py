"""The table of what each engine promises, in docs/guarantees.md, made of the engines' `Promises`.

    python -m tests.promises

writes it anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from aiomanager.engines.base import ALL_COUNTS, Promises, QueueEngine
from aiomanager.engines.hosted import HostedEngine
from aiomanager.engines.memory import MemoryEngine
from aiomanager.engines.stock.engine import StockEngine
from tests.support.programs import PROJECT

PAGE = PROJECT / "docs" / "guarantees.md"
BEGIN = "<!-- Made of the engines' promises: python -m tests.promises -->\n"
END = "<!-- The end of what is made. -->\n"

COLUMNS: Mapping[str, type[QueueEngine]] = {
    "a stock host": StockEngine,
    "a host of aiomanager's": HostedEngine,
    "`memory://`": MemoryEngine,
}

_YES_OR_NO: Mapping[Any, str] = {True: "yes", False: "no"}


def _counts(names: frozenset[str]) -> str:
    return "all" if names == ALL_COUNTS else ", ".join(f"`{name}`" for name in sorted(names))


# What a row is called, and how its values read.
ROWS: Mapping[str, tuple[str, Mapping[Any, str] | Callable[[Any], str]]] = {
    "durable": ("what was acknowledged outlives the host", _YES_OR_NO),
    "redelivered": (
        "an item that is handed out again comes",
        {
            "first": "first",
            "first here": "first in its process, last in others",
            "last": "last",
        },
    ),
    "lease": (
        "an item that was handed out goes to somebody else",
        {
            "connection": "when its holder's connection ends",
            "time": "when its time is over",
            "none": "never",
        },
    ),
    "fencing": ("a settlement that comes too late is refused", _YES_OR_NO),
    "bound": (
        "`maxsize` counts",
        {
            "waiting": "what waits",
            "waiting and leased": "what waits or is on lease",
            None: "nothing",
        },
    ),
    "fair": ("puts of several clients find room in the order of their coming", _YES_OR_NO),
    "atomic_move": ("an item is moved to another queue in one step", _YES_OR_NO),
    "put_once": ("a put whose connection broke is put once", _YES_OR_NO),
    "headers": ("items may have headers", _YES_OR_NO),
    "opaque": ("nobody there needs the class of an item", _YES_OR_NO),
    "shutdown": (
        "queues can be shut down",
        {**_YES_OR_NO, None: "`queue.Queue` from Python 3.13 on"},
    ),
    "counts": ("counts of `statistics`", _counts),
}


def table() -> str:
    """The table as it is to stand on the page."""
    lines = [" | ".join(["|", *COLUMNS]) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for field in fields(Promises):
        title, words = ROWS[field.name]
        values = [getattr(engine.promises, field.name) for engine in COLUMNS.values()]
        cells = [words(value) if callable(words) else words[value] for value in values]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def page_anew(page: str) -> str:
    """A page with the table as it is to stand there."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page_anew(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
