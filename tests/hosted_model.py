"""What a hosted queue is: a model of it without a care for speed, to compare it with."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

SHUT = "the queue was shut down"


@dataclass(eq=False)
class Thing:
    """An item, wherever it is."""

    order: tuple[int, int]  # who goes first among those that returned
    data: bytes
    attempt: int = 0


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

    def __init__(self, maxsize: int, lease_timeout: float | None, now: float) -> None:
        self.maxsize, self.lease_timeout, self.now = maxsize, lease_timeout, now
        self.fresh: list[Thing] = []
        self.returned: list[Thing] = []
        self.delayed: dict[Thing, float] = {}
        self.leases: dict[bytes, tuple[str, Thing, float]] = {}
        self.taken = 0
        self.waits: list[Wait] = []
        self.numbers = itertools.count()
        self.shut = self.dropping = False

    @property
    def qsize(self) -> int:
        return len(self.fresh) + len(self.returned) + len(self.delayed)

    @property
    def unfinished(self) -> int:
        return self.qsize + len(self.leases) + self.taken

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
            getters = [wait for wait in self.waits if wait.kind == "receive"]
            if putters and (not self.maxsize or self.qsize < self.maxsize):
                putter = putters[0]
                self.fresh.append(Thing((1, next(self.numbers)), putter.frames.pop(0)))
                putter.accepted += 1
                if not putter.frames:
                    self.finish(putter, putter.accepted)
            elif getters and (self.fresh or self.returned):
                self.serve(getters[0])
            else:
                break
        if self.dropping or (self.shut and not self.qsize and not self.leases):
            for wait in getters:
                self.finish(wait, SHUT)
        for wait in [wait for wait in self.waits if wait.kind == "join" and not self.unfinished]:
            self.finish(wait, True)

    def serve(self, wait: Wait) -> None:
        self.returned.sort(key=lambda thing: thing.order)
        things = (self.returned + self.fresh)[: wait.count]
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
                self.taken += 1

    def settle(self, owner: str, data: bytes, action: str, delay: float) -> bool:
        if self.leases.get(data, ("nobody",))[0] != owner:
            return False
        _, thing, _ = self.leases.pop(data)
        self.taken += action == "take"
        thing.attempt -= action == "return"
        if action in ("nack", "return") and not self.dropping:
            if delay and action == "nack":
                self.delayed[thing] = self.now + delay
            else:
                self.returned.append(thing)
        return True

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
            self.settle(owner, data, "nack", 0)
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
                    self.settle(owner, data, "nack", 0)
            for thing in [thing for thing, due in self.delayed.items() if due == self.now]:
                del self.delayed[thing]
                self.returned.append(thing)
            for wait in [wait for wait in self.waits if wait.deadline == self.now]:
                self.give_up(wait)
            self.run()
