"""Who has taken how many items of a queue, for `task_done` to count, and what can be undone of it.

What is taken is counted for the client that took it. Its data is kept until the client has shown
that it has read the answer of its take; its place in the order, a while longer, for those takers
who left before it was handed to them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping

from .._ground.buffers import Buffer
from .backlog import NO_NUMBER, Item

# So many of the items that a client took last can be restored at their own place. What is restored
# is so as soon as the answer of its take has come; most of those who take never say that they are
# done, and must not cost more and more.
RECEIPTS = 2048


class Takes:
    """The items of one queue that are their takers'.

    Args:
        on_read: is told of the deliveries of which a holder knows from now on; for those who keep
            a record.
    """

    def __init__(self, on_read: Callable[[Hashable, Iterable[int]], None] | None = None) -> None:
        self.total = 0
        self._on_read = on_read
        self._counts: dict[Hashable, int] = {}  # by holder
        # The first delivery that each has taken since it had none.
        self._oldest: dict[Hashable, int] = {}
        # By holder and channel: the last answer there may not have been read.
        self._unread: dict[Hashable, dict[Hashable, dict[int, Item]]] = {}
        self._receipts: dict[Hashable, dict[int, Item]] = {}  # without data, oldest first

    def count(self, holder: Hashable) -> int:
        """How many items a holder has."""
        return self._counts.get(holder, 0)

    def counts(self) -> Iterable[tuple[Hashable, int]]:
        """Who has how many items."""
        return self._counts.items()

    def oldest(self, holder: Hashable) -> int | None:
        """The first delivery that a holder has taken since it had none."""
        return self._oldest.get(holder)

    def unread(self, holder: Hashable) -> Iterator[tuple[int, Hashable, Item]]:
        """What a holder may not know that it has, with the channels of its takes."""
        for channel, items in self._unread.get(holder, {}).items():
            for delivery_id, item in items.items():
                yield delivery_id, channel, item

    def receipts(self, holder: Hashable) -> Iterable[tuple[int, Item]]:
        """What a holder has taken last and can be restored at its own place, without data."""
        return self._receipts.get(holder, {}).items()

    def add(self, holder: Hashable, count: int) -> None:
        """Count items that a holder has taken and has in its hands."""
        self.total += count
        self._counts[holder] = self._counts.get(holder, 0) + count

    def take(self, holder: Hashable, channel: Hashable, items: dict[int, Item]) -> None:
        """Count items, by the ids of their deliveries; until the next take in the same channel
        nothing says that the holder knows of it. None is no channel: it knows."""
        if items:
            self.add(holder, len(items))
            first = min(items)
            self._oldest[holder] = min(self._oldest.get(holder, first), first)
        if channel is None:
            self._read(holder, items)
            return
        self.read(holder, (channel,))
        if items:
            self._unread.setdefault(holder, {})[channel] = items

    def read(
        self,
        holder: Hashable,
        channels: Iterable[Hashable] | None = None,
        last: int | None = None,
    ) -> None:
        """A holder has read the last answers of these channels, or of all; but for those with
        deliveries after the `last` that it names."""
        unread = self._unread.get(holder)
        if not unread:
            return
        for channel in list(unread) if channels is None else channels:
            if last is None or last >= max(unread.get(channel, ()), default=0):
                self._read(holder, unread.pop(channel, {}))
        if not unread:
            del self._unread[holder]

    def done(self, holder: Hashable, count: int) -> None:
        """Raises ValueError where fewer are out than that."""
        left = self._counts.get(holder, 0) - count
        if count < 0 or left < 0:
            raise ValueError("task_done() called too many times")
        if left < self._unread_by(holder):
            self.read(holder)  # it knows of what it says is done
        self._subtract(holder, count)

    def undo(self, holder: Hashable, delivery_id: int, data: Buffer) -> Item | None:
        """Undo the take of one of those items that the holder took last; None where it is none,
        or was undone before."""
        item = self._find(holder, delivery_id)
        if item is not None:
            if not len(item.data):
                item.data = data
            self._subtract(holder, 1)
        return item

    def restore(
        self, holder: Hashable, delivery_id: int, data: Buffer, attempt: int
    ) -> Item | None:
        """The same for any item of the holder's, of which nobody says it twice."""
        if not self._counts.get(holder) or delivery_id < self._oldest.get(holder, 0):
            return None
        item = self.undo(holder, delivery_id, data)
        if item is None:
            item = Item(data, NO_NUMBER, attempt)  # taken so long ago that its place is forgotten
            self._subtract(holder, 1)
        return item

    def undone(self) -> bool:
        """Count one item less of those whose holders are not known; False where all are done."""
        if not self._counts.get(None):
            return False
        self._subtract(None, 1)
        return True

    def give_up(self, holder: Hashable) -> list[Item]:
        """A holder will not come back: undo what it has never read of, and let the rest be
        anybody's to count."""
        unread = self._unread.pop(holder, {})
        items = [item for items in unread.values() for item in items.values()]
        self._oldest.pop(holder, None)
        self._receipts.pop(holder, None)
        self.total -= len(items)
        if left := self._counts.pop(holder, 0) - len(items):
            self._counts[None] = self._counts.get(None, 0) + left
        return items

    def _find(self, holder: Hashable, delivery_id: int) -> Item | None:
        for items in self._unread.get(holder, {}).values():
            if delivery_id in items:
                return items.pop(delivery_id)
        return self._receipts.get(holder, {}).pop(delivery_id, None)

    def _unread_by(self, holder: Hashable) -> int:
        return sum(map(len, self._unread.get(holder, {}).values()))

    def _read(self, holder: Hashable, items: Mapping[int, Item]) -> None:
        if not items:
            return
        if self._on_read is not None:
            self._on_read(holder, items)
        receipts = self._receipts.setdefault(holder, {})
        for delivery_id, item in items.items():
            item.data = b""
            receipts[delivery_id] = item
        while len(receipts) > RECEIPTS:
            del receipts[next(iter(receipts))]

    def _subtract(self, holder: Hashable, count: int) -> None:
        self.total -= count
        left = self._counts.get(holder, 0) - count
        if left:
            # Which of its items are done is not said, so it may still restore any of them.
            self._counts[holder] = left
        else:
            self._counts.pop(holder, None)
            self._oldest.pop(holder, None)
            self._receipts.pop(holder, None)
