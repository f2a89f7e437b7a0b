"""A hosted queue without a host: a clock that only moves when told to, and calls to look at."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from aiomanager._broker.queue import HostedQueue


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
        self._now = end

    @property
    def pending(self) -> int:
        """How many calls are still to come."""
        return sum(timer.callback is not None for *_, timer in self._calls)


class Call:
    """A call of a queue: its `answer` once there is one; with `there` false nobody takes it."""

    def __init__(self, there: bool = True) -> None:
        self.there = there
        self._answers: list[Any] = []

    def __call__(self, answer: Any) -> bool:
        assert not self._answers, "a call is answered once"
        self._answers.append(answer)
        return self.there

    @property
    def waits(self) -> bool:
        return not self._answers

    @property
    def answer(self) -> Any:
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

    def put(self, *frames: bytes, timeout: float | None = None, ticket: Hashable = None) -> Call:
        call = Call()
        self.hosted.put(frames, timeout, call, owner=self.name, ticket=ticket)
        return call

    def receive(
        self,
        count: int = 1,
        timeout: float | None = None,
        *,
        ticket: Hashable = None,
        there: bool = True,
    ) -> Call:
        call = Call(there)
        self.hosted.receive(count, timeout, call, owner=self.name, ticket=ticket)
        return call

    def take(self, count: int = 1, timeout: float | None = None, *, there: bool = True) -> Call:
        call = Call(there)
        self.hosted.receive(count, timeout, call, owner=self.name, lease=False)
        return call

    def join(self, timeout: float | None = None, *, ticket: Hashable = None) -> Call:
        call = Call()
        self.hosted.join(timeout, call, owner=self.name, ticket=ticket)
        return call

    def settle(self, ids: Sequence[int], action: Any = "ack", delay: float = 0.0) -> list[bool]:
        return self.hosted.settle([(i, action, delay) for i in ids], owner=self.name)

    def own(self, ids: Sequence[int], channel: Hashable = None) -> list[bool]:
        return self.hosted.take(ids, owner=self.name, holder=self.name, channel=channel)

    def read(self, *channels: Hashable) -> None:
        self.hosted.read(channels or None, holder=self.name)

    def done(self, count: int = 1) -> None:
        self.hosted.task_done(count, holder=self.name)

    def restore(self, delivery_id: int, data: bytes, attempt: int = 1, **how: bool) -> bool:
        return self.hosted.restore(delivery_id, data, attempt, holder=self.name, **how)

    def cancel(self, ticket: Hashable) -> None:
        self.hosted.cancel(self.name, ticket)

    def vanish(self) -> int:
        return self.hosted.owner_lost(self.name)

    def give_up(self) -> int:
        return self.hosted.holder_lost(self.name)
