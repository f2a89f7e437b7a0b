"""Calls that are given up at random instants, in each of the ways that an event loop has."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import anyio

Call = Callable[[], Coroutine[Any, Any, Any]]

GAVE_UP: Any = object()


async def by_scope(call: Call, seconds: float) -> Any:
    """By a cancel scope of anyio's, which is a scope of trio's on trio."""
    with anyio.move_on_after(seconds):
        return await call()
    return GAVE_UP


async def by_cancel(call: Call, seconds: float) -> Any:
    """By asyncio's `task.cancel()`."""
    task = asyncio.ensure_future(call())
    timer = asyncio.get_running_loop().call_later(seconds, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        return GAVE_UP
    finally:
        timer.cancel()


async def by_wait_for(call: Call, seconds: float) -> Any:
    """By `asyncio.wait_for`."""
    with contextlib.suppress(TimeoutError):
        return await asyncio.wait_for(call(), seconds)
    return GAVE_UP


async def by_timeout(call: Call, seconds: float) -> Any:
    """By `asyncio.timeout`."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            return await call()
    return GAVE_UP


# By the name of the event loop.
WAYS: dict[str, Sequence[Callable[[Call, float], Awaitable[Any]]]] = {
    "asyncio": [by_scope, by_cancel, by_wait_for, by_timeout],
    "trio": [by_scope],
}


class Impatience:
    """Makes calls, and gives most of them up.

    Attributes:
        chance: decides. It has a seed, so that a test does the same each time as far as it can.
        given_up: how many calls were.
    """

    def __init__(self, loop: str, seed: object) -> None:
        self.chance = random.Random(str(seed))
        self.given_up = 0
        self._ways = WAYS[loop]

    async def call(self, call: Call) -> Any:
        """What the call returns, or GAVE_UP. The call may not even have begun."""
        outcome = await self.chance.choice(self._ways)(call, self.patience())
        self.given_up += outcome is GAVE_UP
        return outcome

    async def begin(self, call: Call) -> None:
        """The same for a call that is begun in any case."""
        begun = False

        async def beginning() -> None:
            nonlocal begun
            begun = True
            await call()

        await self.call(beginning)
        if not begun:  # a task that is cancelled before its first step has done nothing
            await call()

    def patience(self) -> float:
        """Seconds until somebody gives up: up to 4 ms, and often none, since most happens in the
        first turns of the event loop. One in ten has more patience, so that things move also where
        a machine needs longer than that for an answer."""
        return self.chance.choices(
            (0.0, self.chance.uniform(0, 0.004), self.chance.uniform(0.05, 0.2)), weights=(4, 5, 1)
        )[0]
