"""Waiting for conditions, with deadlines; what is not met in time is stuck, and says so."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_INTERVAL = 0.003


class Stuck(Exception):
    """Something did not happen in time."""


def until(predicate: Callable[[], T], description: str, timeout: float = 20.0) -> T:
    """Poll until the predicate is true, up to `timeout` seconds; return its value."""
    deadline = time.monotonic() + timeout
    while True:
        # Asked once more after the deadline, since a loaded machine may have slept through it.
        last_try = time.monotonic() >= deadline
        value = predicate()
        if value:
            return value
        if last_try:
            raise Stuck(f"not within {timeout:g} s: {description} (last: {value!r})")
        time.sleep(POLL_INTERVAL)
