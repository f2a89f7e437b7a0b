"""What a defect is, and how one is entered in the table of its module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Patch = tuple[Any, str, Any]  # of what, which attribute, and what stands there instead
Defect = Callable[[], Sequence[Patch]]


def enter(table: dict[str, Defect]) -> Callable[[Defect], Defect]:
    """Enter functions in a table, by their names; each says in a sentence what goes wrong."""

    def decorate(function: Defect) -> Defect:
        table[function.__name__] = function
        return function

    return decorate


def nothing(*args: Any, **kwds: Any) -> None:
    """Stands where something should be done."""
