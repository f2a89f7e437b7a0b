"""The state of a queue as a record of its events has it: plain data, which no time changes.

`replay` makes it of the events; `Places.state` says what it has to be. Whoever waits for something
is in neither.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field

from .._ground.buffers import Buffer
from . import events
from .takes import RECEIPTS


@dataclass(slots=True)
class Kept:
    """An item: its place in the order of puts, and what `backlog.Item` counts of it."""

    number: int
    data: Buffer
    attempt: int = 0
    losses: int = 0
    rejects: int = 0
    due: float = 0.0


@dataclass(slots=True)
class Holding:
    """What a holder has, as `Takes` does.

    Attributes:
        oldest: the first delivery that it has taken since it had none.
        unread: by delivery, the channel of its take and the item.
        receipts: by delivery, the item without its data.
    """

    count: int = 0
    oldest: int | None = None
    unread: dict[int, tuple[Hashable, Kept]] = field(default_factory=dict)
    receipts: dict[int, Kept] = field(default_factory=dict)

    def take(self, items: dict[int, Kept], channel: Hashable) -> None:
        """Count items, by the ids of their deliveries."""
        self.count += len(items)
        self.oldest = min(items) if self.oldest is None else min(*items, self.oldest)
        self.unread.update({i: (channel, kept) for i, kept in items.items()})

    def read(self, ids: Iterable[int]) -> None:
        """Keep receipts in place of items, and of those no more than `Takes` does."""
        for delivery_id in ids:
            kept = self.unread.pop(delivery_id)[1]
            kept.data = b""
            self.receipts[delivery_id] = kept
        while len(self.receipts) > RECEIPTS:
            del self.receipts[next(iter(self.receipts))]


@dataclass(slots=True)
class QueueState:
    """One queue.

    Attributes:
        next_number: that of the next item that is put.
        waiting: by number: ready, returned, or delayed until it is due.
        out: by number: leased, or on the way from one place to another within a call.
        leased: of those that are, the ids of their deliveries.
        holdings: what is taken, by whom.
    """

    next_number: int = 1
    waiting: dict[int, Kept] = field(default_factory=dict)
    out: dict[int, Kept] = field(default_factory=dict)
    leased: dict[int, int] = field(default_factory=dict)
    holdings: dict[Hashable, Holding] = field(default_factory=dict)
    puts: int = 0
    deliveries: int = 0
    redeliveries: int = 0
    done: int = 0
    is_shutdown: bool = False
    dropping: bool = False

    def apply(self, event: events.Event) -> None:
        """Let an event of this queue happen; of one that names two queues, the part of its own."""
        match event:
            case events.Put(number=number, frames=frames):
                self.append(number, frames)
            case events.PutFirst():
                self.waiting[event.number] = Kept(event.number, event.data, event.attempt)
                self.puts += 1
            case events.Leased(ids=ids, numbers=numbers):
                for number, kept in self._hand_out(numbers):
                    self.out[number] = kept
                self.leased.update(zip(numbers, ids, strict=True))
            case events.Returned(number=number):
                kept = self._back(number)
                kept.attempt, kept.due = event.attempt, event.due
                kept.losses, kept.rejects = event.losses, event.rejects
                self.waiting[number] = kept
            case events.Done() | events.Moved() | events.DeadLettered():
                self._back(event.number)
                self.done += 1
            case events.ShutDown(immediate=immediate):
                self.is_shutdown = True
                if immediate:
                    self.dropping = True
                    self.done += len(self.waiting)
                    self.waiting.clear()
            case _:
                self._apply_to_holdings(event)

    def append(self, number: int, frames: Sequence[Buffer]) -> None:
        """Add new items at the end, the first of which has this number."""
        for data in frames:
            self.waiting[number] = Kept(number, data)
            number += 1
        self.next_number = number
        self.puts += len(frames)

    def _apply_to_holdings(self, event: events.OfTakes) -> None:
        match event:
            case events.Received(numbers=numbers):
                self._holding(None).count += len(list(self._hand_out(numbers)))
            case events.Taken(ids=ids, numbers=numbers):
                taken = zip(ids, map(self._back, numbers), strict=True)
                self._holding(event.holder).take(dict(taken), event.channel)
            case events.Read(ids=ids):
                self._holding(event.holder).read(ids)
            case events.TaskDone(holder=holder, count=count):
                self.done += count
                self._subtract(holder, count)
            case events.Untaken(holder=holder, delivery_id=delivery_id):
                if delivery_id is not None:
                    holding = self._holding(holder)
                    holding.unread.pop(delivery_id, None)
                    holding.receipts.pop(delivery_id, None)
                self._subtract(holder, 1)
                self.out[event.number] = Kept(
                    event.number, event.data, event.attempt, event.losses, event.rejects
                )
            case events.HolderLost(holder=holder):
                holding = self.holdings.pop(holder, Holding())
                for _, kept in holding.unread.values():
                    self.out[kept.number] = kept
                if left := holding.count - len(holding.unread):
                    self._holding(None).count += left

    def _hand_out(self, numbers: Iterable[int]) -> list[tuple[int, Kept]]:
        handed_out = [(number, self.waiting.pop(number)) for number in numbers]
        for _, kept in handed_out:
            kept.attempt += 1
            kept.due = 0.0
            self.redeliveries += kept.attempt > 1
        self.deliveries += len(handed_out)
        return handed_out

    def _back(self, number: int) -> Kept:
        self.leased.pop(number, None)
        return self.out.pop(number)

    def _holding(self, holder: Hashable) -> Holding:
        return self.holdings.setdefault(holder, Holding())

    def _subtract(self, holder: Hashable, count: int) -> None:
        holding = self._holding(holder)
        holding.count -= count
        if not holding.count:
            del self.holdings[holder]


def replay(
    record: Iterable[events.Event], states: dict[str, QueueState] | None = None
) -> dict[str, QueueState]:
    """The states, by the names of their queues, that come of events, after those that there were.

    An event that names two queues changes both, or is not there at all.
    """
    states = {} if states is None else states
    for event in record:
        states.setdefault(event.queue, QueueState()).apply(event)
        if isinstance(event, (events.Moved, events.DeadLettered)) and event.target is not None:
            target = states.setdefault(event.target, QueueState())
            target.append(event.target_number, [event.data])
    return states
