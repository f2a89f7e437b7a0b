"""Where the host of a program is."""

from __future__ import annotations

from typing import Any


def address(options: dict[str, Any]) -> Any:
    """The address in the options, as a pair where it was one: JSON has no pairs."""
    where = options["address"]
    return tuple(where) if isinstance(where, list) else where
