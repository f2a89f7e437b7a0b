"""Collaboration: `wait_until` over conditions that come true, never do, or raise."""

from __future__ import annotations

import pytest

from tests.support.waiting import wait_until, wait_until_sync

pytestmark = pytest.mark.every_python


@pytest.mark.anyio
async def test_returns_the_value_that_came_true():
    """The first true value is the result."""
    values = iter([0, None, "ready"])
    assert await wait_until(lambda: next(values), description="a value") == "ready"


@pytest.mark.anyio
async def test_awaits_a_coroutine_function():
    """A condition may have to ask somebody else."""
    values = iter([False, True])

    async def ask() -> bool:
        return next(values)

    assert await wait_until(ask, description="a true answer")


@pytest.mark.anyio
async def test_fails_with_the_name_of_the_condition():
    """Who reads the failure learns what did not happen, and what there was instead."""
    with pytest.raises(pytest.fail.Exception, match=r"0\.01 s: three items \(last: 0\)"):
        await wait_until(lambda: 0, timeout=0.01, description="three items")


def test_sync_returns_the_value_that_came_true():
    """The form for tests without an event loop does the same."""
    values = iter([0, 3])
    assert wait_until_sync(lambda: next(values), description="a number") == 3


def test_sync_fails_with_the_name_of_the_condition():
    """And fails the same."""
    with pytest.raises(pytest.fail.Exception, match="a child's end"):
        wait_until_sync(lambda: False, timeout=0.01, description="a child's end")


def test_what_the_condition_raises_is_raised():
    """An error in the condition is not waited for."""
    with pytest.raises(ZeroDivisionError):
        wait_until_sync(lambda: 1 / 0, description="a quotient")
