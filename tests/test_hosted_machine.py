"""The hosted queue against a model: any calls in any order get the same answers from both."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from aiomanager._errors import QueueShutDown
from aiomanager._hosted import HostedQueue
from tests.hosted_calls import Call, FakeTimers

SHUT = "the queue was shut down"

# -- the model --------------------------------------------------------------------------------


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


# -- the machine ------------------------------------------------------------------------------

OWNERS = st.sampled_from(["ann", "bob", "cy"])
TIMEOUTS = st.sampled_from([None, None, 0, 2, 7])


class HostedQueueMachine(RuleBasedStateMachine):
    """Does the same to the queue and to the model, and keeps its own account of the items."""

    @initialize(maxsize=st.sampled_from([0, 1, 3]), lease_timeout=st.sampled_from([None, 10.0]))
    def begin(self, maxsize: int, lease_timeout: float | None) -> None:
        self.clock = FakeTimers()
        self.queue = HostedQueue(self.clock, maxsize, lease_timeout=lease_timeout)
        self.model = Model(maxsize, lease_timeout, self.clock.time())
        self.numbers = itertools.count(1)
        self.calls: list[tuple[Call, Wait]] = []
        self.seen: dict[int, bytes] = {}  # the data of every delivery, by its id
        self.puts: list[tuple[Call, list[bytes]]] = []
        self.taken: list[bytes] = []
        self.done: list[bytes] = []

    # -- rules

    @rule(owner=OWNERS, count=st.integers(1, 4), timeout=TIMEOUTS)
    def put(self, owner: str, count: int, timeout: float | None) -> None:
        frames = [b"%d" % next(self.numbers) for _ in range(count)]
        call, wait = self.ask("put", owner, timeout)
        wait.frames = list(frames)
        self.puts.append((call, frames))
        timeout = self.uneven(timeout, wait)
        self.queue.put(frames, timeout, call, owner=owner, ticket=wait.ticket)
        self.model.call(wait, timeout)

    @rule(
        owner=OWNERS,
        count=st.integers(1, 3),
        timeout=TIMEOUTS,
        lease=st.booleans(),
        there=st.sampled_from([True, True, True, False]),
    )
    def receive(
        self, owner: str, count: int, timeout: float | None, lease: bool, there: bool
    ) -> None:
        call, wait = self.ask("receive", owner, timeout, there)
        wait.count, wait.lease = count, lease
        timeout = self.uneven(timeout, wait)
        self.queue.receive(count, timeout, call, owner=owner, ticket=wait.ticket, lease=lease)
        self.model.call(wait, timeout)

    @precondition(lambda self: self.model.unfinished)
    @rule(owner=OWNERS, timeout=TIMEOUTS)
    def join(self, owner: str, timeout: float | None) -> None:
        call, wait = self.ask("join", owner, timeout)
        timeout = self.uneven(timeout, wait)
        self.queue.join(timeout, call, owner=owner, ticket=wait.ticket)
        self.model.call(wait, timeout)

    @precondition(lambda self: self.seen)
    @rule(
        data=st.data(),
        owner=OWNERS,
        action=st.sampled_from(["ack", "take", "nack", "return"]),
        delay=st.sampled_from([0, 0, 3]),
    )
    def settle(self, data: st.DataObject, owner: str, action: Any, delay: float) -> None:
        """Any delivery that ever was, by anybody, so that some are late and some another's."""
        ids = data.draw(st.lists(st.sampled_from(sorted(self.seen)), max_size=3, unique=True))
        # The last deliveries are those that are still out.
        ids = list(dict.fromkeys([*ids, *sorted(self.seen)[-2:]]))
        rightful = data.draw(st.integers(0, 3))
        if self.model.leases and rightful:
            owner = data.draw(st.sampled_from([lease[0] for lease in self.model.leases.values()]))
        settlements, expected = [], []
        for delivery_id in ids:
            item = self.seen[delivery_id]
            latest = max(i for i, seen in self.seen.items() if seen == item)
            pause = delay + next(self.numbers) / 2**20 if delay else 0.0
            settlements.append((delivery_id, action, pause))
            expected.append(delivery_id == latest and self.model.settle(owner, item, action, pause))
            if expected[-1] and action in ("take", "ack"):
                (self.taken if action == "take" else self.done).append(item)
        answers = self.queue.settle(settlements, owner=owner)
        self.model.run()
        assert answers == expected

    @precondition(lambda self: self.taken)
    @rule(count=st.integers(1, 3))
    def task_done(self, count: int) -> None:
        if count > self.model.taken:
            with pytest.raises(ValueError, match="too many times"):
                self.queue.task_done(count)
            return
        self.queue.task_done(count)
        self.model.taken -= count
        self.done += self.taken[:count]
        del self.taken[:count]
        self.model.run()

    @precondition(lambda self: self.taken)
    @rule()
    def restore(self) -> None:
        item = self.taken.pop()
        self.queue.restore(item, 3)
        self.model.taken -= 1
        if not self.model.dropping:
            self.model.returned.append(Thing((0, next(self.model.numbers)), item, 2))
        self.model.run()

    @precondition(lambda self: self.model.waits)
    @rule(data=st.data(), unlikely=st.booleans())
    def cancel(self, data: st.DataObject, unlikely: bool) -> None:
        if not unlikely:
            return
        wait = data.draw(st.sampled_from(self.model.waits))
        self.queue.cancel(wait.owner, wait.ticket)
        self.model.give_up(wait)
        self.model.run()

    @precondition(lambda self: self.model.leases or self.model.waits)
    @rule(owner=OWNERS, unlikely=st.integers(0, 3))
    def owner_lost(self, owner: str, unlikely: int) -> None:
        if unlikely < 2:
            return
        assert self.queue.owner_lost(owner) == self.model.lost(owner)

    @precondition(lambda self: self.model.leases or self.model.waits or self.model.delayed)
    @rule(seconds=st.integers(1, 12))
    def advance(self, seconds: int) -> None:
        self.clock.advance(seconds)
        self.model.advance(seconds)

    @precondition(lambda self: len(self.seen) > 4)
    @rule(immediate=st.booleans(), unlikely=st.integers(0, 3))
    def shutdown(self, immediate: bool, unlikely: int) -> None:
        if unlikely < 3:  # or hardly anything would be tried on a queue that is open
            return
        self.queue.shutdown(immediate)
        self.model.shutdown(immediate)

    # -- helpers

    def ask(
        self, kind: str, owner: str, timeout: float | None, there: bool = True
    ) -> tuple[Call, Wait]:
        call, wait = Call(there), Wait(kind, owner, next(self.numbers), None, there=there)
        self.calls.append((call, wait))
        return call, wait

    def collect(self) -> list[tuple[Call, Wait]]:
        """The calls that were answered since the last time; notes the items that they brought."""
        answered = [(call, wait) for call, wait in self.calls if not call.waits]
        self.calls = [(call, wait) for call, wait in self.calls if call.waits]
        for call, wait in answered:
            if wait.there and isinstance(call.answer, list):
                if wait.lease:
                    self.seen.update((i, item) for i, _, item in call.answer)
                else:
                    self.taken += call.items
        return answered

    def uneven(self, timeout: float | None, wait: Wait) -> float | None:
        """Let no two things be due at the same time: what is first then is nobody's concern."""
        if timeout:
            timeout += wait.ticket / 2**20
            wait.deadline = self.clock.time() + timeout
        return timeout

    # -- what has to hold

    @invariant()
    def answers_are_the_models(self) -> None:
        """Each call is answered, or waits, as the model says."""
        for call, wait in self.collect():
            answer = SHUT if isinstance(call.answer, QueueShutDown) else call.answer
            if isinstance(answer, list):
                answer = [(attempt, item) for _, attempt, item in answer]
            assert answer == wait.answer
        for _, wait in self.calls:
            assert wait in self.model.waits or wait.answer == "nobody asks"

    @invariant()
    def counts_are_the_models(self) -> None:
        """What the queue says of itself."""
        queue, model = self.queue, self.model
        assert (queue.qsize(), queue.unfinished) == (model.qsize, model.unfinished)
        assert queue.empty() == (not model.qsize)
        assert queue.full() == (0 < model.maxsize <= model.qsize)
        assert queue.statistics()["leased"] == len(model.leases)

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        """A call waits only while it cannot be served."""
        now = self.queue.statistics()
        assert not now["waiting_getters"] or now["qsize"] == now["delayed"]
        assert not now["waiting_putters"] or self.queue.full()
        if not self.queue.unfinished:
            assert not any(wait.kind == "join" for wait in self.model.waits)

    def teardown(self) -> None:
        """Every item that was accepted is in one place, without looking at the model."""
        if not hasattr(self, "queue"):
            return
        for owner in ("ann", "bob", "cy"):
            self.queue.owner_lost(owner)
        self.clock.advance(100)
        rest = Call()
        self.queue.receive(1000, 0, rest, lease=False)
        left = [] if isinstance(rest.answer, QueueShutDown) else rest.items
        self.collect()
        accepted = [
            frame
            for call, frames in self.puts
            if isinstance(call.answer, int)
            for frame in frames[: call.answer]
        ]
        if self.model.dropping:
            assert set(self.taken + self.done) <= set(accepted)
            assert not left
        else:
            assert sorted(left + self.taken + self.done) == sorted(accepted)


@pytest.mark.every_python
def test_queue_and_model_agree():
    """Puts, receives, settlements, cancels, expiries, lost owners and shutdowns, in any order."""
    run_state_machine_as_test(
        HostedQueueMachine, settings=settings(max_examples=300, stateful_step_count=80)
    )
