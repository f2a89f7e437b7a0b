"""Items of a stock host's queue that came for somebody who has left, while the event loop runs.

They are kept for the next in this process to ask, and go back to the end of the queue where nobody
does. What becomes of them where the event loop ends, `leftovers` says.
"""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio

from ..._concurrency.event_loop import spawn
from ..._ground.errors import QueueFull
from ..._transport.base import Conversation
from ..._transport.pool import ConnectionPool
from .leftovers import Errand, Leftovers, StockReceived, Target
from .odd_queues import Undecoded
from .remote_object import ObjectGoneError, StockObject, closed

# Seconds for which such an item is kept here, and how long after that where the queue had no room
# for it.
KEPT = 1.0
KEPT_LONGER = 0.25
# Seconds that the end of a manager waits for room for such items.
LAST_WAIT = 4.0


class Keeping:
    """The items that one engine keeps.

    Args:
        held: where they are, as it outlives the engine.
        wait_slice: seconds that one blocking call may wait at the host.
    """

    def __init__(
        self, pool: ConnectionPool, queue: StockObject, held: Leftovers, wait_slice: float
    ) -> None:
        self.undecoded = Undecoded()
        self._pool = pool
        self._queue = queue
        self._held = held
        self._slice = wait_slice
        self._busy = False  # a task gives back what is overdue
        self._pause: anyio.CancelScope | None = None  # of that task
        self._giving_back = anyio.Lock()

    def __len__(self) -> int:
        return len(self._held.kept) + len(self._held.foreign)

    @property
    def next_due(self) -> float | None:
        """When the first item is due that is kept for anybody here."""
        return self._held.kept[0][0] if self._held.kept else None

    def keep(self, received: StockReceived, delay: float, *, rejected: bool = False) -> None:
        """Keep an item, for those who ask in `delay` seconds or later. `moving` is held.

        Args:
            rejected: somebody here could not unpickle it.
        """
        due = anyio.current_time() + delay
        wait = self.undecoded.wait(received) if rejected else None
        if wait is None:
            heapq.heappush(self._held.kept, (due, received.order, received))
        else:
            # Others may be able to: it is for nobody here, and goes to the end of the queue.
            heapq.heappush(self._held.foreign, (due + wait, received.order, received))
            self._end_pause()
        if not self._busy:
            self._busy = True
            spawn(self._give_back_what_is_overdue)

    def take(self, count: int) -> list[StockReceived]:
        """Up to `count` items that are due. `moving` is held."""
        if self._held.given_up:
            raise closed()
        taken: list[StockReceived] = []
        kept, now = self._held.kept, anyio.current_time()
        while kept and len(taken) < count and kept[0][0] <= now:
            taken.append(heapq.heappop(kept)[-1])
        return taken

    async def aclose(self) -> None:
        """Give everything back, waiting for room.

        Raises:
            QueueFull: there is none.
        """
        deadline = anyio.current_time() + LAST_WAIT
        async with self._giving_back:
            while self:
                left = max(0.0, min(self._slice, deadline - anyio.current_time()))
                if not await self._give_back(left) and not left:
                    break
        self._end_pause()
        if self:
            raise QueueFull(
                f"{len(self)} items that were received for nobody cannot go back: the queue is "
                "full or gone"
            )

    def begin(self, errand: Errand) -> None:
        """From now on others bring it to its end where the event loop ends. `moving` is held."""
        if self._held.given_up:
            raise closed()
        errand.connection.apart = True
        self._held.errands.add(errand)

    async def see_to(
        self,
        errand: Errand,
        steps: Conversation[None],
        seconds: float,
        settle: Callable[[], object],
    ) -> None:
        """Converse about items on the connection of an errand that was begun.

        Args:
            settle: puts those in the errand's hands where they belong. `moving` is held.
        """
        connection = errand.connection
        try:
            await connection.converse(errand.begin(steps), seconds + self._pool.call_timeout)
        except Exception:
            self._seen_to(errand, settle)
            raise
        except BaseException:
            self._pool.forget(connection)
            raise
        self._seen_to(errand, settle)

    # -- inside -------------------------------------------------------------------------------

    def _seen_to(self, errand: Errand, settle: Callable[[], object]) -> None:
        connection = errand.connection
        with self._held.moving:
            left = errand.left
            if not left:
                self._held.errands.discard(errand)
                settle()
        if left:
            self._pool.forget(connection)
            raise closed()
        connection.apart = False
        if connection.broken:
            self._pool.drop(connection)
        else:
            self._pool.give_back(connection)

    async def _give_back_what_is_overdue(self) -> None:
        try:
            while not self._pool.closed and (overdue := self._next_overdue()) is not None:
                left = overdue - anyio.current_time()
                if left > 0:
                    with anyio.CancelScope() as self._pause:
                        await anyio.sleep(left)
                    continue
                async with self._giving_back:
                    given_back = await self._give_back(0.0)
                if not given_back:
                    await anyio.sleep(KEPT_LONGER)
        finally:
            self._busy = False

    def _next_overdue(self) -> float | None:
        kept, foreign = self._held.kept, self._held.foreign
        times = [foreign[0][0]] if foreign else []
        times += [kept[0][0] + KEPT] if kept else []
        return min(times, default=None)

    def _end_pause(self) -> None:
        if self._pause is not None:
            self._pause.cancel()

    async def _give_back(self, seconds: float) -> bool:
        """Put the next item at the end of the queue again, as it came, waiting for room up to
        `seconds`; False where that failed, and it is still kept."""
        kept, foreign = self._held.kept, self._held.foreign
        heap = foreign if foreign and foreign[0][0] <= anyio.current_time() else kept or foreign
        if not heap:
            return True
        entry = heap[0]
        errand: Errand | None = None
        target: Target | None = None
        try:
            target = await self._queue.found()
            connection = await self._pool.borrow()
            with self._held.moving:
                if not heap or heap[0] is not entry:
                    self._pool.give_back(connection)
                    return True  # somebody here has it
                errand = Errand(connection, [entry[-1]])
                self.begin(errand)
                heapq.heappop(heap)
            back = partial(_back_to, heap, entry, errand)
            await self.see_to(errand, _putting_back(target, errand, seconds), seconds, back)
        except Exception as exc:
            if errand is not None and (errand.left or not errand.received):
                return not errand.left  # else only the count of what is done has failed
            if target is None or not target.is_unknown(exc):
                return False
            with contextlib.suppress(ObjectGoneError):
                await self._queue.check(target, exc)
        return True


def _back_to(heap: list[Any], entry: tuple[Any, ...], errand: Errand) -> None:
    if errand.received:
        heapq.heappush(heap, entry)


def _putting_back(target: Target, errand: Errand, seconds: float) -> Conversation[None]:
    yield from target.put(errand.received[0].expression(), seconds)
    errand.received.clear()
    yield from target.count_done()  # for the get that brought it here
