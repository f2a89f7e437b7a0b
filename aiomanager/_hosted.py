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

import logging
import math
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Literal

from ._backlog import Backlog, Data, Item, Timers
from ._errors import QueueShutDown
from ._leases import Leases
from ._parked import Line, Parked, Reply

logger = logging.getLogger("aiomanager.host")

Action = Literal["ack", "nack", "return"]
Settlement = tuple[int, Action, float]


class HostedQueue:
    """One queue of a host.

    Args:
        timers: the clock and the calls at a time that the driver provides.
        maxsize: how many items may wait, 0 for any number.
        lease_timeout: seconds after which a delivery that is not settled returns though its owner
            is alive; None for never.
        name: what its log records call it.
        max_deliveries: how often an item may be handed out to owners that are lost, or that let
            the time of their lease pass, before `bury` is given it; a nack is its owner's
            decision, and counts for nothing here.
        bury: takes such an item; without it they are handed out for ever.
    """

    def __init__(
        self,
        timers: Timers,
        maxsize: int = 0,
        *,
        lease_timeout: float | None = None,
        name: str = "",
        max_deliveries: int = 20,
        bury: Callable[[Item], None] | None = None,
    ) -> None:
        self.maxsize = maxsize
        self.name = name
        self._max_deliveries = max_deliveries
        self._bury = bury
        self.is_shutdown = False
        self._dropping = False  # shut down at once: what would return is dropped
        self._timers = timers
        self._backlog = Backlog(timers, self._move)
        self._leases = Leases(timers, lease_timeout, self._expired)
        self._taken = 0
        self._getters: Line = OrderedDict()
        self._putters: Line = OrderedDict()
        self._joiners: Line = OrderedDict()
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
        return len(self._backlog) + len(self._leases) + self._taken

    def statistics(self) -> dict[str, int | bool]:
        """What there is now, and what there was in all."""
        return {
            "qsize": self.qsize(),
            "maxsize": self.maxsize,
            "unfinished": self.unfinished,
            "leased": len(self._leases),
            "delayed": self._backlog.delayed,
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
        elif 0 < self.maxsize < len(self._backlog) + len(frames):
            parked = Parked(owner, ticket, reply, frames=deque(frames))
            self._wait(self._putters, parked, timeout)
        else:
            self._append(frames)
            if self._getters:
                self._move()
            reply(len(frames))

    def add(self, data: Data) -> None:
        """Append an item, room or not. One that comes after an immediate shutdown is dropped."""
        if not self._dropping:
            self._append([data])
            self._move()

    def restore(self, data: Data, attempt: int) -> None:
        """Undo a take: the item is again the first to be received, and no longer taken."""
        self._taken = max(0, self._taken - 1)
        if self._dropping:
            self._done += 1
        else:
            self._backlog.restore(data, max(0, attempt - 1))
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
        count = max(1, count)
        if not self._backlog.anything():
            self._wait(self._getters, Parked(owner, ticket, reply, count, lease), timeout)
        else:
            self._hand_out(reply, owner, count, lease)
            if self._putters or self.is_shutdown:
                self._move()

    def settle(self, settlements: Iterable[Settlement], *, owner: Hashable = None) -> list[bool]:
        """End leases; for each, whether it was still the owner's.

        ack: it is done. nack: it returns, after the given seconds. return: it was never looked at,
        and returns as if it had not been handed out.
        """
        answers = [self._settle(owner, *settlement) for settlement in settlements]
        self._move()
        return answers

    def take(self, delivery_ids: Sequence[int], *, owner: Hashable = None) -> list[bool]:
        """Make leased items their receiver's, for `task_done` to count; answers as `settle`."""
        set(delivery_ids)  # refuses what is no id before the first item is out of its lease
        answers = [self._leases.end(owner, ident) is not None for ident in delivery_ids]
        self._taken += sum(answers)
        self._move()
        return answers

    def move(
        self, delivery_id: int, target: HostedQueue, data: Data, *, owner: Hashable = None
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
        self._settle(owner, delivery_id, "ack", 0.0)
        target.add(data)
        self._move()
        return True

    def task_done(self, count: int = 1) -> None:
        """Count taken items as done. Raises ValueError where fewer are out than that."""
        if not 0 <= count <= self._taken:
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
        self._wait(self._joiners, Parked(owner, ticket, reply), timeout)

    # -- endings ------------------------------------------------------------------------------

    def cancel(self, owner: Hashable, ticket: Hashable) -> None:
        """Let a parked call answer now, with what it has."""
        for line in (self._getters, self._putters, self._joiners):
            for parked in line:
                if parked.owner == owner and parked.ticket == ticket:
                    self._give_up(parked, line)
                    return

    def owner_lost(self, owner: Hashable) -> int:
        """Nobody is there any more: forget what it waited for, return what it leased, and say how
        many items that were."""
        for line in (self._getters, self._putters, self._joiners):
            for parked in [parked for parked in line if parked.owner == owner]:
                self._leave(parked, line)
                if line is self._putters:
                    parked.reply(parked.accepted)
        items = self._leases.end_all(owner)
        self._lost(items)
        self._move()
        return len(items)

    def shutdown(self, immediate: bool = False) -> None:
        """Refuse puts from now on; end receives once nothing can come, or now if `immediate`,
        which drops the items that nobody has received."""
        self.is_shutdown = True
        while self._putters:
            parked = next(iter(self._putters))
            self._leave(parked, self._putters)
            parked.reply(
                parked.accepted or QueueShutDown("the queue was shut down while waiting for room")
            )
        if immediate:
            self._dropping = True
            self._done += self._backlog.clear()
        self._move()

    # -- inside -------------------------------------------------------------------------------

    def _wait(self, line: Line, parked: Parked, timeout: float | None) -> None:
        if timeout is not None and math.isnan(timeout):
            raise ValueError("'timeout' must be a number")
        line[parked] = None
        self._move()
        if timeout is None or parked not in line:
            return
        if timeout <= 0:
            self._give_up(parked, line)
        else:
            parked.timer = self._timers.call_at(
                self._timers.time() + timeout, lambda: self._give_up(parked, line)
            )

    def _give_up(self, parked: Parked, line: Line) -> None:
        self._leave(parked, line)
        if line is self._getters:
            parked.reply([])
        elif line is self._putters:
            parked.reply(parked.accepted)
        else:
            parked.reply(False)

    @staticmethod
    def _leave(parked: Parked, line: Line) -> None:
        del line[parked]
        if parked.timer is not None:
            parked.timer.cancel()

    def _move(self) -> None:
        """The only place where parked calls meet items, room and the end of work."""
        while True:
            if self._putters:
                self._admit()
            if not self._getters or not self._backlog.anything():
                break
            parked = next(iter(self._getters))
            self._leave(parked, self._getters)
            self._hand_out(parked.reply, parked.owner, parked.count, parked.lease)
        # What is leased or delayed may still come back, so receivers wait for it.
        if self._dropping or (self.is_shutdown and not self._backlog and not self._leases):
            self._end(self._getters, QueueShutDown("the queue was shut down and is empty"))
        if self._joiners and not self.unfinished:
            self._end(self._joiners, True)

    def _admit(self) -> None:
        while self._putters and not self.full():
            parked = next(iter(self._putters))
            frames = parked.frames
            assert frames is not None
            while frames and not self.full():
                self._append([frames.popleft()])
                parked.accepted += 1
            if not frames:
                self._leave(parked, self._putters)
                parked.reply(parked.accepted)

    def _end(self, line: Line, answer: object) -> None:
        while line:
            parked = next(iter(line))
            self._leave(parked, line)
            parked.reply(answer)

    def _append(self, frames: Sequence[Data]) -> None:
        self._backlog.append(frames)
        self._puts += len(frames)

    def _hand_out(self, reply: Reply, owner: Hashable, count: int, lease: bool) -> None:
        for item in (items := self._backlog.take(count)):
            item.attempt += 1
            self._redeliveries += item.attempt > 1
        self._deliveries += len(items)
        if lease:
            ids = self._leases.grant(owner, items)
        else:
            ids = [0] * len(items)
            self._taken += len(items)
        if reply([(i, item.attempt, item.data) for i, item in zip(ids, items, strict=True)]):
            return
        # The receiver is gone and has seen nothing of this.
        if lease:
            for delivery_id in ids:
                self._settle(owner, delivery_id, "return", 0.0)
        else:
            self._taken -= len(items)
            for item in items:
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
        else:
            item.attempt -= action == "return"
            self._return([item])
        return True

    def _return(self, items: Iterable[Item]) -> None:
        for item in items:
            if self._dropping:
                self._done += 1
            else:
                self._backlog.give_back(item)

    def _expired(self, items: list[Item]) -> None:
        logger.warning("%d deliveries of queue %r were not settled in time", len(items), self.name)
        self._lost(items)
        self._move()

    def _lost(self, items: Iterable[Item]) -> None:
        """Nobody said what became of these. What loses its owner again and again may be what ends
        them."""
        for item in items:
            if self._bury is None or item.attempt < self._max_deliveries:
                self._return([item])
            else:
                self._done += 1
                self._bury(item)
