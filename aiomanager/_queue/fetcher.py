"""Items between the engine and those who wait for them, first come first served."""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal
from weakref import ref

import anyio

from .._concurrency.batching import Batcher
from .._concurrency.event_loop import call_in, call_soon, current_loop
from .._concurrency.futures import Failure, Future, attempt, replica, start_detached
from .._ground.errors import ConnectionLostError
from ..engines.base import ANSWER_GRACE, QueueEngine, Received, Settlement

# How many items one call to the host asks for at most.
FETCH_ITEMS = 1024

# So many waiters are half of many: they are fetched for while the others take what they have got.
# With fewer, messages more cost what that brings.
MANY = 64

# A wait that is about to end is not cut shorter than this, in seconds.
SHORTEST_WAIT = 0.01

# What a stock host has sent comes within this, in seconds.
TRANSIT = 0.05

# How an item that was received goes back: after a nack; not looked at; as one that cannot be
# unpickled; and not looked at, or not to be unpickled, by the one who had taken it already.
Return = Literal["nack", "return", "reject", "restore", "reject taken"]


class _Waiter(Future[list[Received]]):
    """Somebody who waits for up to `count` items, to take them or to hold a lease on them."""

    __slots__ = ("count", "deadline", "take")
    count: int
    deadline: float
    take: bool


# Whether it is to be taken, and what somebody was given.
Share = tuple[bool, list[Received]]

# What somebody gets: items, none, or an error.
Outcome = list[Received] | Failure


class Fetcher:
    """One fetch for all waiters of a queue, under way only while somebody waits: waiting costs
    neither a thread nor a connection each. An item that a fetch brought back always belongs to
    exactly one of its waiter, the next waiter in line, and the queue again.

    The way of an item:

    1. `receive` enters a waiter at the end of the line. If no fetch is under way, one is gathered:
       it starts after one turn of the event loop, for all who came in that turn.
    2. The engine's `receive` brings up to as many items as were wanted (`_arrived`). Each waiter
       gets its share, first come, first served; items for waiters who have left are handed back.
    3. Shares of waiters who take (`get`) are taken at the host in one message (`_take`), in the
       order of the fetches. A waiter gets only those items that the host confirms; a waiter who
       gets none goes back to its place in the line.
    4. The waiter wakes (`_deal`). If it was cancelled in the meantime, `discard` hands its items
       back (`hand_back`), before anything more is asked of the queue.

    If MANY waiters are in line and messages are cheap, the next fetch starts at step 2 and not
    after step 4: one half is fetched for while the other half takes its items.
    """

    def __init__(self, engine: QueueEngine) -> None:
        self._engine = engine
        self._waiters: OrderedDict[_Waiter, None] = OrderedDict()  # in the order of their coming
        self._served: list[_Waiter] = []  # those for whom items are being taken, in order
        self._fetching = False  # a fetch is on its way, or is gathering
        self._gathering = False
        self._many = MANY if engine.messages_are_cheap else FETCH_ITEMS
        self._enough = self._many  # waiters who are fetched for without gathering more
        self._dealt: anyio.Event | None = None  # there while somebody waits for a fetch to end
        # One at a time, whatever was fetched meanwhile.
        self._takes: Batcher[Sequence[Share], list[Outcome]] = Batcher(self._take, limit=1)
        # Those who do not wait: what is there now, for all who ask now.
        self._at_once: Batcher[tuple[int, bool], list[Received]]
        self._at_once = Batcher(self._fetch_now, revocable=True)
        self._returns: Batcher[tuple[Received, Return, float], bool] = Batcher(
            self._send_back, patience=engine.patience
        )
        self._loop = ref(current_loop())
        # What finalizers have left for the event loop to give back.
        self._left: deque[tuple[Received, Return]] = deque()

    async def receive(self, count: int, timeout: float | None, *, take: bool) -> list[Received]:
        """Wait for items, up to `timeout` seconds; an empty list where none came.

        Cancelled, it has received nothing: what was on its way goes to the next waiter here or
        back to the queue.
        """
        if self._left:
            self._collect()  # what goes back comes before what is asked for now
        discard = self._taken_for_nobody if take else self._leased_for_nobody
        if timeout is not None and timeout <= 0:
            return await self._receive_now(count, take, discard)
        waiter = _Waiter(discard)
        waiter.count, waiter.take = count, take
        waiter.deadline = math.inf if timeout is None else anyio.current_time() + timeout
        self._waiters[waiter] = None
        if not self._fetching:
            self._gather()
        elif self._gathering and len(self._waiters) >= self._enough:
            self._fetch()
        try:
            if timeout is None:  # a scope costs as much as all the rest
                return await waiter.wait()
            with anyio.move_on_after(timeout):
                return await waiter.wait()
        finally:
            if waiter.abandoned and waiter in self._waiters:
                del self._waiters[waiter]
                if not self._waiters:
                    self._engine.interrupt()
        return []

    def hand_back(self, received: Received, how: Return, delay: float = 0.0) -> Future[bool]:
        """Give an item to the queue again, before anything more is asked of it; the future holds
        whether it was still this process's to give."""
        if _is_taken(how):
            self._engine.left(received)
        return self._returns.submit_soon((received, how, delay))

    def leave_behind(self, received: Received, how: Return) -> None:
        """`hand_back` for finalizers, which run on any thread and in the middle of anything: the
        event loop does it, soon, before it asks for more. Without one the lease ends with its
        connection."""
        self._left.append((received, how))
        loop = self._loop()
        if loop is not None:
            call_in(loop, self._collect)

    def _collect(self) -> None:
        while self._left:
            self.hand_back(*self._left.popleft())

    async def drained(self) -> None:
        """End the fetch that is under way, and wait until what it brought has gone back."""
        self._collect()
        self._fail(ConnectionLostError("this manager is closed"))
        self._engine.interrupt()
        await self._nothing_on_its_way()
        await self._takes.drained()
        await self._at_once.drained()
        await self._returns.drained()

    # -- for those who wait -------------------------------------------------------------------

    def _gather(self) -> None:
        """Fetch for all who begin to wait in this turn of the event loop."""
        self._fetching = self._gathering = True
        call_soon(self._gathered)

    def _gathered(self) -> None:
        if self._gathering:  # they may have been enough before
            self._fetch()

    def _fetch(self) -> None:
        self._gathering = False
        waiters = list(itertools.islice(self._waiters, FETCH_ITEMS))
        if waiters:
            self._enough = max(self._many, len(waiters) // 2)
            wanted = sum(waiter.count for waiter in waiters)
            deadline = max(waiter.deadline for waiter in waiters)
            timeout = None
            if deadline != math.inf:
                # Not for longer than they do: a stock host goes on waiting when they have left.
                timeout = max(SHORTEST_WAIT, deadline - anyio.current_time())
            self._receive(wanted, timeout).add_done_callback(self._arrived)
            return
        self._fetching = False
        self._tell_dealt()

    def _tell_dealt(self) -> None:
        if self._dealt is not None:
            self._dealt.set()
            self._dealt = None

    def _arrived(self, fetched: Future[list[Received]]) -> None:
        if fetched.error is not None:
            self._fail(fetched.error)
            self._fetch()
            return
        items: list[Received] = fetched.value
        waiters: list[_Waiter] = []
        shares: list[Share] = []
        start = 0
        while start < len(items) and self._waiters:
            waiter, _ = self._waiters.popitem(last=False)
            waiters.append(waiter)
            shares.append((waiter.take, items[start : start + waiter.count]))
            start += waiter.count
        for received in items[start:]:
            self.hand_back(received, "return")
        self._served += waiters
        ahead = start > 0 and len(self._waiters) >= self._enough
        self._takes.submit_soon(shares).add_done_callback(partial(self._deal, waiters, ahead))
        if ahead:
            self._fetch()

    def _take(self, batch: Sequence[Sequence[Share]]) -> Future[list[list[Outcome]]]:
        return self._owned(batch[0], "take").map(lambda outcomes: [outcomes])

    def _deal(self, waiters: Sequence[_Waiter], ahead: bool, taking: Future[list[Outcome]]) -> None:
        """Give each what is theirs now. The next fetch is for them too, where it is not `ahead`."""
        del self._served[: len(waiters)]  # takes are answered in their order
        lost: list[_Waiter] = []
        outcomes: Sequence[Outcome]
        if taking.error is None:
            outcomes = taking.value
        else:
            outcomes = [Failure(replica(taking.error)) for _ in waiters]
        for waiter, outcome in zip(waiters, outcomes, strict=True):
            if outcome:
                waiter.set_outcome(outcome)
            elif not waiter.abandoned:
                lost.append(waiter)
        for waiter in reversed(lost):
            # What they were given is in somebody else's hands: they go on waiting, in their place.
            self._waiters[waiter] = None
            self._waiters.move_to_end(waiter, last=False)
        self._tell_dealt()
        if ahead and self._fetching:
            return
        if self._waiters:
            self._gather()
        else:
            self._fetch()

    def _fail(self, error: Exception) -> None:
        waiters, self._waiters = self._waiters, OrderedDict()
        for waiter in waiters:
            waiter.set_exception(replica(error))

    # -- for those who do not -----------------------------------------------------------------

    async def _receive_now(
        self, count: int, take: bool, discard: Callable[[Sequence[Received]], None]
    ) -> list[Received]:
        asked = self._at_once.submit_soon((count, take), discard)
        with anyio.move_on_after(ANSWER_GRACE):
            return await asked.wait()
        raise ConnectionLostError(
            f"the host has not answered within {ANSWER_GRACE:g} s; nothing was taken"
        )

    def _fetch_now(self, wishes: Sequence[tuple[int, bool]]) -> Future[list[Outcome]]:
        return start_detached(lambda: self._fetch_at_once(wishes))

    async def _fetch_at_once(self, wishes: Sequence[tuple[int, bool]]) -> list[Outcome]:
        wanted = sum(count for count, _ in wishes)
        items = iter(await self._receive_what_is_there(wanted))
        shares = [(take, list(itertools.islice(items, count))) for count, take in wishes]
        return await self._owned(shares, "take at once").wait()

    async def _receive_what_is_there(self, wanted: int) -> list[Received]:
        """What is on its way for somebody who has left is there, too, and comes first."""
        if self._engine.ends_waits_at_once:
            await self._nothing_on_its_way()
            return await self._receive(wanted, 0).wait()
        items = await self._receive(wanted, 0).wait()
        if not items and self._something_for_nobody():
            # A wait that found something before this call did has it on its way already.
            with anyio.move_on_after(TRANSIT):
                await self._nothing_on_its_way()
            items = await self._receive(wanted, 0).wait()
        return items

    def _something_for_nobody(self) -> bool:
        """Whether something is on its way for somebody who has left."""
        if self._served:
            return any(waiter.abandoned for waiter in self._served)
        return self._fetching and not self._waiters

    async def _nothing_on_its_way(self) -> None:
        """Wait while something is on its way that nobody waits for any more."""
        while self._something_for_nobody():
            if self._dealt is None:
                self._dealt = anyio.Event()
            await self._dealt.wait()

    # -- for both -----------------------------------------------------------------------------

    def _receive(self, wanted: int, timeout: float | None) -> Future[list[Received]]:
        wanted = min(wanted, FETCH_ITEMS)
        if self._returns.idle:
            return attempt(lambda: self._engine.receive(wanted, timeout))
        return start_detached(lambda: self._receive_after_returns(wanted, timeout))

    async def _receive_after_returns(self, wanted: int, timeout: float | None) -> list[Received]:
        """What goes back comes before what was put after it."""
        await self._returns.drained()
        return await self._engine.receive(wanted, timeout).wait()

    def _owned(self, shares: Sequence[Share], channel: str) -> Future[list[Outcome]]:
        """Make leases the property of those who take. Only what the host confirms is given to
        them: a lease that ended meanwhile has put the item in somebody else's hands."""
        takes = [received for take, share in shares if take for received in share]
        owned: Future[list[Outcome]] = Future()

        def taken(taking: Future[list[bool]]) -> None:
            answers: Sequence[bool] = taking.value
            if taking.error is not None:
                error = taking.error
                owned.set_result(
                    [Failure(replica(error)) if take else share for take, share in shares]
                )
            elif all(answers):
                owned.set_result([share for _, share in shares])
            else:
                mine = iter(answers)
                owned.set_result([
                    [received for received in share if next(mine)] if take else share
                    for take, share in shares
                ])  # fmt: skip

        if takes:
            attempt(lambda: self._engine.take(takes, channel)).add_done_callback(taken)
        else:
            owned.set_result([share for _, share in shares])
        return owned

    def _taken_for_nobody(self, share: Sequence[Received]) -> None:
        for received in share:
            self.hand_back(received, "restore")

    def _leased_for_nobody(self, share: Sequence[Received]) -> None:
        for received in share:
            self.hand_back(received, "return")

    def _send_back(self, returns: Sequence[tuple[Received, Return, float]]) -> Future[list[bool]]:
        return start_detached(lambda: self._send_each_back(returns))

    async def _send_each_back(
        self, returns: Sequence[tuple[Received, Return, float]]
    ) -> list[bool]:
        restored = [(received, how) for received, how, _ in returns if _is_taken(how)]
        restored.sort(key=lambda pair: pair[0].order)  # stock hosts have no other order
        for received, how in restored:
            await self._engine.restore(received, rejected=how == "reject taken").wait()
        settlements: list[Settlement] = [
            (received.handle, how, delay)
            for received, how, delay in returns
            if how != "restore" and how != "reject taken"  # noqa: PLR1714 - narrows the type
        ]
        answers = iter(
            await self._engine.settle(settlements, "return").wait() if settlements else ()
        )
        return [_is_taken(how) or next(answers) for _, how, _ in returns]


def _is_taken(how: Return) -> bool:
    return how in ("restore", "reject taken")
