"""The page in the documentation: claims first, then each benchmark's tables and plots."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import _plots
from ._results import CLAIM_COLUMNS, Report, Samples
from ._runner import Benchmark
from ._text import claims_table, markdown

INTRODUCTION = """\
# Benchmarks

What aiomanager costs, beside everything else that a user might pick, measured side by side on one
machine. Ratios come first: they travel from machine to machine, absolute figures do not. Each
figure is the median of rounds; in each round every peer has its turn, in a process of its own, with
the same items and the same batch of work, and every item that is got is compared with what was put.
A ratio is the median of the rounds' ratios.
"""
EXPLANATION = """
The blocking proxy and the threads talk to a stock `BaseManager` that hosts a `queue.Queue`. The
blocking proxy and `multiprocessing.Queue` do one thing at a time whatever the number of coroutines.
A put returns when the host has the item, with two exceptions: pyzmq's `send` and
`multiprocessing.Queue.put` return when a thread of their own process has it. The floor is an
asyncio protocol on a unix socket: each item's bytes go to another process and come back, for a put
as for a get.
"""


@dataclass(frozen=True)
class Section:
    benchmark: Benchmark
    report: Report
    samples: Samples


def write(
    folder: Path, command: str, machine: Sequence[tuple[str, str]], sections: Sequence[Section]
) -> Path:
    """Write the page and its plots; the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    today = dt.datetime.now(dt.UTC).date().isoformat()
    about = [("command", f"`{command}`"), ("date", today), *machine]
    parts = [INTRODUCTION, markdown(["", ""], about), EXPLANATION, "## What it has to show\n"]
    claims = [claim for section in sections for claim in section.report.claims]
    parts.append(markdown(CLAIM_COLUMNS, claims_table(claims).rows))
    for section in sections:
        parts.append(f"\n## {section.benchmark.title.capitalize()}\n")
        parts.append(f"`python -m benchmarks --only {section.benchmark.name}`")
        for table in section.report.tables:
            title = table.title[0].upper() + table.title[1:]
            parts.append(f"\n{title}:\n\n{markdown(table.columns, table.rows)}")
        for plot in section.report.plots:
            path = _plots.write(plot, folder)
            parts.append(f"\n![{section.benchmark.title}]({path.name})")
        troubles = sorted(set(section.samples.troubles))
        parts += [f"\n{note}" for note in (*section.report.notes, *troubles)]
    page = folder / "benchmarks.md"
    page.write_text("\n".join(parts) + "\n", encoding="utf-8")
    return page
