"""Tables as aligned text, and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from ._results import CLAIM_COLUMNS, Claim, Report, Table


def aligned(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns side by side for a terminal; all but the first and the last to the right."""
    lines = [columns, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    left = _left(columns, rows)
    return "\n".join(
        "  "
        + "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same as a Markdown table."""
    left = _left(columns, rows)
    marks = ["---" if i in left else "--:" for i in range(len(columns))]
    return "\n".join("| " + " | ".join(line) + " |" for line in [columns, marks, *rows])


def _left(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> set[int]:
    """The columns that stand to the left: those of words, at the edges."""
    last = len(columns) - 1
    numbers = all(row[last][:1] in "-0123456789" for row in rows)
    return {0} if numbers else {0, last}


def claims_table(claims: Sequence[Claim]) -> Table:
    return Table("", CLAIM_COLUMNS, [claim.cells() for claim in claims])


def report_text(name: str, title: str, report: Report) -> str:
    """A report for the terminal."""
    parts = [f"== {name}: {title}"]
    if report.claims:
        table = claims_table(report.claims)
        parts.append(aligned(table.columns, table.rows))
    parts += [f"  {table.title}\n{aligned(table.columns, table.rows)}" for table in report.tables]
    parts += [f"  {note}" for note in report.notes]
    return "\n\n".join(parts) + "\n"
