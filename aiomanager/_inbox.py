"""Items between the engine and those who wait for them, first come first served."""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from typing import Literal

import anyio

from ._errors import ConnectionLostError
from ._tasks import Batcher, Slot, begin, spawn
from .engines.base import QueueEngine, Received, Settlement

# How many items one call to the host asks for at most.
FETCH_ITEMS = 1024

# A wait that is about to end is not cut shorter than this, in seconds.
SHORTEST_WAIT = 0.01

# How an item that was received goes back: after a nack; not looked at; or not looked at by the one
# who had taken it already.
Return = Literal["nack", "return", "restore"]


class _Waiter:
    """Somebody who waits for up to `count` items, to take them or to hold a lease on them."""

    def __init__(self, inbox: Inbox, count: int, take: bool, deadline: float) -> None:
        self.count = count
        self.take = take
        self.deadline = deadline
        self._inbox = inbox
        self.slot: Slot[list[Received]] = Slot(self.discard)

    def discard(self, share: Sequence[Received]) -> None:
        """Give back what came although the one who waited has left."""
        for received in share:
            self._inbox.hand_back(received, "restore" if self.take else "return")


Share = tuple[_Waiter, list[Received]]


class Inbox:
    """One fetcher for all waiters, running only while somebody waits: so waiting costs neither a
    thread nor a connection each, and what a call brought back always belongs to somebody, the one
    it was for, the next in line, or the queue again."""

    def __init__(self, engine: QueueEngine) -> None:
        self._engine = engine
        self._waiters: OrderedDict[_Waiter, None] = OrderedDict()  # in the order of their coming
        self._fetched: anyio.Event | None = None  # there while the fetcher runs
        # Those who do not wait: what is there now, for all who ask now.
        self._at_once: Batcher[_Waiter, list[Received]] = Batcher(self._fetch_now, revocable=True)
        self._returns: Batcher[tuple[Received, Return, float], bool] = Batcher(self._send_back)

    async def receive(self, count: int, timeout: float | None, *, take: bool) -> list[Received]:
        """Wait for items, up to `timeout` seconds; an empty list where none came.

        Cancelled, it has received nothing: what was on its way goes to the next waiter here or
        back to the queue.
        """
        deadline = math.inf if timeout is None else anyio.current_time() + timeout
        waiter = _Waiter(self, count, take, deadline)
        if timeout is not None and timeout <= 0:
            return await self._at_once.submit(waiter, waiter.discard)
        self._waiters[waiter] = None
        self._start()
        try:
            if timeout is None:  # a scope costs as much as all the rest
                return await waiter.slot.wait()
            with anyio.move_on_after(timeout):
                return await waiter.slot.wait()
        finally:
            if waiter.slot.abandoned and waiter in self._waiters:
                del self._waiters[waiter]
                if not self._waiters:
                    self._engine.interrupt()
        return []

    def hand_back(self, received: Received, how: Return, delay: float = 0.0) -> Slot[bool]:
        """Give an item to the queue again, before anything more is asked of it; the slot holds
        whether it was still this process's to give."""
        return self._returns.submit_soon((received, how, delay))

    async def drained(self) -> None:
        """End the fetch that is under way, and wait until what it brought has gone back."""
        self._fail(ConnectionLostError("this manager is closed"))
        self._engine.interrupt()
        while self._fetched is not None:
            await self._fetched.wait()
        await self._at_once.drained()
        await self._returns.drained()

    # -- inside -------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._fetched is None:
            self._fetched = anyio.Event()
            spawn(self._fetch)

    async def _fetch(self) -> None:
        try:
            while self._waiters:
                try:
                    await self._fetch_for_waiters()
                except Exception as exc:
                    self._fail(exc)
        finally:
            fetched, self._fetched = self._fetched, None
            if fetched is not None:
                fetched.set()

    async def _fetch_for_waiters(self) -> None:
        # What goes back comes before what was put after it.
        await self._returns.drained()
        waiters = list(itertools.islice(self._waiters, FETCH_ITEMS))
        if not waiters:
            return
        wanted = min(sum(waiter.count for waiter in waiters), FETCH_ITEMS)
        # Not for longer than they do: a stock host goes on waiting when they have left.
        left = max(waiter.deadline for waiter in waiters) - anyio.current_time()
        timeout = None if left == math.inf else max(SHORTEST_WAIT, left)
        rest = deque(await self._engine.receive(wanted, timeout).wait())
        shares: list[Share] = []
        while rest and self._waiters:
            waiter, _ = self._waiters.popitem(last=False)
            shares.append((waiter, _cut(rest, waiter.count)))
        for received in rest:
            self.hand_back(received, "return")
        lost: list[_Waiter] = []
        for (waiter, share), mine in zip(shares, await self._owned(shares), strict=True):
            if isinstance(mine, Exception):
                waiter.slot.fail(mine)
            elif mine or not share:
                waiter.slot.set(mine)
            elif not waiter.slot.abandoned:
                lost.append(waiter)
        for waiter in reversed(lost):
            # What they were given is in somebody else's hands: they go on waiting, in their place.
            self._waiters[waiter] = None
            self._waiters.move_to_end(waiter, last=False)

    def _fetch_now(self, waiters: Sequence[_Waiter]) -> Slot[list[list[Received] | Exception]]:
        return begin(lambda: self._fetch_at_once(waiters))

    async def _fetch_at_once(self, waiters: Sequence[_Waiter]) -> list[list[Received] | Exception]:
        await self._returns.drained()
        wanted = sum(waiter.count for waiter in waiters)
        rest = deque(await self._engine.receive(wanted, 0).wait())
        return await self._owned([(waiter, _cut(rest, waiter.count)) for waiter in waiters])

    def _fail(self, error: Exception) -> None:
        waiters, self._waiters = self._waiters, OrderedDict()
        for waiter in waiters:
            waiter.slot.fail(error)

    async def _owned(self, shares: Iterable[Share]) -> list[list[Received] | Exception]:
        """Make leases the property of those who take. Only what the host confirms is given to
        them: a lease that ended meanwhile has put the item in somebody else's hands."""
        settlements: list[Settlement] = [
            (received.delivery_id, "take", 0.0)
            for waiter, share in shares
            if waiter.take
            for received in share
        ]
        try:
            kept = iter(
                await self._engine.settle(settlements, "take").wait() if settlements else ()
            )
        except Exception as exc:
            return [exc if waiter.take else share for waiter, share in shares]
        return [
            [received for received in share if next(kept)] if waiter.take else share
            for waiter, share in shares
        ]

    def _send_back(
        self, returns: Sequence[tuple[Received, Return, float]]
    ) -> Slot[list[bool | Exception]]:
        return begin(lambda: self._send_each_back(returns))

    async def _send_each_back(
        self, returns: Sequence[tuple[Received, Return, float]]
    ) -> list[bool | Exception]:
        restored = [received for received, how, _ in returns if how == "restore"]
        # The first to go is the first to be handed out again: keep the order in which they came.
        for received in sorted(restored, key=lambda received: received.delivery_id):
            await self._engine.restore(received).wait()
        settlements: list[Settlement] = [
            (received.delivery_id, how, delay)
            for received, how, delay in returns
            if how != "restore"
        ]
        answers = iter(
            await self._engine.settle(settlements, "return").wait() if settlements else ()
        )
        return [how == "restore" or next(answers) for _, how, _ in returns]


def _cut(rest: deque[Received], count: int) -> list[Received]:
    return [rest.popleft() for _ in range(min(count, len(rest)))]
