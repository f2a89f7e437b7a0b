"""What a benchmark found: samples, the claims they are held against, tables and plots."""

from __future__ import annotations

import operator
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Sample = Mapping[str, Any]

RELATIONS: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}


@dataclass
class Samples:
    """The samples of every case by round; None where a case failed in that round.

    Attributes:
        troubles: what went wrong or was left out, in words.
    """

    by_case: dict[str, list[Sample | None]] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)

    def add(self, case: str, sample: Sample | None) -> None:
        self.by_case.setdefault(case, []).append(sample)

    def has(self, case: str) -> bool:
        """Whether the case was measured at least once."""
        return any(sample is not None for sample in self.by_case.get(case, ()))

    def median(self, case: str, name: str) -> float | None:
        """The median of a figure over the rounds."""
        return _median(
            sample[name] for sample in self.by_case.get(case, ()) if sample and name in sample
        )

    def medians(self, case: str, name: str) -> list[float]:
        """The same for a figure that is a list, position by position."""
        rows = [sample[name] for sample in self.by_case.get(case, ()) if sample and name in sample]
        return [statistics.median(column) for column in zip(*rows, strict=True)]

    def ratio(self, case: str, other: str, name: str) -> float | None:
        """The median over the rounds of one case's figure divided by another's of the same round,
        so that what slows a whole round down does not count."""
        return _median(
            mine[name] / theirs[name]
            for mine, theirs in zip(
                self.by_case.get(case, ()), self.by_case.get(other, ()), strict=False
            )
            if mine and theirs and theirs.get(name) and name in mine
        )


def _median(values: Iterable[float]) -> float | None:
    found = list(values)
    return statistics.median(found) if found else None


@dataclass(frozen=True)
class Claim:
    """A figure that the library has to show.

    Attributes:
        relation: how the measured figure has to stand to the required one.
    """

    what: str
    measured: float | None
    relation: str
    required: float
    unit: str = "x"

    @property
    def verdict(self) -> str:
        if self.measured is None:
            return "not measured"
        return "ok" if RELATIONS[self.relation](self.measured, self.required) else "NOT YET"

    def cells(self) -> list[str]:
        measured = "-" if self.measured is None else f"{figure(self.measured)} {self.unit}"
        return [
            self.verdict,
            measured,
            f"{self.relation} {figure(self.required)} {self.unit}",
            self.what,
        ]


CLAIM_COLUMNS = ["", "measured", "required", "what"]


@dataclass(frozen=True)
class Table:
    """Rows of text; the first column names the row."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Panel:
    """One diagram: a line of points for each label."""

    title: str
    x: str
    y: str
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    log: str = "xy"


@dataclass(frozen=True)
class Plot:
    """Diagrams side by side, in one file."""

    name: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Report:
    """What one benchmark has to say, the claims first."""

    claims: Sequence[Claim] = ()
    tables: Sequence[Table] = ()
    plots: Sequence[Plot] = ()
    notes: Sequence[str] = ()


def figure(value: float | None, unit: str = "") -> str:
    """A number with three digits that say something, for people."""
    if value is None:
        return "-"
    size = abs(value)
    if size >= 100 or size == 0:
        text = f"{value:,.0f}"
    elif size >= 10:
        text = f"{value:.1f}"
    elif size >= 0.1:
        text = f"{value:.2f}"
    else:
        text = f"{value:.2g}"
    return f"{text} {unit}" if unit else text
