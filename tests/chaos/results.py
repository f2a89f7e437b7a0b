"""The table of a run, in Markdown, written anew after each fault."""

from __future__ import annotations

import datetime as dt
import os
import platform
import re
from importlib.metadata import version
from pathlib import Path

from tests.chaos.campaign import Tally
from tests.chaos.faults import Fault

_HEAD = (
    "fault", "what goes wrong", "n asked", "n", "rate below", "seconds",
    "acked", "processed", "unknown (came out)", "redelivered",
    "lost", "hung", "unexpected", "enqueued twice", "other problems", "measured", "stock host",
)  # fmt: skip
_LEGEND = (
    "`n` is how often the fault really happened in the time it was given, beside how often was "
    "asked; no failure in n trials bounds its rate at 3/n with 95 % confidence. `unknown` are puts "
    "that nobody knows the outcome of, since their producer was killed, cancelled or cut off. "
    "`measured` is the worst of all runs. `stock host` is the negative control: the same at a "
    "host, or with a client, of the standard library."
)
_MEASURED = (
    "F3 and F3b together are the fault of a consumer killed under load: a thousand kills, and a "
    "million messages. P1: `rid of them` counts from the last of 300 connections, with a deadline "
    "for the handshake of 3 s; who sends garbage is cut at once, which leaves 200; `served` is the "
    "slowest of all who connected, asked and put meanwhile; `grown` is the host's memory when it "
    "is rid of them, beside before. P2: what has grown is a queue that the malformed sessions "
    "fill, and the names of their clients, which a host keeps for ten minutes. W1: what 200 "
    "processes that wait cost the host, and how long after a put the next of them has the item."
)
_ROW = re.compile(r"\| ([A-Z]\d+\w*) \|.*")
_REQUIRED = ("lost", "hung", "unexpected", "enqueued_twice")
_PACKAGES = ("anyio", "trio", "uvloop")


class Results:
    """What came of each fault up to now.

    Args:
        path: of the file; where it has rows of faults that this run leaves out, they stay, and so
            do the commands that they are from.
        command: that this run was started by.
    """

    def __init__(self, path: Path | None, command: str, seed: int) -> None:
        self._path = path
        self._commands = [command]
        self._seed = seed
        self._rows: dict[str, str] = {}
        self.valid = True
        if path is not None and path.exists() and "--fault" in command:
            lines = path.read_text().splitlines()
            self._rows = {row[1]: row[0] for line in lines if (row := _ROW.match(line))}
            self._commands = [line.strip() for line in lines if line.startswith("    ")] + [command]

    def add(self, fault: Fault, ours: Tally | None, stock: Tally | None) -> None:
        """Add the row of a fault, or put it in the place of an older one."""
        cells = [fault.code, fault.title, *_cells(ours), _stock(stock)]
        self._rows[fault.code] = f"| {' | '.join(cells)} |"
        self.valid = self.valid and (ours is None or ours.report.valid)
        if self._path is not None:
            self._path.write_text(self.text())

    def text(self) -> str:
        """All of it."""
        packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        machine = (
            f"{dt.datetime.now(dt.UTC):%Y-%m-%d}, "
            f"{platform.python_implementation()} {platform.python_version()}, {packages}; "
            f"{platform.system()} {platform.release()} on {platform.machine()}, "
            f"{os.cpu_count()} processors, {memory:.0f} GiB, "
            f"load {os.getloadavg()[2]:.0f} at the end. "
            f"The runs of each fault have the seeds from {self._seed} on."
        )
        lines = [
            "# What the chaos runs showed", "",
            *(f"    {command}" for command in self._commands), "",
            machine, "", _LEGEND, "", _MEASURED, "",
            f"| {' | '.join(_HEAD)} |", "|---" * len(_HEAD) + "|", *self._rows.values(),
        ]  # fmt: skip
        return "\n".join(lines) + "\n"


def _cells(tally: Tally | None) -> list[str]:
    if tally is None:
        return [""] * (len(_HEAD) - 3)
    report, problems = tally.report, dict(tally.report.problems)
    bound = f"{3 / tally.trials:.2g}" if tally.trials and report.valid else "-"
    required = [str(len(problems.pop(name, ()))) for name in _REQUIRED]
    others = ", ".join(f"{name.replace('_', ' ')} {len(found)}" for name, found in problems.items())
    if tally.invalid:
        others += f" (seeds {', '.join(map(str, tally.invalid[:10]))})"
    notes = dict(tally.notes)
    if report.max_redelivery_delay:
        notes["redelivered_after_s"] = round(report.max_redelivery_delay, 2)
    if report.gone_with_host:
        notes["gone_with_host"] = report.gone_with_host
    return [
        f"{tally.asked:,}",
        f"{tally.trials:,}",
        bound,
        f"{tally.seconds:.0f}",
        f"{report.acked:,}",
        f"{report.processed:,}",
        f"{report.unknown:,} ({report.recovered:,})",
        f"{report.redeliveries:,}",
        *required,
        others or "0",
        ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in notes.items()),
    ]


def _stock(tally: Tally | None) -> str:
    if tally is None:
        return ""
    problems = tally.report.problems
    found = ", ".join(f"{name.replace('_', ' ')} {len(what)}" for name, what in problems.items())
    return f"{tally.trials} trials: {found or 'nothing'}"
