"""Waiting for a condition instead of for a time: with a deadline, and a failure that names it."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeVar, overload

import anyio
import psutil
import pytest

T = TypeVar("T")

# Short against what is waited for (a process, a thread, a reply), long against asking once.
POLL_INTERVAL = 0.005


@overload
async def wait_until(
    predicate: Callable[[], Awaitable[T]], *, timeout: float = ..., description: str
) -> T: ...


@overload
async def wait_until(
    predicate: Callable[[], T], *, timeout: float = ..., description: str
) -> T: ...


async def wait_until(
    predicate: Callable[[], Any], *, timeout: float = 10.0, description: str
) -> Any:
    """Poll until the predicate, a function or a coroutine function, is true; return its value.

    The event loop runs on in between. `timeout` is in seconds; when it is over, the test fails
    with the description. What the predicate raises is raised here.
    """
    deadline = time.monotonic() + timeout
    while True:
        # Asked once more after the deadline, since a loaded machine may have slept through it.
        last_try = time.monotonic() >= deadline
        value = predicate()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if last_try:
            _fail(timeout, description, value)
        await anyio.sleep(POLL_INTERVAL)


def wait_until_sync(predicate: Callable[[], T], *, timeout: float = 10.0, description: str) -> T:
    """Poll until the predicate is true, as `wait_until` does, and block the thread meanwhile."""
    deadline = time.monotonic() + timeout
    while True:
        last_try = time.monotonic() >= deadline
        value = predicate()
        if value:
            return value
        if last_try:
            _fail(timeout, description, value)
        time.sleep(POLL_INTERVAL)


def while_busy(seconds: float) -> float:
    """How long that may take which takes `seconds` on a machine that does nothing else."""
    busy: float = psutil.getloadavg()[0] / (psutil.cpu_count() or 1)
    return seconds * max(1.0, busy)


def _fail(timeout: float, description: str, value: object) -> NoReturn:
    __tracebackhide__ = True
    pytest.fail(f"not within {timeout} s: {description} (last: {value!r})")
