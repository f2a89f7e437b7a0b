"""What becomes of an item once somebody has it, as those say who had it.

Each call answers at once, with what it returns. Its driver may have to wait before it says so: see
`outcomes`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Iterable, Sequence
from typing import Literal

from .._ground.buffers import Buffer
from .._ground.errors import QueueShutDown
from . import events
from .backlog import NO_NUMBER, Item
from .outcomes import Handed
from .places import Places

# "reject": its owner cannot unpickle it.
Action = Literal["ack", "nack", "return", "reject"]
Settlement = tuple[int, Action, float]


class Settling(Places):
    """The items of one queue, and the calls of those who have received some."""

    # -- from one place to another ------------------------------------------------------------

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
        if taken and self._record is not None:
            numbers = [item.number for item in taken.values()]
            self._record(events.Taken(self.name, holder, channel, list(taken), numbers))
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

    def move(
        self, delivery_id: int, target: Places, data: Buffer, *, owner: Hashable = None
    ) -> bool:
        """End a lease by putting `data` in the target queue, room or not, in one step; whether
        the lease was still the owner's.

        Raises:
            QueueShutDown: the target takes nothing any more; the lease goes on.
        """
        if not self._leases.has(owner, delivery_id):
            return False
        if target.is_shutdown:
            raise QueueShutDown("the queue to move to was shut down; nothing more can be put")
        item = self._leases.end(owner, delivery_id)
        assert item is not None
        self._done += 1
        if self._record is not None:
            number = target.next_number
            self._record(events.Moved(self.name, item.number, target.name, number, data))
        target.take_over(data)
        self._settled(owner)
        return True

    def task_done(self, count: int = 1, *, holder: Hashable = None) -> None:
        """Count items that the holder has taken as done. Raises ValueError where it has fewer."""
        self._takes.done(holder, count)
        self._done += count
        if count and self._record is not None:
            self._record(events.TaskDone(self.name, holder, count))
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
        data: Buffer,
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
            if not self.is_dropping:
                self._add_first(data, max(0, attempt - 1))
                self._move()
            return True
        if again:
            item = self._takes.undo(holder, delivery_id, data)
        else:
            item = self._takes.restore(holder, delivery_id, data, attempt)
        if item is None:
            return False
        if item.number == NO_NUMBER:
            item.number = self._backlog.number_before_all()
        self._untaken(holder, delivery_id, item)
        if rejected:
            self._rejected(item)
        else:
            self._unseen(item)
        self._move()
        return True

    def undeliver(self, item: Item) -> None:
        """Undo what `receive` without a lease has handed out: it did not arrive."""
        self._undeliver(item)
        self._move()

    def undelivered(self, handed: Handed) -> None:
        """Undo a hand-out that its receiver has seen nothing of: as if it had not been. Of what is
        nobody's any more by then, or another's, nothing is undone."""
        if handed.leased:
            for delivery_id, _, _ in handed.deliveries:
                self._settle(handed.owner, delivery_id, "return", 0.0)
            self._settled(handed.owner)
        else:
            for item, _, _ in handed.deliveries:
                self._undeliver(item)
            self._move()

    # -- inside -------------------------------------------------------------------------------

    @abstractmethod
    def _settled(self, owner: Hashable) -> None:
        """An owner has ended leases."""

    def _settle(self, owner: Hashable, delivery_id: int, action: Action, delay: float) -> bool:
        delay = float(delay)  # refuses what is no time before the item is out of its lease
        item = self._leases.end(owner, delivery_id)
        if item is None:
            return False
        if action == "ack":
            self._done += 1  # as `_gone` does, which is a call less for nearly every item
            if self._record is not None:
                self._record(events.Done(self.name, item.number))
        elif action == "nack" and delay > 0 and not self.is_dropping:
            self._delay(item, delay)
        elif action == "reject":
            self._rejected(item)
        else:
            item.attempt -= action == "return"
            self._return([item])
        return True

    def _undeliver(self, item: Item) -> None:
        if self._takes.undone():
            self._untaken(None, None, item)
            self._unseen(item)

    def _untaken(self, holder: Hashable, delivery_id: int | None, item: Item) -> None:
        if self._record is not None:
            self._record(
                events.Untaken(
                    self.name, holder, delivery_id, item.number, item.data,
                    item.attempt, item.losses, item.rejects,
                )
            )  # fmt: skip
