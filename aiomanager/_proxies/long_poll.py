"""How many calls go to a host at once: one for all tasks that wait for the same thing, a few for
each method of an object otherwise."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from math import inf
from typing import Generic, TypeVar

import anyio

from .._concurrency.event_loop import spawn
from .._concurrency.futures import Future, replica
from .._ground.errors import ConnectionLostError, unanswered
from .._transport.patience import Pauses

T = TypeVar("T")

# Seconds after which a call is taken for one that waits at the host.
PATIENCE = 0.2

# A wait with a timeout ends by so many seconds after it, also where the host does not answer.
GRACE = 0.75


class CallLimit:
    """Lets a few calls be under way at once. One that takes longer than `PATIENCE` does not count
    any more, and makes room for one more, as those behind it are likely to wait as well: so no
    number of calls that wait keeps the others from running for long."""

    def __init__(self, places: int = 4) -> None:
        self._fewest = self._places = places
        self._line = anyio.Lock(fast_acquire=True)  # first come, first served
        self._under_way: dict[object, float] = {}  # since when, the oldest first
        self._left = anyio.Event()

    async def enter(self) -> object:
        """Wait for a turn and take it; the ticket has to be handed to `leave`."""
        async with self._line:
            while len(self._under_way) >= self._places:
                oldest, since = next(iter(self._under_way.items()))
                with anyio.CancelScope(deadline=since + PATIENCE) as patience:
                    await self._left.wait()
                if patience.cancelled_caught and self._under_way.pop(oldest, None) is not None:
                    self._places += 1
            ticket = object()
            self._under_way[ticket] = anyio.current_time()
            return ticket

    def leave(self, ticket: object) -> None:
        """The call is over."""
        if self._under_way.pop(ticket, None) is not None:
            self._places = max(self._fewest, self._places - 1)
            self._left.set()
            self._left = anyio.Event()


class _Waiter(Generic[T]):
    def __init__(self, deadline: float, future: Future[T | None]) -> None:
        self.deadline = deadline
        self.future = future


class LongPoll(Generic[T]):
    """Tasks of one event loop that wait for something at a host, and one call there on behalf of
    them all.

    Args:
        ask: asks the host and waits there for up to the given seconds; None where in vain. What it
            raises is the error of all who wait: the host is away, or has lost the object.
        wait_slice: seconds that one such call may take.
        shared: whether what comes is for all who wait, or for the first of them alone.
        discard: is given what came when nobody waited any more.
        reconnect: to ask changes nothing, so it is asked again, for so many seconds, where the
            connection breaks.
    """

    def __init__(
        self,
        ask: Callable[[float], Awaitable[T | None]],
        wait_slice: float,
        *,
        shared: bool = False,
        discard: Callable[[T], object] | None = None,
        reconnect: float = 0.0,
    ) -> None:
        self._ask = ask
        self._slice = wait_slice
        self._shared = shared
        self._discard = discard
        self._reconnect = reconnect
        self._waiting: deque[_Waiter[T]] = deque()
        self._asking = False
        self._due = inf  # when the host, if it is there, has answered

    async def wait(self, timeout: float | None, latest: float = inf) -> T | None:
        """Wait up to `timeout` seconds, for ever if None; None where in vain.

        Raises `ConnectionLostError`, also where the host has not answered `GRACE` after that, or
        by the event loop's time `latest`.
        Cancelled, it leaves at once, and what comes for it goes to `discard`.
        """
        deadline = inf if timeout is None else anyio.current_time() + timeout
        waiter = _Waiter[T](deadline, Future(self._unwanted))
        self._waiting.append(waiter)
        if self._asking:
            # What is waited for is not there, or others are served before.
            limit = min(deadline, latest)
        else:
            # Here the host watches the time: it alone knows whether there was something at once.
            limit = min(deadline + GRACE, latest)
            self._asking = True
            spawn(self._ask_on)
        if limit == inf:
            return await waiter.future.wait()
        with anyio.CancelScope(deadline=limit):
            return await waiter.future.wait()
        if anyio.current_time() < self._due:
            return None
        raise unanswered(timeout or 0.0, sent=True)

    async def _ask_on(self) -> None:
        """Ask in slices, as long as somebody waits."""
        pauses, broken_since = Pauses(), inf
        try:
            while self._anybody():
                now = anyio.current_time()
                left = min(waiter.deadline for waiter in self._waiting) - now
                seconds = max(0.0, min(left, self._slice))
                self._due = now + seconds + GRACE
                try:
                    outcome = await self._ask(seconds)
                except Exception as exc:
                    now = anyio.current_time()
                    broken_since = min(broken_since, now)
                    if self._may_ask_again(exc) and now < broken_since + self._reconnect:
                        await pauses.sleep(broken_since + self._reconnect)
                        continue
                    self._fail(exc)
                else:
                    self._give(outcome)
                pauses, broken_since = Pauses(), inf
        finally:
            self._asking = False

    def _may_ask_again(self, error: Exception) -> bool:
        # One that was not there for so long already has been tried for as long.
        return isinstance(error, ConnectionLostError) and not error.outcome_known

    def _anybody(self) -> bool:
        self._waiting = deque(waiter for waiter in self._waiting if not waiter.future.abandoned)
        return bool(self._waiting)

    def _fail(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, deque()
        for waiter in waiting:
            waiter.future.set_exception(replica(error))

    def _give(self, outcome: T | None) -> None:
        served = [] if outcome is None else self._served()
        if not served:
            self._unwanted(outcome)
        for waiter in served:
            waiter.future.set_result(outcome)
        now = anyio.current_time()
        for waiter in self._waiting:
            if waiter.deadline <= now:
                waiter.future.set_result(None)
        self._waiting = deque(waiter for waiter in self._waiting if waiter.deadline > now)

    def _served(self) -> list[_Waiter[T]]:
        """Those for whom the next outcome is; they wait no longer."""
        if not self._anybody():
            return []
        if not self._shared:
            return [self._waiting.popleft()]
        served, self._waiting = list(self._waiting), deque()
        return served

    def _unwanted(self, outcome: T | None) -> None:
        if outcome is not None and self._discard is not None:
            self._discard(outcome)
