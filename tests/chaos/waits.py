"""Waiting for conditions, with deadlines; what is not met in time is stuck, and says so."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

POLL_INTERVAL = 0.003

_longest = math.inf


class Stuck(Exception):
    """Something did not happen in time."""


@contextlib.contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Wait for nothing longer than this: for runs in which something is expected to get stuck."""
    global _longest  # noqa: PLW0603 - one run at a time, whatever it waits for
    _longest, before = seconds, _longest
    try:
        yield
    finally:
        _longest = before


def at_most(seconds: float) -> float:
    """So many seconds, or as many as there is patience for."""
    return min(seconds, _longest)


def until(predicate: Callable[[], T], description: str, timeout: float = 20.0) -> T:
    """Poll until the predicate is true, up to `timeout` seconds; return its value."""
    timeout = at_most(timeout)
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
