"""The hosted queue told as events, and answers that a driver holds back.

The state machine (test_machine.py) compares one queue's events with its state at every step; here
is what two queues have in common, and what a record kept before any answer can rely on.
"""

from __future__ import annotations

from typing import Any

import pytest

from aiomanager._broker import events
from aiomanager._broker.backlog import Item
from aiomanager._broker.outcomes import Answers, Handed
from aiomanager._broker.queue import HostedQueue
from aiomanager._broker.state import replay
from aiomanager._ground.buffers import Buffer
from tests.support.hosted_calls import Call, FakeTimers, Owner, tell

pytestmark = pytest.mark.every_python


class Recorded:
    """Two queues of a host, `jobs` whose dead letters go to `failed`, and what has happened."""

    def __init__(self) -> None:
        self.clock = FakeTimers()
        self.answers = Answers()
        self.events: list[events.Event] = []
        shared: dict[str, Any] = {"answers": self.answers, "record": self.events.append}
        self.failed = HostedQueue(self.clock, name="failed", **shared)
        self.jobs = HostedQueue(
            self.clock, name="jobs", max_deliveries=1, dead_letter=self.dead_letter, **shared
        )
        self.one = Owner(self.jobs, "one")

    def dead_letter(self, item: Item) -> tuple[HostedQueue, Buffer]:
        return self.failed, b"dead " + item.data

    def names_of_new(self) -> list[str]:
        """The kinds of what has happened since the last time."""
        names = [type(event).__name__ for event in self.events]
        self.events.clear()
        return names


@pytest.fixture
def host() -> Recorded:
    """Two queues that are empty."""
    return Recorded()


@pytest.mark.parametrize("way", ["moved", "given up"])
def test_one_event_takes_an_item_from_one_queue_to_another(host: Recorded, way: str):
    """No record holds the one half without the other, and no third event tells it again."""
    host.one.put(b"a")
    (delivery_id,) = host.one.receive().ids
    before = replay(host.events)
    host.events.clear()
    if way == "moved":
        host.jobs.move(delivery_id, host.failed, b"dead a", owner="one")
    else:
        host.one.vanish()
    (event,) = host.events
    assert isinstance(event, events.Moved if way == "moved" else events.DeadLettered)
    assert (event.queue, event.target) == ("jobs", "failed")
    after = replay(host.events, before)
    assert after == {"jobs": host.jobs.state(), "failed": host.failed.state()}
    assert [kept.data for kept in after["failed"].waiting.values()] == [b"dead a"]


def test_a_dead_letter_that_its_queue_drops_is_in_none(host: Recorded):
    """The event says so: no target."""
    host.failed.shutdown(immediate=True)
    host.one.put(b"a")
    host.one.receive()
    host.one.vanish()
    assert replay(host.events) == {"jobs": host.jobs.state(), "failed": host.failed.state()}
    (last,) = [event for event in host.events if isinstance(event, events.DeadLettered)]
    assert last.target is None


def test_it_has_happened_before_anybody_is_told(host: Recorded):
    """Whoever waits is answered by what his driver takes out, when it does."""
    call = Call()
    host.jobs.receive(1, None, call, owner="one")
    host.jobs.put([b"a"], None, Call(), owner="other")
    assert host.names_of_new() == ["Put", "Leased"]
    assert call.waits
    tell(host.answers)
    assert call.items == [b"a"]


def test_what_is_held_back_and_cannot_be_told_then_is_at_its_place(host: Recorded):
    """Its receiver has gone meanwhile; others had theirs, and what was put since comes after it."""
    gone, other, putting = Call(), Call(), Call()
    host.jobs.receive(1, None, gone, owner="gone", lease=False)
    host.jobs.receive(1, None, other, owner="other")
    host.jobs.put([b"a", b"b"], None, putting)
    held = dict(host.answers.drain())
    assert set(held) == {gone, other, putting}
    host.jobs.put([b"c"], None, Call())
    handed = held[gone]
    assert isinstance(handed, Handed)
    host.jobs.undelivered(handed)
    again = host.one.receive(9)
    assert (again.items, again.attempts) == ([b"a", b"c"], [1, 1])
    assert replay(host.events)["jobs"] == host.jobs.state()


def test_what_was_lost_with_its_owner_is_not_returned_twice(host: Recorded):
    """That he could not be told comes after that he is gone: his loss counts, and once."""
    host.jobs.put([b"a", b"b"], None, Call())
    host.jobs.receive(1, None, Call(), owner="gone")
    ((_, _), (_, handed)) = host.answers.drain()
    assert isinstance(handed, Handed)
    host.jobs.owner_lost("gone")
    host.jobs.undelivered(handed)
    assert (host.jobs.qsize(), host.jobs.unfinished, host.failed.qsize()) == (1, 1, 1)


def test_one_who_will_not_wait_is_answered_when_all_before_him_are(host: Recorded):
    """With what is there by then: what nobody could be given, for whom it was, is his."""
    small = HostedQueue(host.clock, maxsize=1)
    gone, other = Call(small, there=False), Call(small)
    small.receive(1, None, gone, owner="gone")
    small.receive(1, None, other, owner="other")
    put = Call(small)
    small.put([b"a", b"b", b"c"], 0, put, owner="one")
    assert other.items == [b"a"]
    assert put.answer == 2
    assert small.qsize() == 1
