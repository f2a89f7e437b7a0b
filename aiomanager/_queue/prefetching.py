"""What an iteration holds beyond the item that its loop works on.

A round trip for each item is most of what a quick loop would wait for. So an iteration asks for
several items at once where the last ones were used up within `QUICK`, twice as many each time up
to its `prefetch`, and for one where they were not. What a loop does not get to within `PATIENCE`
goes back for others to take, so that a loop which turns slow keeps nothing from them.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from time import monotonic
from typing import Generic, Literal, Protocol, TypeVar

from .._concurrency.event_loop import call_later

# How many items an iteration asks for at once, at most, unless told otherwise: where several
# consumers hold items ahead, they begin with them in another order than that of the puts.
PREFETCH = 1

# Seconds.
QUICK = 0.01
PATIENCE = 0.05


class Held(Protocol):
    """What is needed of a lease."""

    def settle_soon(self, action: Literal["return"]) -> object: ...
    def leave_behind(self, how: Literal["return"]) -> None: ...


D = TypeVar("D", bound=Held)


class Source(Protocol[D]):
    """What is needed of the queue."""

    async def get_leases(self, count: int) -> list[D]: ...
    @property
    def lease_holder(self) -> object: ...


class Ahead(Generic[D]):
    """Leases of a queue, one after the other.

    Args:
        most: how many to ask for at once, at most.
    """

    def __init__(self, queue: Source[D], most: int) -> None:
        self._queue = queue
        self._most = most if queue.lease_holder is not None else 1
        self._count = 1
        self._held: deque[D] = deque()
        self._holder: object = None
        self._fetched = 0.0  # when

    async def next(self) -> D:
        """Wait for a lease. Cancelled, it has received nothing; where one is held, it does not
        wait."""
        if self._held and self._queue.lease_holder is not self._holder:
            self._held.clear()  # their leases have ended with the connection
        quick = monotonic() - self._fetched < (PATIENCE if self._held else QUICK)
        if not quick:
            self.hand_back()
        if not self._held:
            self._count = min(2 * self._count, self._most) if quick else 1
            self._held.extend(await self._queue.get_leases(self._count))
            self._holder = self._queue.lease_holder
            self._fetched = monotonic()
            if len(self._held) > 1:
                call_later(PATIENCE, partial(self._give_up, self._fetched))
        return self._held.popleft()

    def hand_back(self) -> None:
        """Let others have what is held."""
        while self._held:
            self._held.popleft().settle_soon("return")

    def leave_behind(self) -> None:
        """`hand_back` for finalizers, which run on any thread: the event loop does it."""
        while self._held:
            self._held.popleft().leave_behind("return")

    def _give_up(self, fetched: float) -> None:
        if self._fetched == fetched:
            self.hand_back()
