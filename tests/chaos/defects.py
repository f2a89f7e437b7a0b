"""Seeded defects: see below."""

from __future__ import annotations

from typing import Any


def apply_defect(options: dict[str, Any]) -> None:
    """Nothing yet."""
