"""The hosted queue: what happens to an item between a put and its end.

One thread, no locks, no I/O and no clock of its own. A call that may have to wait brings a
`caller`, and its outcome stands in `answers` then or later, beside that caller. The driver empties
`answers` after each of its calls, and after each time that it calls back: the host's selector loop
over sockets, `memory://` in one process, and the tests against a model.

Where an item can be, and nowhere else:

    put -> ready (in order) -> leased to an owner -> acknowledged: gone
             ^  ^                 |    |
             |  +--- delayed <----+    +--> taken: its receiver's from now on, counted for `join`
             +------ returned  <--+         until `task_done`
                     (before all that is ready)

An owner is whoever receives (the host: one connection). When an owner is lost, what it leased
returns, what it waited for is forgotten, and nothing is handed to it any more. A holder is whoever
has taken (the host: one client, over however many connections; None for the standard library's,
which are one to the other): only he says that it is done, or that it goes back.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from .._ground.buffers import Buffer
from . import events
from .backlog import Item, Timers
from .outcomes import NOTHING, Accepted, Caller, Joined, Outcome, Refused, ShutDown
from .places import logger
from .settling import Settling
from .waiters import Line, Waiter, WaitingRoom

# Bytes that an item takes beside its own.
ITEM_SIZE = 256


class HostedQueue(Settling):
    """One queue of a host.

    Args:
        timers: the clock and the calls at a time that the driver provides.
        maxsize: how many items may wait, 0 for any number.
        lease_timeout: seconds after which a delivery that is not settled returns though its owner
            is alive; None for never.
        name: what its log records call it.
        max_deliveries: how often an item may be handed out to owners that are lost, or that let
            the time of their lease pass, or that cannot unpickle it, before `dead_letter` is given
            it; a nack is its owner's decision, and counts for nothing here.
        dead_letter: takes such an item, and says where what stands for it is to be put; without it
            they are handed out for ever.
        max_unsettled: items that one owner may have on lease at once; it is handed no more until
            it settles some.
        max_unsettled_bytes: bytes of them, but for the item that takes it over.
        max_waiting: calls of one owner that may wait here at once.
        afford: asked before items are put whether there is memory to keep so many bytes; raises
            `MemoryError` where not.
        answers: where outcomes stand until the driver takes them; one for all queues of a host, as
            a call of one may be the answer of another's.
        record: is handed each event, before anybody can hear of it.
        warn: logs a warning whose cause is an owner's.
    """

    def __init__(
        self,
        timers: Timers,
        maxsize: int = 0,
        *,
        max_waiting: int = sys.maxsize,
        afford: Callable[[int], None] | None = None,
        warn: Callable[..., None] = logger.warning,
        **options: Any,
    ) -> None:
        super().__init__(timers, maxsize, **options)
        self._warn = warn
        self._afford = afford
        self._room = WaitingRoom(max_waiting)
        self._getters, self._putters = self._room.getters, self._room.putters
        self._joiners = self._room.joiners
        # Served once, there is more to do; and who gives up when that is done.
        self._goes_on = False
        self._impatient: list[Waiter] = []

    def statistics(self) -> dict[str, int | bool]:
        """What there is now, and what there was in all."""
        return {
            **super().statistics(),
            "waiting_getters": self._room.count_getters(),
            "waiting_putters": sum(len(waiter.frames or ()) for waiter in self._putters),
        }

    # -- putting ------------------------------------------------------------------------------

    def put(
        self,
        frames: Sequence[Buffer],
        timeout: float | None,
        caller: Caller,
        *,
        owner: Hashable = None,
        ticket: Hashable = None,
    ) -> None:
        """Append frames in order, waiting for room up to `timeout` seconds (None: for ever).

        Its outcome: `Accepted`; `ShutDown` where none were; `Refused`, and none, where there is no
        memory for them.
        """
        if self.is_shutdown:
            message = "the queue was shut down; nothing more can be put"
            self.answers.append((caller, ShutDown(message)))
            return
        if self._afford is not None:
            try:
                self._afford(sum(map(len, frames)) + len(frames) * ITEM_SIZE)
            except MemoryError as exc:
                self.answers.append((caller, Refused(exc)))
                return
        if 0 < self.maxsize < len(self._backlog) + len(frames):
            waiter = Waiter(owner, ticket, caller, frames=deque(frames))
            self._wait(self._putters, waiter, timeout)
        else:
            if self._record is not None:
                self._record(events.Put(self.name, self.next_number, frames))
            self._append(frames)
            if self._getters:
                self._move()
            self.answers.append((caller, Accepted(len(frames))))

    # -- receiving ----------------------------------------------------------------------------

    def receive(
        self,
        count: int,
        timeout: float | None,
        caller: Caller,
        *,
        owner: Hashable = None,
        ticket: Hashable = None,
        lease: bool = True,
    ) -> None:
        """Hand out up to `count` items, waiting for the first up to `timeout` seconds.

        Its outcome: `Handed`; `Nothing` where the time was up or the call was cancelled; `ShutDown`
        where no item can come any more. Without `lease` the items are the receiver's at once.
        """
        count = max(1, count)
        if not self._backlog.anything() or (lease and not self._leases.room(owner)[0]):
            self._wait(self._getters, Waiter(owner, ticket, caller, count, lease), timeout)
        else:
            self._hand_out(caller, owner, count, lease)
            if self._putters or self.is_shutdown:
                self._continue_later()

    def join(
        self,
        timeout: float | None,
        caller: Caller,
        *,
        owner: Hashable = None,
        ticket: Hashable = None,
    ) -> None:
        """Wait until every item is done. Its outcome: `Joined`."""
        self._wait(self._joiners, Waiter(owner, ticket, caller), timeout)

    # -- endings ------------------------------------------------------------------------------

    def cancel(self, owner: Hashable, ticket: Hashable) -> None:
        """Let a parked call answer now, with what it has."""
        for waiter in self._room.owned_by(owner):
            if waiter.ticket == ticket:
                self._give_up(waiter)
                return

    def owner_lost(self, owner: Hashable) -> int:
        """Nobody is there any more: forget what it waited for, return what it leased, and say how
        many items that were."""
        for waiter in self._room.owned_by(owner):
            self._room.leave(waiter)
            if waiter.frames is not None:
                self._answer(waiter, Accepted(waiter.accepted))
        items = self._leases.end_all(owner)
        self._lost(items)
        self._move()
        return len(items)

    def holder_lost(self, holder: Hashable, *, said_so: bool = False) -> int:
        """A holder will not come back: return what it may never have known to be its own, and say
        how many items that were. What it did know of stays counted, until somebody of whom
        nothing is known says that it is done. Where it `said_so`, it did not know of the rest."""
        items = self._takes.give_up(holder)
        if self._record is not None:
            self._record(events.HolderLost(self.name, holder))
        if said_so:
            for item in items:
                self._unseen(item)
        else:
            self._lost(items)
        self._move()
        return len(items)

    def shutdown(self, immediate: bool = False) -> None:
        """Refuse puts from now on; end receives once nothing can come, or now if `immediate`,
        which drops the items that nobody has received."""
        self.is_shutdown = True
        if self._record is not None:
            self._record(events.ShutDown(self.name, immediate))
        message = "the queue was shut down while waiting for room"
        while self._putters:
            waiter = next(iter(self._putters))
            self._room.leave(waiter)
            accepted = waiter.accepted
            self._answer(waiter, Accepted(accepted) if accepted else ShutDown(message))
        if immediate:
            self.is_dropping = True
            self._done += self._backlog.clear()
            for owner in list(self._room.stalled):
                self._room.resume(owner)
        self._move()

    # -- inside -------------------------------------------------------------------------------

    def _wait(self, line: Line, waiter: Waiter, timeout: float | None) -> None:
        if timeout is not None and math.isnan(timeout):
            raise ValueError("'timeout' must be a number")
        self._room.enter(waiter, line)
        self._move()
        if timeout is None or waiter.line is None:
            return
        if timeout <= 0:
            if self._goes_on:
                self._impatient.append(waiter)
            else:
                self._give_up(waiter)
        else:
            waiter.timer = self._timers.call_at(
                self._timers.time() + timeout, lambda: self._give_up(waiter)
            )

    def _give_up(self, waiter: Waiter) -> None:
        line = waiter.line
        self._room.leave(waiter)
        if waiter.frames is not None:
            self._answer(waiter, Accepted(waiter.accepted))
        else:
            self._answer(waiter, Joined(False) if line is self._joiners else NOTHING)

    def _answer(self, waiter: Waiter, outcome: Outcome) -> None:
        self.answers.append((waiter.caller, outcome))

    def _settled(self, owner: Hashable) -> None:
        """An owner has ended leases."""
        if owner in self._room.stalled and self._leases.room(owner)[0]:
            self._room.resume(owner)
        self._move()

    def _move(self) -> None:
        """The only place where parked calls meet items, room and the end of work.

        It ends with the first hand-out, and goes on when that is delivered: if it cannot be, its
        items are for the next in line, they take the room that they had, and the queue is not at
        its end. Nobody is told a thing that this would make untrue.
        """
        while True:
            if self._putters:
                self._admit()
            if not self._getters or not self._backlog.anything():
                break
            waiter = next(iter(self._getters))
            if waiter.lease and not self._leases.room(waiter.owner)[0]:
                self._room.stall(waiter)
                continue
            self._room.leave(waiter)
            self._hand_out(waiter.caller, waiter.owner, waiter.count, waiter.lease)
            if self._getters or self._putters or self._impatient:
                self._continue_later()
            return  # nor is it done, for those who join
        # What is leased or delayed may still come back, so receivers wait for it.
        if self.is_dropping or (self.is_shutdown and not self._backlog and not self._leases):
            self._end(self._getters, ShutDown("the queue was shut down and is empty"))
        if self._joiners and not self.unfinished:
            self._end(self._joiners, Joined(True))
        while self._impatient:
            if (waiter := self._impatient.pop(0)).line is not None:
                self._give_up(waiter)

    def _continue_later(self) -> None:
        if not self._goes_on:
            self._goes_on = True
            self.answers.continue_later(self)

    def go_on(self) -> None:
        """What was handed out is delivered, or is back: serve those who are next."""
        self._goes_on = False
        self._move()

    def _admit(self) -> None:
        while self._putters and not self.full():
            waiter = next(iter(self._putters))
            frames = waiter.frames
            assert frames is not None
            while frames and not self.full():
                admitted = [frames.popleft()]
                if self._record is not None:
                    self._record(events.Put(self.name, self.next_number, admitted))
                self._append(admitted)
                waiter.accepted += 1
            if not frames:
                self._room.leave(waiter)
                self._answer(waiter, Accepted(waiter.accepted))

    def _end(self, line: Line, outcome: Outcome) -> None:
        while line:
            waiter = next(iter(line))
            self._room.leave(waiter)
            self._answer(waiter, outcome)

    def _expired(self, items: list[Item]) -> None:
        self._warn("%d deliveries of queue %r were not settled in time", len(items), self.name)
        self._lost(items)
        for owner in list(self._room.stalled):
            if self._leases.room(owner)[0]:
                self._room.resume(owner)
        self._move()
