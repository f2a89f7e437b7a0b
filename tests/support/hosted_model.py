"""What a hosted queue is: a model of it without a care for speed, to compare it with."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

SHUT = "the queue was shut down"


@dataclass(eq=False)
class Thing:
    """An item, wherever it is."""

    order: int  # who goes first among those that returned
    data: bytes
    attempt: int = 0
    losses: int = 0
    rejects: int = 0


@dataclass(eq=False)
class Wait:
    """A call that was not answered yet."""

    kind: str
    owner: str
    ticket: int
    deadline: float | None
    count: int = 0
    lease: bool = True
    there: bool = True
    frames: list[bytes] = field(default_factory=list)
    accepted: int = 0
    answer: Any = None


class Model:
    """What a hosted queue is, without a care for speed."""

    def __init__(
        self,
        maxsize: int,
        lease_timeout: float | None,
        now: float,
        max_deliveries: int = 10**9,
        max_unsettled: int = 10**9,
    ) -> None:
        self.maxsize, self.lease_timeout, self.now = maxsize, lease_timeout, now
        self.max_deliveries, self.max_unsettled = max_deliveries, max_unsettled
        self.dead_lettered: list[tuple[bytes, int, int]] = []
        self.fresh: list[Thing] = []
        self.returned: list[Thing] = []
        self.delayed: dict[Thing, float] = {}
        self.leases: dict[bytes, tuple[str, Thing, float]] = {}
        # By the data: who has it, and the channel of a take that may not have been read.
        self.taken: dict[bytes, tuple[str | None, Thing, str | None]] = {}
        self.waits: list[Wait] = []
        self.numbers = itertools.count()
        self.shut = self.dropping = False

    @property
    def qsize(self) -> int:
        return len(self.fresh) + len(self.returned) + len(self.delayed)

    @property
    def unfinished(self) -> int:
        return self.qsize + len(self.leases) + len(self.taken)

    def call(self, wait: Wait, timeout: float | None) -> None:
        if wait.kind == "put" and self.shut:
            wait.answer = SHUT
            return
        self.waits.append(wait)
        self.run()
        if timeout == 0 and wait in self.waits:
            self.give_up(wait)

    def run(self) -> None:
        """Let things happen until nothing does."""
        while True:
            putters = [wait for wait in self.waits if wait.kind == "put"]
            getters = [wait for wait in self.waits if wait.kind == "receive" and self.may(wait)]
            if putters and (not self.maxsize or self.qsize < self.maxsize):
                putter = putters[0]
                self.fresh.append(Thing(next(self.numbers), putter.frames.pop(0)))
                putter.accepted += 1
                if not putter.frames:
                    self.finish(putter, putter.accepted)
            elif getters and (self.fresh or self.returned):
                self.serve(getters[0])
            else:
                break
        if self.dropping or (self.shut and not self.qsize and not self.leases):
            for wait in [wait for wait in self.waits if wait.kind == "receive"]:
                self.finish(wait, SHUT)
        for wait in [wait for wait in self.waits if wait.kind == "join" and not self.unfinished]:
            self.finish(wait, True)

    def has(self, owner: str) -> int:
        """How many leases an owner has."""
        return sum(lease[0] == owner for lease in self.leases.values())

    def may(self, wait: Wait) -> bool:
        """Whether it may be handed something."""
        return not wait.lease or self.has(wait.owner) < self.max_unsettled

    def serve(self, wait: Wait) -> None:
        self.returned.sort(key=lambda thing: thing.order)
        count = wait.count
        if wait.lease:
            count = min(count, self.max_unsettled - self.has(wait.owner))
        things = (self.returned + self.fresh)[:count]
        self.returned = [thing for thing in self.returned if thing not in things]
        self.fresh = [thing for thing in self.fresh if thing not in things]
        self.finish(wait, [(thing.attempt + 1, thing.data) for thing in things])
        for thing in things:
            if not wait.there:
                self.returned.append(thing)
            elif wait.lease:
                thing.attempt += 1
                self.leases[thing.data] = wait.owner, thing, self.now + (self.lease_timeout or 1e9)
            else:
                thing.attempt += 1
                self.taken[thing.data] = None, thing, None

    def settle(
        self, owner: str, data: bytes, action: str, delay: float, channel: str | None = None
    ) -> bool:
        if self.leases.get(data, ("nobody",))[0] != owner:
            return False
        _, thing, _ = self.leases.pop(data)
        if action == "take":
            self.taken[data] = owner, thing, channel
        elif action in ("lose", "reject"):
            self.fail(thing, action)
        elif action != "ack" and not self.dropping:
            thing.attempt -= action == "return"
            if delay and action == "nack":
                self.delayed[thing] = self.now + delay
            else:
                self.returned.append(thing)
        return True

    def fail(self, thing: Thing, how: str) -> None:
        """Somebody was lost with it, or could not unpickle it."""
        thing.losses += how == "lose"
        thing.rejects += how == "reject"
        if thing.losses + thing.rejects >= self.max_deliveries:
            self.dead_lettered.append((thing.data, thing.losses, thing.rejects))
        elif not self.dropping:
            self.returned.append(thing)

    def untake(self, holder: str | None, data: bytes, how: str) -> bool:
        """Give back what was taken."""
        if data not in self.taken or self.taken[data][0] != holder:
            return False
        _, thing, _ = self.taken.pop(data)
        if how == "reject":
            self.fail(thing, how)
        elif not self.dropping:
            thing.attempt -= 1
            self.returned.append(thing)
        return True

    def read(self, holder: str, *channels: str) -> None:
        """A holder knows what it has taken."""
        for data, (having, thing, channel) in self.taken.items():
            if having == holder and (not channels or channel in channels):
                self.taken[data] = having, thing, None

    def holder_lost(self, holder: str) -> int:
        """Nobody is there who could come back."""
        unread = [
            data for data, (one, _, channel) in self.taken.items() if one == holder and channel
        ]
        for data in unread:
            self.fail(self.taken.pop(data)[1], "lose")
        for data, (having, thing, _) in self.taken.items():
            if having == holder:
                self.taken[data] = None, thing, None
        self.run()
        return len(unread)

    def give_up(self, wait: Wait) -> None:
        self.finish(wait, {"put": wait.accepted, "receive": [], "join": False}[wait.kind])

    def finish(self, wait: Wait, answer: Any) -> None:
        self.waits.remove(wait)
        wait.answer = answer

    def lost(self, owner: str) -> int:
        self.waits, gone = (
            [wait for wait in self.waits if wait.owner != owner],
            [wait for wait in self.waits if wait.owner == owner],
        )
        for wait in gone:
            wait.answer = wait.accepted if wait.kind == "put" else "nobody asks"
        leased = [data for data, lease in self.leases.items() if lease[0] == owner]
        for data in leased:
            self.settle(owner, data, "lose", 0)
        self.run()
        return len(leased)

    def shutdown(self, immediate: bool) -> None:
        self.shut = True
        for wait in [wait for wait in self.waits if wait.kind == "put"]:
            self.finish(wait, wait.accepted or SHUT)
        if immediate:
            self.dropping = True
            self.fresh, self.returned, self.delayed = [], [], {}
        self.run()

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            late = [lease[2] for lease in self.leases.values()]
            timeouts = [wait.deadline for wait in self.waits if wait.deadline is not None]
            self.now = min([end, *late, *timeouts, *self.delayed.values()])
            if self.now == end and end not in late:
                return
            for data, (owner, _, expires) in list(self.leases.items()):
                if expires == self.now:
                    self.settle(owner, data, "lose", 0)
            for thing in [thing for thing, due in self.delayed.items() if due == self.now]:
                del self.delayed[thing]
                self.returned.append(thing)
            for wait in [wait for wait in self.waits if wait.deadline == self.now]:
                self.give_up(wait)
            self.run()
