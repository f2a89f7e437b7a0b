"""A hosted queue without a host: a clock that only moves when told to, and calls to look at.

Whoever calls is told at once, as a host does it: each call of an `Owner`, and each time of the
clock's, ends with all answers taken out; where a test calls the queue itself, when it looks.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from aiomanager._broker.outcomes import (
    Accepted,
    Answers,
    Handed,
    Joined,
    Nothing,
    Outcome,
    Refused,
    Returned,
    ShutDown,
)
from aiomanager._broker.queue import HostedQueue
from aiomanager._ground.errors import QueueShutDown


class FakeTimer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class FakeTimers:
    """A clock that stands until `advance`."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._calls: list[tuple[float, int, FakeTimer]] = []
        self._numbers = itertools.count()
        self._answers: dict[Answers, None] = {}  # of the queues that go by this clock

    def answer_for(self, answers: Answers) -> None:
        """Tell those who are answered when something was due."""
        self._answers[answers] = None

    def afterwards(self) -> None:
        """What is to be done when something was due."""
        for answers in self._answers:
            tell(answers)

    def time(self) -> float:
        return self._now

    def call_at(self, when: float, callback: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer(callback)
        heapq.heappush(self._calls, (when, next(self._numbers), timer))
        return timer

    def advance(self, seconds: float) -> None:
        """Let time pass, and what is due in it happen, each at its time."""
        end = self._now + seconds
        while self._calls and self._calls[0][0] <= end:
            when, _, timer = heapq.heappop(self._calls)
            self._now = max(self._now, when)
            if timer.callback is not None:
                timer.callback()
                self.afterwards()
        self._now = end

    @property
    def pending(self) -> int:
        """How many calls are still to come."""
        return sum(timer.callback is not None for *_, timer in self._calls)


def tell(answers: Answers) -> None:
    """Let everybody hear what there is for him."""
    for caller, outcome in answers.drain():
        caller.tell(outcome)


def plain(outcome: Outcome) -> Any:
    """What an outcome says, to compare: a value, or an error."""
    match outcome:
        case Handed(value) | Accepted(value) | Joined(value) | Returned(value):
            return value
        case Nothing():
            return []
        case ShutDown(message):
            return QueueShutDown(message)
        case Refused(error):
            return error


class Driven:
    """A queue whose callers are told at once, whatever is called of it."""

    def __init__(self, hosted: HostedQueue) -> None:
        self._driven = hosted

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._driven, name)
        if not callable(value):
            return value

        def call(*args: Any, **kwds: Any) -> Any:
            try:
                return value(*args, **kwds)
            finally:
                tell(self._driven.answers)

        return call


class Call:
    """A call of a queue: its `answer` once there is one; with `there` false nobody takes it, which
    the queue is told."""

    def __init__(self, hosted: HostedQueue | None = None, there: bool = True) -> None:
        self.there = there
        self.hosted = hosted
        self._answers: list[Any] = []

    def tell(self, outcome: Outcome) -> None:
        assert not self._answers, "a call is answered once"
        self._answers.append(plain(outcome))
        if not self.there and isinstance(outcome, Handed):
            assert self.hosted is not None
            self.hosted.undelivered(outcome)

    @property
    def waits(self) -> bool:
        if self.hosted is not None:
            tell(self.hosted.answers)
        return not self._answers

    @property
    def answer(self) -> Any:
        assert not self.waits
        (answer,) = self._answers
        return answer

    @property
    def items(self) -> list[bytes]:
        """The data of what a receive was given."""
        return [data for _, _, data in self.answer]

    @property
    def attempts(self) -> list[int]:
        """How often each of them had been handed out, this time included."""
        return [attempt for _, attempt, _ in self.answer]

    @property
    def ids(self) -> list[Any]:
        """The ids to settle them by; the items themselves where they were taken at once."""
        return [delivery_id for delivery_id, _, _ in self.answer]


class Owner:
    """Somebody who uses a queue: every method makes a call, and returns it."""

    def __init__(self, hosted: HostedQueue, name: Hashable = "owner") -> None:
        self.hosted = hosted
        self.name = name
        if isinstance(hosted._timers, FakeTimers):
            hosted._timers.answer_for(hosted.answers)

    def put(self, *frames: bytes, timeout: float | None = None, ticket: Hashable = None) -> Call:
        call = Call(self.hosted)
        self.hosted.put(frames, timeout, call, owner=self.name, ticket=ticket)
        tell(self.hosted.answers)
        return call

    def receive(
        self,
        count: int = 1,
        timeout: float | None = None,
        *,
        ticket: Hashable = None,
        there: bool = True,
    ) -> Call:
        call = Call(self.hosted, there)
        self.hosted.receive(count, timeout, call, owner=self.name, ticket=ticket)
        tell(self.hosted.answers)
        return call

    def take(self, count: int = 1, timeout: float | None = None, *, there: bool = True) -> Call:
        call = Call(self.hosted, there)
        self.hosted.receive(count, timeout, call, owner=self.name, lease=False)
        tell(self.hosted.answers)
        return call

    def join(self, timeout: float | None = None, *, ticket: Hashable = None) -> Call:
        call = Call(self.hosted)
        self.hosted.join(timeout, call, owner=self.name, ticket=ticket)
        tell(self.hosted.answers)
        return call

    def settle(self, ids: Sequence[int], action: Any = "ack", delay: float = 0.0) -> list[bool]:
        settled = self.hosted.settle([(i, action, delay) for i in ids], owner=self.name)
        tell(self.hosted.answers)
        return settled

    def own(self, ids: Sequence[int], channel: Hashable = None) -> list[bool]:
        taken = self.hosted.take(ids, owner=self.name, holder=self.name, channel=channel)
        tell(self.hosted.answers)
        return taken

    def read(self, *channels: Hashable) -> None:
        self.hosted.read(channels or None, holder=self.name)

    def done(self, count: int = 1) -> None:
        self.hosted.task_done(count, holder=self.name)
        tell(self.hosted.answers)

    def restore(self, delivery_id: int, data: bytes, attempt: int = 1, **how: bool) -> bool:
        restored = self.hosted.restore(delivery_id, data, attempt, holder=self.name, **how)
        tell(self.hosted.answers)
        return restored

    def cancel(self, ticket: Hashable) -> None:
        self.hosted.cancel(self.name, ticket)
        tell(self.hosted.answers)

    def vanish(self) -> int:
        returned = self.hosted.owner_lost(self.name)
        tell(self.hosted.answers)
        return returned

    def give_up(self) -> int:
        returned = self.hosted.holder_lost(self.name)
        tell(self.hosted.answers)
        return returned
