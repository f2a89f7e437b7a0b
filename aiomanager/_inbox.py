"""Items between the engine and those who wait for them, first come first served."""

from __future__ import annotations

import contextlib
import itertools
from collections import OrderedDict, deque
from collections.abc import Sequence

import anyio

from ._errors import AioManagerError, ConnectionLostError
from ._tasks import Slot, spawn
from .engines.base import QueueEngine, Received, Settlement

# How many items one call to the host asks for at most.
FETCH_ITEMS = 1024


class _Waiter:
    """Somebody who waits for up to `count` items, to take them or to hold a lease on them."""

    def __init__(self, inbox: Inbox, count: int, take: bool) -> None:
        self.count = count
        self.take = take
        self.taken = False
        self.queued = False  # waits in line, where it goes back if what it was given is lost
        self._inbox = inbox
        self.slot: Slot[list[Received]] = Slot(self._discard)

    def _discard(self, share: list[Received]) -> None:
        self._inbox.hand_back(share, taken=self.taken)


class Inbox:
    """One fetcher for all waiters, running only while somebody waits: so waiting costs neither a
    thread nor a connection each, and what a call brought back always belongs to somebody, the one
    it was for, the next in line, or the queue again."""

    def __init__(self, engine: QueueEngine) -> None:
        self._engine = engine
        self._waiters: OrderedDict[_Waiter, None] = OrderedDict()  # in the order of their coming
        self._fetched: anyio.Event | None = None  # there while the fetcher runs

    async def receive(self, count: int, timeout: float | None, *, take: bool) -> list[Received]:
        """Wait for items, up to `timeout` seconds; an empty list where none came.

        Cancelled, it has received nothing: what was on its way goes to the next waiter here or
        back to the queue.
        """
        waiter = _Waiter(self, count, take)
        if timeout is not None and timeout <= 0:
            spawn(lambda: self._fetch_now(waiter))
            return await waiter.slot.wait()
        waiter.queued = True
        self._waiters[waiter] = None
        self._start()
        try:
            with anyio.move_on_after(timeout):
                return await waiter.slot.wait()
        finally:
            if waiter.slot.abandoned and waiter in self._waiters:
                del self._waiters[waiter]
                if not self._waiters:
                    self._engine.interrupt()
        return []

    def hand_back(self, share: Sequence[Received], *, taken: bool) -> None:
        """Give items that nobody has looked at to the queue again; does not wait for it."""

        async def work() -> None:
            # Where the host is gone they have returned with their leases, or are gone with it.
            with contextlib.suppress(AioManagerError):
                if taken:
                    for received in share:
                        await self._engine.restore(received)
                else:
                    await self._engine.settle(
                        [(received.delivery_id, "return", 0.0) for received in share], "return"
                    )

        spawn(work)

    async def drained(self) -> None:
        """End the fetch that is under way, and wait for what it brings."""
        self._fail(ConnectionLostError("this manager is closed"))
        self._engine.interrupt()
        while self._fetched is not None:
            await self._fetched.wait()

    # -- inside -------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._fetched is None:
            self._fetched = anyio.Event()
            spawn(self._fetch)

    async def _fetch(self) -> None:
        try:
            while self._waiters:
                counts = (waiter.count for waiter in itertools.islice(self._waiters, FETCH_ITEMS))
                try:
                    received = await self._engine.receive(min(sum(counts), FETCH_ITEMS), None)
                    await self._deliver(received)
                except Exception as exc:
                    self._fail(exc)
        finally:
            fetched, self._fetched = self._fetched, None
            if fetched is not None:
                fetched.set()

    async def _fetch_now(self, waiter: _Waiter) -> None:
        try:
            received = await self._engine.receive(waiter.count, 0)
            if waiter.slot.abandoned:
                waiter.slot.set(received)
            elif waiter.take and received:
                await self._take([(waiter, received)])
            else:
                waiter.slot.set(received)
        except Exception as exc:
            waiter.slot.fail(exc)

    def _fail(self, error: Exception) -> None:
        waiters, self._waiters = self._waiters, OrderedDict()
        for waiter in waiters:
            waiter.slot.fail(error)

    async def _deliver(self, received: Sequence[Received]) -> None:
        rest = deque(received)
        taking: list[tuple[_Waiter, list[Received]]] = []
        while rest and self._waiters:
            waiter, _ = self._waiters.popitem(last=False)
            share = [rest.popleft() for _ in range(min(waiter.count, len(rest)))]
            if waiter.take:
                taking.append((waiter, share))
            else:
                waiter.slot.set(share)
        if rest:
            self.hand_back(rest, taken=False)
        if taking:
            await self._take(taking)

    async def _take(self, taking: Sequence[tuple[_Waiter, list[Received]]]) -> None:
        """Make leases the property of those who wait. Only what the host confirms is given to
        them: a lease that ended meanwhile has put the item in somebody else's hands."""
        settlements: list[Settlement] = [
            (received.delivery_id, "take", 0.0) for _, share in taking for received in share
        ]
        try:
            kept = iter(await self._engine.settle(settlements, "take"))
        except Exception as exc:
            for waiter, _ in taking:
                waiter.slot.fail(exc)
            return
        for waiter, share in taking:
            mine = [received for received in share if next(kept)]
            if mine or not waiter.queued:
                waiter.taken = True
                waiter.slot.set(mine)
            elif not waiter.slot.abandoned:
                self._waiters[waiter] = None
                self._waiters.move_to_end(waiter, last=False)
