"""The items of a queue that nobody has: ready in the order of puts, returned, or delayed.

What was returned goes before what is ready, in the order of puts, however often it was out.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from .._ground.buffers import Buffer

# One call takes no more than this, and at least one item, so that no number of large items makes
# an answer that is too large to send.
TAKE_BYTES = 8 * 1024**2

NO_NUMBER = 0  # that of an item whose place in the order is forgotten


class Timer(Protocol):
    """A call that was asked for."""

    def cancel(self) -> None:
        """Let the call not happen; after it has, nothing."""


class Timers(Protocol):
    """A monotonic clock, and calls at a time of it."""

    def time(self) -> float:
        """Now, in seconds."""
        ...

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call back once it is that time."""
        ...


@dataclass(slots=True, eq=False)
class Item:
    """An item that was handed out at least once. One that was not is but its data, in line."""

    data: Buffer
    number: int  # its place in the order of puts, which it keeps when it returns
    attempt: int = 0  # how often it was handed out
    losses: int = 0  # how often those who had it were lost with it, or let their time pass
    rejects: int = 0  # how often those who had it could not unpickle it
    expires: float = 0.0  # when its lease ends, where leases do, or its delay


class Backlog:
    """What waits to be received.

    Args:
        on_due: called when a delayed item has become ready.
    """

    def __init__(self, timers: Timers, on_due: Callable[[], None]) -> None:
        self._timers = timers
        self._on_due = on_due
        self._ready: deque[Buffer] = deque()
        self._first = 1  # the number of the first that is ready; the others follow
        self._returned: list[tuple[int, Item]] = []  # a heap, by number, of which no two are equal
        self._restores = itertools.count(-(2**62))  # numbers before that of the first put
        self._delayed: dict[Item, Timer] = {}

    def __len__(self) -> int:
        return len(self._ready) + len(self._returned) + len(self._delayed)

    @property
    def delayed(self) -> int:
        """How many items wait for a time."""
        return len(self._delayed)

    @property
    def next_number(self) -> int:
        """The number of the next item that is put."""
        return self._first + len(self._ready)

    def items(self) -> Iterator[tuple[Item, float]]:
        """All that wait, in no order, and until when; 0.0 for what is not delayed."""
        for _, item in self._returned:
            yield item, 0.0
        for item in self._delayed:
            yield item, item.expires
        for number, data in enumerate(self._ready, self._first):
            yield Item(data, number), 0.0

    def anything(self) -> bool:
        """Whether `take` would find something."""
        return bool(self._ready or self._returned)

    def append(self, frames: Sequence[Buffer]) -> None:
        """Add new items at the end."""
        self._ready.extend(frames)

    def give_back(self, item: Item) -> None:
        """Add an item that was out, before all that was put after it."""
        heapq.heappush(self._returned, (item.number, item))

    def number_before_all(self) -> int:
        """A number for an item whose place nobody knows: before everything that was put, but after
        those that came so before it."""
        return next(self._restores)

    def delay(self, item: Item, seconds: float) -> None:
        """Give an item back after a time."""
        item.expires = self._timers.time() + seconds
        self._delayed[item] = self._timers.call_at(item.expires, lambda: self._due(item))

    def take(self, count: int, limit: int = TAKE_BYTES) -> list[Item]:
        """Take out up to `count` items, the next in order first, the last of which may take their
        bytes over `limit`."""
        items: list[Item] = []
        size = 0
        while len(items) < count and size < limit and (self._returned or self._ready):
            if self._returned:
                item = heapq.heappop(self._returned)[1]
            else:
                item = Item(self._ready.popleft(), self._first)
                self._first += 1
            size += len(item.data)
            items.append(item)
        return items

    def clear(self) -> int:
        """Drop everything; return how many items that were."""
        dropped = len(self)
        self._first += len(self._ready)  # no number is given twice
        self._ready.clear()
        self._returned.clear()
        for timer in self._delayed.values():
            timer.cancel()
        self._delayed.clear()
        return dropped

    def _due(self, item: Item) -> None:
        del self._delayed[item]
        self.give_back(item)
        self._on_due()
