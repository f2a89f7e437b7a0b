"""The hosted queue: what happens to an item between a put and its end.

One thread, no locks, no I/O and no clock of its own: a call either answers at once or parks, and
answers later through the `reply` that came with it. The host's selector loop drives it over
sockets, `memory://` drives it in one process, and the tests drive it against a model.

Where an item can be, and nowhere else:

    put -> ready (in order) -> leased to an owner -> acknowledged: gone
             ^  ^                 |    |
             |  +--- delayed <----+    +--> taken: its receiver's from now on, counted for `join`
             +------ returned  <--+         until `task_done`
                     (before all that is ready)

An owner is whoever receives (the host: one connection). When an owner is lost, what it leased
returns, what it waited for is forgotten, and nothing is handed to it any more.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ._errors import QueueShutDown

Data = bytes | memoryview

# Called once with the answer; an exception instance is the answer of a call that failed. Returns
# False where the one who asked is gone, so that what the answer carried has to be kept.
Reply = Callable[[Any], bool]

Action = Literal["ack", "take", "nack", "return"]
Settlement = tuple[int, Action, float]


class Timer(Protocol):
    def cancel(self) -> None: ...


class Timers(Protocol):
    """A monotonic clock, and calls at a time of it."""

    def time(self) -> float: ...
    def call_at(self, when: float, callback: Callable[[], None]) -> Timer: ...


@dataclass(slots=True)
class Item:
    data: Data
    number: int  # the place in the order of puts, which a returned item keeps
    attempt: int = 0  # how often it was handed out


@dataclass(slots=True)
class Lease:
    item: Item
    owner: Hashable
    timer: Timer | None = None


@dataclass(slots=True, eq=False)
class Parked:
    """A call that waits: for items (count), for room (frames), or for the queue to be done."""

    owner: Hashable
    ticket: Hashable
    reply: Reply
    count: int = 0
    lease: bool = True
    frames: deque[Data] | None = None
    accepted: int = 0
    timer: Timer | None = None


class HostedQueue:
    """One queue of a host.

    Args:
        timers: the clock and the calls at a time that the driver provides.
        maxsize: how many items may wait, 0 for any number.
        lease_timeout: seconds after which a delivery that is not settled returns though its owner
            is alive; None for never.
    """

    def __init__(
        self, timers: Timers, maxsize: int = 0, *, lease_timeout: float | None = None
    ) -> None:
        self.maxsize = maxsize
        self.lease_timeout = lease_timeout
        self.is_shutdown = False
        self._dropping = False  # shut down at once: what would return is dropped
        self._timers = timers
        self._ready: deque[Item] = deque()
        self._returned: list[tuple[int, int, Item]] = []  # a heap, by place in the order of puts
        self._delayed: dict[int, tuple[Item, Timer]] = {}
        self._leases: dict[int, Lease] = {}
        self._owned: dict[Hashable, set[int]] = {}
        self._taken = 0
        self._getters: deque[Parked] = deque()
        self._putters: deque[Parked] = deque()
        self._joiners: deque[Parked] = deque()
        self._numbers = itertools.count(1)
        self._returns = itertools.count()
        # Ids of one run of a host mean nothing to the next: a late settlement must not match.
        self._delivery_ids = itertools.count(random.getrandbits(48) << 14)
        self._puts = self._deliveries = self._redeliveries = self._done = 0

    # -- looking ------------------------------------------------------------------------------

    def qsize(self) -> int:
        """Items that wait to be received, delayed ones included."""
        return len(self._ready) + len(self._returned) + len(self._delayed)

    def empty(self) -> bool:
        return not self.qsize()

    def full(self) -> bool:
        return 0 < self.maxsize <= self.qsize()

    @property
    def unfinished(self) -> int:
        """Items that `join` waits for."""
        return self.qsize() + len(self._leases) + self._taken

    def statistics(self) -> dict[str, int | bool]:
        return {
            "qsize": self.qsize(),
            "maxsize": self.maxsize,
            "unfinished": self.unfinished,
            "leased": len(self._leases),
            "delayed": len(self._delayed),
            "waiting_getters": sum(parked.count for parked in self._getters),
            "waiting_putters": sum(len(parked.frames or ()) for parked in self._putters),
            "puts": self._puts,
            "deliveries": self._deliveries,
            "redeliveries": self._redeliveries,
            "done": self._done,
            "is_shutdown": self.is_shutdown,
        }

    # -- putting ------------------------------------------------------------------------------

    def put(
        self,
        frames: Sequence[Data],
        timeout: float | None,
        reply: Reply,
        *,
        owner: Hashable = None,
        ticket: Hashable = None,
    ) -> None:
        """Append frames in order, waiting for room up to `timeout` seconds (None: for ever).

        Replies the number of frames that were appended: all, or the first few where the time was
        up, the call was cancelled or the queue was shut down meanwhile.
        """
        if self.is_shutdown:
            reply(QueueShutDown("the queue was shut down; nothing more can be put"))
            return
        parked = Parked(owner, ticket, reply, frames=deque(frames))
        self._putters.append(parked)
        self._move()
        if parked.frames:
            self._park(parked, self._putters, timeout)

    def restore(self, data: Data, attempt: int) -> None:
        """Undo a take: the item is again the first to be received, and no longer taken."""
        self._taken = max(0, self._taken - 1)
        self._return(Item(data, 0, max(0, attempt - 1)))
        self._move()

    # -- receiving ----------------------------------------------------------------------------

    def receive(
        self,
        count: int,
        timeout: float | None,
        reply: Reply,
        *,
        owner: Hashable = None,
        ticket: Hashable = None,
        lease: bool = True,
    ) -> None:
        """Hand out up to `count` items, waiting for the first up to `timeout` seconds.

        Replies a list of (delivery id, attempt, data), empty where the time was up or the call
        was cancelled; `QueueShutDown` where no item can come any more. Without `lease` the items
        are the receiver's at once.
        """
        parked = Parked(owner, ticket, reply, count=count, lease=lease)
        self._getters.append(parked)
        self._move()
        if parked in self._getters:
            self._park(parked, self._getters, timeout)

    def settle(self, settlements: Iterable[Settlement], *, owner: Hashable = None) -> list[bool]:
        """End leases; for each, whether it was still the owner's.

        ack: the item is done. take: it is the receiver's, `task_done` will count it. nack: it
        returns, after the given seconds. return: it was never looked at, and returns as if it
        had not been handed out.
        """
        answers = [self._settle(owner, *settlement) for settlement in settlements]
        self._move()
        return answers

    def move(
        self, delivery_id: int, target: HostedQueue, data: Data, *, owner: Hashable = None
    ) -> bool:
        """End a lease by putting `data` in the target queue, room or not, in one step."""
        if not self._settle(owner, delivery_id, "ack", 0.0):
            return False
        target._append(data)
        target._move()
        self._move()
        return True

    def task_done(self, count: int = 1) -> None:
        """Count taken items as done. Raises ValueError where fewer are out than that."""
        if count > self._taken:
            raise ValueError("task_done() called too many times")
        self._taken -= count
        self._done += count
        self._move()

    def join(
        self,
        timeout: float | None,
        reply: Reply,
        *,
        owner: Hashable = None,
        ticket: Hashable = None,
    ) -> None:
        """Reply True once every item is done; False where the time was up or it was cancelled."""
        parked = Parked(owner, ticket, reply)
        self._joiners.append(parked)
        self._move()
        if parked in self._joiners:
            self._park(parked, self._joiners, timeout)

    # -- endings ------------------------------------------------------------------------------

    def cancel(self, owner: Hashable, ticket: Hashable) -> None:
        """Let a parked call answer now, with what it has."""
        for line in (self._getters, self._putters, self._joiners):
            for parked in line:
                if parked.owner == owner and parked.ticket == ticket:
                    self._give_up(parked, line)
                    return

    def owner_lost(self, owner: Hashable) -> None:
        """Nobody is there any more: forget what it waited for, return what it leased."""
        for line in (self._getters, self._putters, self._joiners):
            for parked in [parked for parked in line if parked.owner == owner]:
                self._leave(parked, line)
                if parked.frames is not None:
                    parked.reply(parked.accepted)
        for delivery_id in self._owned.pop(owner, ()):
            self._return(self._end_lease(delivery_id).item)
        self._move()

    def shutdown(self, immediate: bool = False) -> None:
        """Refuse puts from now on; end receives once nothing can come, or now if `immediate`,
        which drops the items that nobody has received."""
        self.is_shutdown = True
        while self._putters:
            parked = self._putters[0]
            self._leave(parked, self._putters)
            parked.reply(
                parked.accepted or QueueShutDown("the queue was shut down while waiting for room")
            )
        if immediate:
            self._dropping = True
            self._done += self.qsize()
            self._ready.clear()
            self._returned.clear()
            for _, timer in self._delayed.values():
                timer.cancel()
            self._delayed.clear()
        self._move()

    # -- inside -------------------------------------------------------------------------------

    def _move(self) -> None:
        """The only place where parked calls meet items, room and the end of work."""
        while True:
            while self._putters and not self.full():
                parked = self._putters[0]
                if parked.frames:
                    self._append(parked.frames.popleft())
                    parked.accepted += 1
                if not parked.frames:
                    self._leave(parked, self._putters)
                    parked.reply(parked.accepted)
            if not self._getters or not (self._ready or self._returned):
                break
            parked = self._getters[0]
            self._leave(parked, self._getters)
            self._hand_out(parked)
        # While something is leased or delayed it may still come back, so receivers wait for it.
        if self._dropping or (self.is_shutdown and not self.qsize() and not self._leases):
            self._end(self._getters, QueueShutDown("the queue was shut down and is empty"))
        if not self.unfinished:
            self._end(self._joiners, True)

    def _end(self, line: deque[Parked], answer: object) -> None:
        while line:
            parked = line[0]
            self._leave(parked, line)
            parked.reply(answer)

    def _append(self, data: Data) -> None:
        self._ready.append(Item(data, next(self._numbers)))
        self._puts += 1

    def _return(self, item: Item) -> None:
        if self._dropping:
            self._done += 1
        else:
            heapq.heappush(self._returned, (item.number, next(self._returns), item))

    def _hand_out(self, parked: Parked) -> None:
        items: list[Item] = []
        while len(items) < parked.count and (self._returned or self._ready):
            items.append(
                heapq.heappop(self._returned)[-1] if self._returned else self._ready.popleft()
            )
        deliveries = []
        for item in items:
            delivery_id = next(self._delivery_ids)
            item.attempt += 1
            deliveries.append((delivery_id, item.attempt, item.data))
            if parked.lease:
                self._lease(delivery_id, item, parked.owner)
        if not parked.lease:
            self._taken += len(items)
        if parked.reply(deliveries):
            self._deliveries += len(items)
            self._redeliveries += sum(item.attempt > 1 for item in items)
            return
        # The receiver is gone. What it leased returns with its other leases.
        if not parked.lease:
            self._taken -= len(items)
            for item in items:
                item.attempt -= 1
                self._return(item)

    def _lease(self, delivery_id: int, item: Item, owner: Hashable) -> None:
        lease = self._leases[delivery_id] = Lease(item, owner)
        self._owned.setdefault(owner, set()).add(delivery_id)
        if self.lease_timeout is not None:
            lease.timer = self._timers.call_at(
                self._timers.time() + self.lease_timeout, lambda: self._expire(delivery_id)
            )

    def _expire(self, delivery_id: int) -> None:
        self._return(self._end_lease(delivery_id).item)
        self._move()

    def _end_lease(self, delivery_id: int) -> Lease:
        lease = self._leases.pop(delivery_id)
        owned = self._owned.get(lease.owner)
        if owned is not None:
            owned.discard(delivery_id)
            if not owned:
                del self._owned[lease.owner]
        if lease.timer is not None:
            lease.timer.cancel()
        return lease

    def _settle(self, owner: Hashable, delivery_id: int, action: Action, delay: float) -> bool:
        lease = self._leases.get(delivery_id)
        if lease is None or lease.owner != owner:
            return False
        item = self._end_lease(delivery_id).item
        if action == "take":
            self._taken += 1
        elif action == "ack":
            self._done += 1
        elif action == "return":
            item.attempt -= 1
            self._return(item)
        elif delay > 0 and not self._dropping:
            timer = self._timers.call_at(self._timers.time() + delay, lambda: self._due(item))
            self._delayed[id(item)] = (item, timer)
        else:
            self._return(item)
        return True

    def _due(self, item: Item) -> None:
        del self._delayed[id(item)]
        self._return(item)
        self._move()

    def _park(self, parked: Parked, line: deque[Parked], timeout: float | None) -> None:
        if timeout is not None and timeout <= 0:
            self._give_up(parked, line)
        elif timeout is not None:
            parked.timer = self._timers.call_at(
                self._timers.time() + timeout, lambda: self._give_up(parked, line)
            )

    def _give_up(self, parked: Parked, line: deque[Parked]) -> None:
        self._leave(parked, line)
        if line is self._getters:
            parked.reply([])
        elif line is self._putters:
            parked.reply(parked.accepted)
        else:
            parked.reply(False)

    @staticmethod
    def _leave(parked: Parked, line: deque[Parked]) -> None:
        line.remove(parked)
        if parked.timer is not None:
            parked.timer.cancel()
