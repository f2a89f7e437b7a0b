"""The hosted queue against a model: any calls in any order get the same answers from both."""

from __future__ import annotations

import itertools
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

from aiomanager._broker.backlog import Item
from aiomanager._broker.events import Event
from aiomanager._broker.queue import HostedQueue
from aiomanager._broker.state import QueueState, replay
from aiomanager._ground.errors import QueueShutDown
from tests.support.hosted_calls import Call, Driven, FakeTimers
from tests.support.hosted_model import SHUT, Model, Wait

OWNERS = st.sampled_from(["ann", "bob", "cy"])
TIMEOUTS = st.sampled_from([None, None, 0, 2, 7])


class HostedQueueMachine(RuleBasedStateMachine):
    """Does the same to the queue and to the model, and keeps its own account of the items."""

    @initialize(
        maxsize=st.sampled_from([0, 1, 3]),
        lease_timeout=st.sampled_from([None, 10.0]),
        max_deliveries=st.sampled_from([2, 100]),
        max_unsettled=st.sampled_from([2, 100]),
    )
    def begin(
        self, maxsize: int, lease_timeout: float | None, max_deliveries: int, max_unsettled: int
    ) -> None:
        self.clock = FakeTimers()
        self.dead_lettered: list[tuple[bytes, int, int]] = []
        self.events: list[Event] = []
        self.hosted = HostedQueue(
            self.clock,
            maxsize,
            lease_timeout=lease_timeout,
            max_deliveries=max_deliveries,
            max_unsettled=max_unsettled,
            dead_letter=lambda item: self.dead_lettered.append(
                (bytes(item.data), item.losses, item.rejects)
            ),
            name="jobs",
            record=self.events.append,
        )
        self.clock.answer_for(self.hosted.answers)
        self.queue: Any = Driven(self.hosted)
        self.replayed = {"jobs": QueueState()}
        self.model = Model(maxsize, lease_timeout, self.clock.time(), max_deliveries, max_unsettled)
        self.numbers = itertools.count(1)
        self.calls: list[tuple[Call, Wait]] = []
        self.seen: dict[int, bytes] = {}  # the data of every delivery, by its id
        self.puts: list[tuple[Call, list[bytes]]] = []
        self.taken: dict[bytes, Any] = {}  # what to give it back by
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
        action=st.sampled_from(["ack", "take", "take", "nack", "return", "reject"]),
        delay=st.sampled_from([0, 0, 3]),
        channel=st.sampled_from([None, "a", "b"]),
    )
    def settle(
        self, data: st.DataObject, owner: str, action: Any, delay: float, channel: str | None
    ) -> None:
        """Any delivery that ever was, by anybody, so that some are late and some another's."""
        ids = data.draw(st.lists(st.sampled_from(sorted(self.seen)), max_size=3, unique=True))
        # The last deliveries are those that are still out.
        ids = list(dict.fromkeys([*ids, *sorted(self.seen)[-2:]]))
        rightful = data.draw(st.integers(0, 3))
        if self.model.leases and rightful:
            owner = data.draw(st.sampled_from([lease[0] for lease in self.model.leases.values()]))
        settlements, expected = [], []
        if action == "take" and channel is not None:
            self.model.read(owner, channel)
        for delivery_id in ids:
            item = self.seen[delivery_id]
            latest = max(i for i, seen in self.seen.items() if seen == item)
            pause = delay + next(self.numbers) / 2**20 if delay else 0.0
            settlements.append((delivery_id, action, pause))
            expected.append(
                delivery_id == latest and self.model.settle(owner, item, action, pause, channel)
            )
            if expected[-1] and action == "take":
                self.taken[item] = delivery_id
            elif expected[-1] and action == "ack":
                self.done.append(item)
        if action == "take":
            answers = self.queue.take(ids, owner=owner, holder=owner, channel=channel)
        else:
            answers = self.queue.settle(settlements, owner=owner)
        self.model.run()
        assert answers == expected

    @precondition(lambda self: self.model.taken)
    @rule(data=st.data(), count=st.integers(1, 3))
    def task_done(self, data: st.DataObject, count: int) -> None:
        holder = data.draw(
            st.sampled_from([None, "ann", *(t[0] for t in self.model.taken.values())])
        )
        having = [item for item, taken in self.model.taken.items() if taken[0] == holder]
        if count > len(having):
            with pytest.raises(ValueError, match="too many times"):
                self.queue.task_done(count, holder=holder)
            return
        if holder is not None:
            self.model.read(holder)
            self.queue.read(holder=holder)
        self.queue.task_done(count, holder=holder)
        # Which of them they were nobody has said; here, those that were taken first.
        for item in having[:count]:
            del self.model.taken[item], self.taken[item]
            self.done.append(item)
        self.model.run()

    @precondition(lambda self: self.taken)
    @rule(
        data=st.data(),
        rightful=st.integers(0, 3),
        how=st.sampled_from(["restore", "restore", "reject"]),
    )
    def restore(self, data: st.DataObject, rightful: int, how: str) -> None:
        item = data.draw(st.sampled_from(sorted(self.taken)))
        holder, thing, _ = self.model.taken[item]
        handle = self.taken[item]
        if isinstance(handle, Item):
            if handle.data == item and holder is None:
                self.queue.undeliver(handle)
                assert self.model.untake(None, item, "restore")
                del self.taken[item]
        elif holder is not None:
            holder = holder if rightful else "nobody"
            expected = self.model.untake(holder, item, how)
            assert expected == self.queue.restore(
                handle, item, thing.attempt, holder=holder, rejected=how == "reject"
            )
            if expected:
                del self.taken[item]
        self.model.run()

    @precondition(lambda self: self.taken)
    @rule(holder=OWNERS, channels=st.sampled_from([(), ("a",), ("b",), ("a", "b")]))
    def read(self, holder: str, channels: tuple[str, ...]) -> None:
        self.queue.read(channels or None, holder=holder)
        self.model.read(holder, *channels)

    @precondition(lambda self: self.taken)
    @rule(holder=OWNERS, unlikely=st.integers(0, 3))
    def holder_lost(self, holder: str, unlikely: int) -> None:
        if unlikely < 2:
            return
        unread = [i for i, (h, _, channel) in self.model.taken.items() if h == holder and channel]
        for item in unread:
            del self.taken[item]
        assert self.queue.holder_lost(holder) == self.model.holder_lost(holder)

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
        call, wait = (
            Call(self.hosted, there),
            Wait(kind, owner, next(self.numbers), None, there=there),
        )
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
                    self.taken.update((item, handle) for handle, _, item in call.answer)
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
        assert self.dead_lettered == model.dead_lettered

    @invariant()
    def events_are_the_state(self) -> None:
        """What has happened, told to nobody who saw it, makes the queue that there is."""
        replay(self.events, self.replayed)
        self.events.clear()
        state, now = self.hosted.state(), self.clock.time()
        for kept in self.replayed["jobs"].waiting.values():
            if kept.due <= now:
                kept.due = 0.0  # of which there is no event
        assert self.replayed["jobs"] == state

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        """A call waits only while it cannot be served."""
        now = self.queue.statistics()
        if now["qsize"] > now["delayed"]:
            waiting = [wait for wait in self.model.waits if wait.kind == "receive"]
            assert not any(self.model.may(wait) for wait in waiting)
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
        rest = Call(self.hosted)
        self.queue.receive(1000, 0, rest, lease=False)
        left = [] if isinstance(rest.answer, QueueShutDown) else rest.items
        self.collect()
        accepted = [
            frame
            for call, frames in self.puts
            if isinstance(call.answer, int)
            for frame in frames[: call.answer]
        ]
        out = [*self.taken, *self.done, *(data for data, _, _ in self.dead_lettered)]
        if self.model.dropping:
            assert set(out) <= set(accepted)
            assert not left
        else:
            assert sorted([*left, *out]) == sorted(accepted)


@pytest.mark.every_python
def test_queue_and_model_agree():
    """Puts, receives, settlements, cancels, expiries, lost owners and shutdowns, in any order."""
    run_state_machine_as_test(
        HostedQueueMachine, settings=settings(max_examples=150, stateful_step_count=80)
    )
