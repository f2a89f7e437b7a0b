"""Waits of an engine whose host cannot call back, or calls back only sometimes.

A notification that is lost would leave somebody waiting for ever, so a wait looks again by itself
as well: after pauses that grow from `shortest` to `longest`, and are of a random length, so that
the clients of one host do not all look at the same moment. Where notifications come, the pauses
matter little, and `longest` may be several seconds; where there are none, it is how late an item
may come.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from .._concurrency.futures import Future, start_detached
from .._ground.errors import ConnectionLostError

T = TypeVar("T")

# The next pause after one in which nothing has changed.
GROWTH = 1.5


class _Wait:
    """One wait that is under way, with the name by which it can be interrupted, if it can."""

    def __init__(self, name: str | None) -> None:
        self.name = name
        self.interrupted = False
        self.changed = anyio.Event()

    def wake(self) -> None:
        """Have it look again."""
        with contextlib.suppress(RuntimeError):  # its event loop was closed in the middle of it
            self.changed.set()


class Subscription:
    """The waits of one queue in one event loop. An engine starts them, and tells by `notify` that
    something has changed, if it ever learns.

    Args:
        shortest, longest: bounds of the pauses between two looks, in seconds.
    """

    def __init__(self, shortest: float = 0.005, longest: float = 0.5) -> None:
        self._shortest = shortest
        self._longest = longest
        self._waits: set[_Wait] = set()
        self._ended: str | None = None  # why nothing waits any more

    def start(
        self, look: Callable[[], Awaitable[T]], timeout: float | None, name: str = ""
    ) -> Future[T | None]:
        """Wait for a look that finds something, for up to `timeout` seconds, None for ever; a
        timeout of 0 is one look. For `receive` and `put`.

        The future has the first true value that `look` returned, None where there was none in time
        or the wait was interrupted, and the error that a look raised. A look that has begun is not
        broken off: what it took belongs to whoever has the future.

        Args:
            name: what `interrupt` knows it by, unless the timeout is 0: then it waits for nothing,
                and somebody is there who wants the answer.
        """
        wait = _Wait(None if timeout == 0 else name)
        # From here on, and not when the task begins, as `interrupt` may come before that.
        self._waits.add(wait)
        return start_detached(lambda: self._run(wait, look, timeout))

    async def wait(self, look: Callable[[], Awaitable[T]], timeout: float | None) -> T | None:
        """The same for the caller's own task, which may be cancelled. For `join`, whose look takes
        nothing."""
        wait = _Wait(None)
        self._waits.add(wait)
        return await self._run(wait, look, timeout)

    def notify(self) -> None:
        """Something has changed: all who wait look again, now. On the event loop; from another
        thread by `Handover.call`."""
        for wait in list(self._waits):
            wait.wake()

    def interrupt(self, name: str) -> None:
        """End the waits of this name that are under way, without another look. Where the event loop
        has ended, callable from any thread, as `QueueEngine.interrupt` is."""
        for wait in list(self._waits):
            if wait.name == name:
                wait.interrupted = True
                wait.wake()

    def end(self, why: str) -> None:
        """End all waits, and those that are started from now on, with a `ConnectionLostError`: the
        engine is closed."""
        self._ended = why
        self.notify()

    async def _run(
        self, wait: _Wait, look: Callable[[], Awaitable[T]], timeout: float | None
    ) -> T | None:
        give_up = None if timeout is None else anyio.current_time() + timeout
        pause = self._shortest
        try:
            while not wait.interrupted:
                if self._ended is not None:
                    raise ConnectionLostError(self._ended)
                if wait.changed.is_set():
                    # Before the look, so that a change during it is not missed.
                    wait.changed = anyio.Event()
                    pause = self._shortest
                # Asked before the look: the last one begins when the time is up, and not before.
                is_last = give_up is not None and anyio.current_time() >= give_up
                if value := await look():
                    return value
                if is_last:
                    break
                seconds = random.uniform(pause / 2, pause)  # noqa: S311 - it is no secret
                if give_up is not None:
                    seconds = min(seconds, max(0.0, give_up - anyio.current_time()))
                with anyio.move_on_after(seconds):
                    await wait.changed.wait()
                pause = min(pause * GROWTH, self._longest)
            return None
        finally:
            self._waits.discard(wait)
