"""Where the items of a queue are, and how they get from one place to another.

An item is in the backlog, or leased to an owner, or its taker's. Of calls that wait this knows
nothing: `HostedQueue` is told where they may be served.
"""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Literal

from .._ground.errors import QueueShutDown
from .backlog import NO_NUMBER, Backlog, Data, Item, Timers
from .leases import Leases
from .takes import Takes
from .waiters import Reply

logger = logging.getLogger("aiomanager.host")

# "reject": its owner cannot unpickle it.
Action = Literal["ack", "nack", "return", "reject"]
Settlement = tuple[int, Action, float]

# Without a dead-letter queue, an item that nobody can unpickle is handed out again after a pause in
# seconds, twice as long each time up to the longest, so that others get past it.
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 60.0


class Places(ABC):
    """The items of one queue. The arguments are those of `HostedQueue`."""

    def __init__(
        self,
        timers: Timers,
        maxsize: int = 0,
        *,
        lease_timeout: float | None = None,
        name: str = "",
        max_deliveries: int = 20,
        dead_letter: Callable[[Item], None] | None = None,
        max_unsettled: float = math.inf,
        max_unsettled_bytes: float = math.inf,
    ) -> None:
        self.maxsize = maxsize
        self.name = name
        self._max_deliveries = max_deliveries
        self._dead_letter = dead_letter
        self.is_shutdown = False
        self._dropping = False  # shut down at once: what would return is dropped
        self._timers = timers
        self._backlog = Backlog(timers, self._move)
        self._leases = Leases(
            timers,
            lease_timeout,
            self._expired,
            limit=max_unsettled,
            limit_bytes=max_unsettled_bytes,
        )
        self._takes = Takes()
        self._puts = self._deliveries = self._redeliveries = self._done = 0

    # -- looking ------------------------------------------------------------------------------

    def qsize(self) -> int:
        """Items that wait to be received, delayed ones included."""
        return len(self._backlog)

    def empty(self) -> bool:
        """Whether no item waits to be received."""
        return not self._backlog

    def full(self) -> bool:
        """Whether a put would have to wait for room."""
        return 0 < self.maxsize <= len(self._backlog)

    @property
    def unfinished(self) -> int:
        """Items that `join` waits for."""
        return len(self._backlog) + len(self._leases) + self._takes.total

    @property
    def _taken(self) -> int:
        return self._takes.total

    def statistics(self) -> dict[str, int | bool]:
        """What there is now, and what there was in all."""
        return {
            "qsize": self.qsize(),
            "maxsize": self.maxsize,
            "unfinished": self.unfinished,
            "leased": len(self._leases),
            "delayed": self._backlog.delayed,
            "puts": self._puts,
            "deliveries": self._deliveries,
            "redeliveries": self._redeliveries,
            "done": self._done,
            "is_shutdown": self.is_shutdown,
        }

    def settle(self, settlements: Iterable[Settlement], *, owner: Hashable = None) -> list[bool]:
        """End leases; for each, whether it was still the owner's.

        ack: it is done. nack: it returns, after the given seconds. return: it was never looked at,
        and returns as if it had not been handed out. reject: its owner cannot unpickle it.
        """
        answers = [self._settle(owner, *settlement) for settlement in settlements]
        self._settled(owner)
        return answers

    def take(
        self,
        delivery_ids: Sequence[int],
        *,
        owner: Hashable = None,
        holder: Hashable = None,
        channel: Hashable = None,
    ) -> list[bool]:
        """Make leased items the holder's, for `task_done` to count; answers as `settle`.

        Args:
            channel: where the holder may not have read the answer before it takes again there, or
                says that it has; None where it has at once.
        """
        set(delivery_ids)  # refuses what is no id before the first item is out of its lease
        taken: dict[int, Item] = {}
        answers: list[bool] = []
        for delivery_id in delivery_ids:
            item = self._leases.end(owner, delivery_id)
            answers.append(item is not None)
            if item is not None:
                taken[delivery_id] = item
        self._takes.take(holder, channel, taken)
        self._settled(owner)
        return answers

    def read(
        self,
        channels: Iterable[Hashable] | None = None,
        *,
        holder: Hashable = None,
        last: int | None = None,
    ) -> None:
        """A holder has read the last answers to its takes in these channels, or in all. Where it
        names the `last` delivery of these, it may not have read of those after it."""
        self._takes.read(holder, channels, last)

    def move(self, delivery_id: int, target: Places, data: Data, *, owner: Hashable = None) -> bool:
        """End a lease by putting `data` in the target queue, room or not, in one step; whether
        the lease was still the owner's.

        Raises:
            QueueShutDown: the target takes nothing any more; the lease goes on.
        """
        if not self._leases.has(owner, delivery_id):
            return False
        if target.is_shutdown:
            raise QueueShutDown("the queue to move to was shut down; nothing more can be put")
        self._settle(owner, delivery_id, "ack", 0.0)
        target.add(data)
        self._settled(owner)
        return True

    def task_done(self, count: int = 1, *, holder: Hashable = None) -> None:
        """Count items that the holder has taken as done. Raises ValueError where it has fewer."""
        self._takes.done(holder, count)
        self._done += count
        self._move()

    def task_done_up_to(self, count: int, *, holder: Hashable = None) -> int:
        """The same for as many of them as the holder has; returns how many that were."""
        count = min(count, self._takes.count(holder))
        self.task_done(count, holder=holder)
        return count

    # -- undoing ------------------------------------------------------------------------------

    def restore(
        self,
        delivery_id: int,
        data: Data,
        attempt: int,
        *,
        holder: Hashable = None,
        rejected: bool = False,
        again: bool = False,
    ) -> bool:
        """Undo a take: the item is at its place again, as if it had not been handed out; where it
        is `rejected`, its holder could not unpickle it. False where it is not the holder's any
        more, and nothing was changed. `again`: the holder may have said so before.

        What was taken in an earlier run of the host is in nobody's queue: it becomes the first.
        """
        if not self._leases.issued(delivery_id):
            if not self._dropping:
                self._puts += 1
                self._backlog.add_first(data, max(0, attempt - 1))
                self._move()
            return True
        if again:
            item = self._takes.undo(holder, delivery_id, data)
        else:
            item = self._takes.restore(holder, delivery_id, data, attempt)
        if item is None:
            return False
        self._untaken(item, rejected)
        return True

    def undeliver(self, item: Item) -> None:
        """Undo what `receive` without a lease has handed out: it did not arrive."""
        if self._takes.undone():
            self._untaken(item, False)

    # -- inside -------------------------------------------------------------------------------

    @abstractmethod
    def add(self, data: Data) -> None:
        """Append an item, room or not."""

    @abstractmethod
    def _move(self) -> None:
        """Let calls that wait meet what there is now."""

    @abstractmethod
    def _settled(self, owner: Hashable) -> None:
        """An owner has ended leases."""

    @abstractmethod
    def _expired(self, items: list[Item]) -> None:
        """The time of these leases is over."""

    def _append(self, frames: Sequence[Data]) -> None:
        self._backlog.append(frames)
        self._puts += len(frames)

    def _hand_out(self, reply: Reply, owner: Hashable, count: int, lease: bool) -> None:
        if lease:
            most, size = self._leases.room(owner)
            items = self._backlog.take(min(count, most), size)
        else:
            items = self._backlog.take(count)
        for item in items:
            item.attempt += 1
            self._redeliveries += item.attempt > 1
        self._deliveries += len(items)
        if lease:
            ids = self._leases.grant(owner, items)
            handed_out = [(i, item.attempt, item.data) for i, item in zip(ids, items, strict=True)]
            if not reply(handed_out):
                # The receiver is gone and has seen nothing of this.
                for delivery_id in ids:
                    self._settle(owner, delivery_id, "return", 0.0)
            return
        self._takes.add(None, len(items))
        if not reply([(item, item.attempt, item.data) for item in items]):
            for item in items:
                self._takes.undone()
                item.attempt -= 1
            self._return(items)

    def _settle(self, owner: Hashable, delivery_id: int, action: Action, delay: float) -> bool:
        delay = float(delay)  # refuses what is no time before the item is out of its lease
        item = self._leases.end(owner, delivery_id)
        if item is None:
            return False
        if action == "ack":
            self._done += 1
        elif action == "nack" and delay > 0 and not self._dropping:
            self._backlog.delay(item, delay)
        elif action == "reject":
            self._rejected(item)
        else:
            item.attempt -= action == "return"
            self._return([item])
        return True

    def _return(self, items: Iterable[Item]) -> None:
        for item in items:
            if self._dropping:
                self._done += 1
            elif item.number == NO_NUMBER:
                self._backlog.add_first(item.data, item.attempt)
            else:
                self._backlog.give_back(item)

    def _untaken(self, item: Item, rejected: bool) -> None:
        if rejected:
            self._rejected(item)
        else:
            item.attempt = max(0, item.attempt - 1)
            self._return([item])
        self._move()

    def _lost(self, items: Iterable[Item]) -> None:
        """Nobody said what became of these. What loses its owner again and again may be what ends
        them."""
        for item in items:
            item.losses += 1
            self._hand_out_again(item, 0.0)

    def _rejected(self, item: Item) -> None:
        """Whoever had it could not unpickle it."""
        item.rejects += 1
        pause = FIRST_PAUSE * 2.0 ** min(item.rejects - 2, 30) if item.rejects > 1 else 0.0
        self._hand_out_again(item, min(pause, LONGEST_PAUSE) if self._dead_letter is None else 0.0)

    def _hand_out_again(self, item: Item, pause: float) -> None:
        if self._dead_letter is not None and item.losses + item.rejects >= self._max_deliveries:
            self._done += 1
            self._dead_letter(item)
        elif pause and not self._dropping:
            self._backlog.delay(item, pause)
        else:
            self._return([item])
