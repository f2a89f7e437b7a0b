"""Where the items of a queue are, and how they get from one place to another.

An item is in the backlog, or leased to an owner, or its taker's. Of calls that wait this knows
nothing: `HostedQueue` is told where they may be served.

Each way from one place to another hands an event to `record`, where there is one, in the same call
as it changes the place: the events are the places, told as a story (`state.replay`).
"""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

from .._ground.buffers import Buffer
from . import events
from .backlog import Backlog, Item, Timers
from .leases import Leases
from .outcomes import Answers, Caller, Handed
from .state import Holding, Kept, QueueState
from .takes import Takes

logger = logging.getLogger("aiomanager.host")

# Without a dead-letter queue, an item that nobody can unpickle is handed out again after a pause in
# seconds, twice as long each time up to the longest, so that others get past it.
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 60.0

# Takes an item that is given up; returns where what stands for it is to be put, and that; None
# where it has gone another way.
DeadLetter = Callable[[Item], "tuple[Places, Buffer] | None"]


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
        dead_letter: DeadLetter | None = None,
        max_unsettled: float = math.inf,
        max_unsettled_bytes: float = math.inf,
        answers: Answers | None = None,
        record: Callable[[events.Event], object] | None = None,
    ) -> None:
        self.maxsize = maxsize
        self.name = name
        self.answers = Answers() if answers is None else answers
        self._record = record
        self._max_deliveries = max_deliveries
        self._dead_letter = dead_letter
        self.is_shutdown = False
        self.is_dropping = False  # shut down at once: what comes back is dropped
        self._timers = timers
        self._backlog = Backlog(timers, self._move)
        self._leases = Leases(
            timers,
            lease_timeout,
            self._expired,
            limit=max_unsettled,
            limit_bytes=max_unsettled_bytes,
        )
        self._takes = Takes(self._known if record is not None else None)
        self._puts = self._deliveries = self._redeliveries = 0
        self._done: int = 0

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
    def next_number(self) -> int:
        """The number of the next item that is put."""
        return self._backlog.next_number

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

    def state(self) -> QueueState:
        """All of it that is not a waiting call, as `replay` makes it of the events; a copy."""
        leased = dict(self._leases.items())
        return QueueState(
            next_number=self._backlog.next_number,
            waiting={item.number: _kept(item, due) for item, due in self._backlog.items()},
            out={item.number: _kept(item) for item in leased.values()},
            leased={item.number: delivery_id for delivery_id, item in leased.items()},
            holdings={
                holder: Holding(
                    count,
                    self._takes.oldest(holder),
                    {i: (channel, _kept(item)) for i, channel, item in self._takes.unread(holder)},
                    {i: _kept(item) for i, item in self._takes.receipts(holder)},
                )
                for holder, count in self._takes.counts()
            },
            puts=self._puts,
            deliveries=self._deliveries,
            redeliveries=self._redeliveries,
            done=self._done,
            is_shutdown=self.is_shutdown,
            dropping=self.is_dropping,
        )

    # -- inside -------------------------------------------------------------------------------

    @abstractmethod
    def _move(self) -> None:
        """Let calls that wait meet what there is now."""

    @abstractmethod
    def _expired(self, items: list[Item]) -> None:
        """The time of these leases is over."""

    def take_over(self, data: Buffer) -> None:
        """Append what another queue has moved here, room or not, and recorded with its own part of
        that. After an immediate shutdown it is dropped."""
        if not self.is_dropping:
            self._append([data])
            self._move()

    def _append(self, frames: Sequence[Buffer]) -> None:
        self._backlog.append(frames)
        self._puts += len(frames)

    def _add_first(self, data: Buffer, attempt: int) -> None:
        number = self._backlog.number_before_all()
        self._puts += 1
        if self._record is not None:
            self._record(events.PutFirst(self.name, number, data, attempt))
        self._backlog.give_back(Item(data, number, attempt))

    def _hand_out(self, caller: Caller, owner: Hashable, count: int, lease: bool) -> None:
        if lease:
            most, size = self._leases.room(owner)
            items = self._backlog.take(min(count, most), size)
        else:
            items = self._backlog.take(count)
        for item in items:
            item.attempt += 1
            self._redeliveries += item.attempt > 1
        self._deliveries += len(items)
        deliveries: list[tuple[Any, int, Buffer]]
        if lease:
            ids = self._leases.grant(owner, items)
            deliveries = [(i, item.attempt, item.data) for i, item in zip(ids, items, strict=True)]
            if self._record is not None:
                self._record(events.Leased(self.name, ids, [item.number for item in items]))
        else:
            self._takes.add(None, len(items))
            deliveries = [(item, item.attempt, item.data) for item in items]
            if self._record is not None:
                self._record(events.Received(self.name, [item.number for item in items]))
        self.answers.append((caller, Handed(deliveries, owner, lease)))

    # Where an item goes that was out, of which each has its event: it is gone, it waits until it is
    # due, it waits at its place, or it goes to the dead letters.

    def _gone(self, item: Item) -> None:
        self._done += 1
        if self._record is not None:
            self._record(events.Done(self.name, item.number))

    def _delay(self, item: Item, seconds: float) -> None:
        self._backlog.delay(item, seconds)
        self._record_return(item, item.expires)

    def _return(self, items: Iterable[Item]) -> None:
        for item in items:
            if self.is_dropping:
                self._gone(item)
            else:
                self._backlog.give_back(item)
                self._record_return(item)

    def _dead_lettered(self, item: Item) -> None:
        assert self._dead_letter is not None
        self._done += 1
        way = self._dead_letter(item)
        target, data = way if way is not None else (None, b"")
        if target is not None and target.is_dropping:
            target = None
        if self._record is not None:
            name, number = (None, 0) if target is None else (target.name, target.next_number)
            self._record(events.DeadLettered(self.name, item.number, name, number, data))
        if target is not None:
            target.take_over(data)

    def _record_return(self, item: Item, due: float = 0.0) -> None:
        if self._record is not None:
            self._record(
                events.Returned(
                    self.name, item.number, item.attempt, item.losses, item.rejects, due
                )
            )

    # Why it goes there.

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
            self._dead_lettered(item)
        elif pause and not self.is_dropping:
            self._delay(item, pause)
        else:
            self._return([item])

    def _unseen(self, item: Item) -> None:
        """Whoever had it has not looked at it: it counts as never handed out."""
        item.attempt = max(0, item.attempt - 1)
        self._return([item])

    def _known(self, holder: Hashable, ids: Iterable[int]) -> None:
        assert self._record is not None
        self._record(events.Read(self.name, holder, list(ids)))


def _kept(item: Item, due: float = 0.0) -> Kept:
    return Kept(item.number, item.data, item.attempt, item.losses, item.rejects, due)
