"""The hosted queue when an owner or a lease ends, and what moves to another queue.

No process, no socket and no real time: an answer is there at once or when the clock is moved.
"""

from __future__ import annotations

import logging

import pytest

from aiomanager._broker.outcomes import Handed, Outcome
from aiomanager._broker.queue import HostedQueue
from aiomanager._ground.errors import QueueShutDown
from tests.support.hosted_calls import Call, FakeTimers, Owner, tell

pytestmark = pytest.mark.every_python


# -- owners that are gone ---------------------------------------------------------------------


def test_what_a_lost_owner_had_goes_to_others(one: Owner, other: Owner):
    """At once, to those who wait for it."""
    one.put(b"a", b"b")
    one.receive(2)
    waiting = other.receive(2)
    assert one.vanish() == 2
    assert waiting.items == [b"a", b"b"]
    assert waiting.attempts == [2, 2]


def test_a_lost_owner_takes_nothing(one: Owner, other: Owner):
    """Its place in the line is gone, and what is put then goes to somebody alive."""
    gone, alive = one.receive(), other.receive()
    one.vanish()
    other.put(b"a")
    assert gone.waits
    assert alive.items == [b"a"]


def test_what_a_lost_owner_wanted_to_put_is_not_put(small: HostedQueue):
    """Its answer says how much went in, for when it comes back and asks."""
    gone, other = Owner(small, "gone"), Owner(small, "other")
    call = gone.put(b"a", b"b", b"c")
    gone.vanish()
    assert call.answer == 2
    assert other.receive(10).items == [b"a", b"b"]
    assert small.empty()


def test_a_late_settlement_changes_nothing(one: Owner, other: Owner):
    """The item is another's by now, and stays with him."""
    one.put(b"a")
    ids = one.receive().ids
    one.vanish()
    again = other.receive()
    assert one.settle(ids, "ack") == [False]
    assert one.settle(ids, "nack") == [False]
    assert other.settle(again.ids, "ack") == [True]


def test_an_item_that_loses_its_owners_again_and_again_is_buried(clock: FakeTimers):
    """After so many times it is given up, and counts as done; a refusal is a decision of its
    owner's, after however many, and is no loss."""
    dead_lettered: list[bytes] = []
    queue = HostedQueue(
        clock, max_deliveries=3, dead_letter=lambda item: dead_lettered.append(bytes(item.data))
    )
    owner = Owner(queue)
    owner.put(b"poison", b"good")
    for attempt in (1, 2, 3):
        delivery = owner.receive()
        assert (delivery.items, delivery.attempts) == ([b"poison"], [attempt])
        assert dead_lettered == []
        owner.vanish()
    assert dead_lettered == [b"poison"]
    for _ in range(5):
        delivery = owner.receive()
        assert delivery.items == [b"good"]
        owner.settle(delivery.ids, "nack")
    assert queue.unfinished == 1


def test_without_a_grave_items_are_handed_out_for_ever(queue: HostedQueue, one: Owner):
    """Nothing is thrown away unasked."""
    one.put(b"poison")
    for attempt in range(1, 101):
        assert one.receive().attempts == [attempt]
        one.vanish()
    assert queue.qsize() == 1


# -- leases with a time -----------------------------------------------------------------------


@pytest.fixture
def timed(clock: FakeTimers) -> HostedQueue:
    """A queue whose leases last half a minute."""
    return HostedQueue(clock, lease_timeout=30, name="timed")


def test_a_lease_ends_with_its_time(
    timed: HostedQueue, clock: FakeTimers, caplog: pytest.LogCaptureFixture
):
    """A consumer that hangs loses its item to another, and the log says so."""
    slow, other = Owner(timed, "slow"), Owner(timed, "other")
    slow.put(b"a")
    ids = slow.receive().ids
    waiting = other.receive()
    with caplog.at_level(logging.WARNING):
        clock.advance(30)
    assert waiting.items == [b"a"]
    assert waiting.attempts == [2]
    assert slow.settle(ids) == [False]
    assert "1 deliveries of queue 'timed' were not settled in time" in caplog.text


def test_each_lease_has_its_own_time(timed: HostedQueue, clock: FakeTimers):
    """One timer serves all leases, and ends each when it is due."""
    one, other = Owner(timed, "one"), Owner(timed, "other")
    one.put(b"a", b"b", b"c")
    one.receive()
    clock.advance(10)
    second = other.receive()
    clock.advance(10)
    one.receive()
    assert clock.pending == 1
    clock.advance(10)
    assert timed.qsize() == 1
    other.settle(second.ids)
    clock.advance(10)
    assert timed.qsize() == 1
    clock.advance(10)
    assert timed.qsize() == 2
    assert clock.pending == 0


def test_settled_leases_leave_no_timer_behind(timed: HostedQueue, clock: FakeTimers):
    """However many there were in the time of one."""
    owner = Owner(timed)
    for _ in range(100):
        owner.put(b"a")
        owner.settle(owner.receive().ids)
        clock.advance(1)
    assert clock.pending <= 1
    clock.advance(30)
    assert clock.pending == 0


# -- moving -----------------------------------------------------------------------------------


def test_an_item_moves_to_another_queue_in_one_step(queue: HostedQueue, one: Owner):
    """It is never in both or in neither, and the other queue has room for it even if it is full."""
    target = HostedQueue(FakeTimers(), maxsize=1)
    Owner(target).put(b"x")
    one.put(b"a")
    (delivery_id,) = one.receive().ids
    assert queue.move(delivery_id, target, b"dead", owner="one")
    assert (queue.unfinished, target.qsize()) == (0, 2)
    assert Owner(target).receive(2).items == [b"x", b"dead"]


def test_moving_wakes_who_waits_for_it(queue: HostedQueue, one: Owner):
    """At the one queue a receive, at the other a `join`."""
    target = HostedQueue(FakeTimers())
    one.put(b"a")
    (delivery_id,) = one.receive().ids
    join, receive = one.join(), Owner(target).receive()
    queue.move(delivery_id, target, b"dead", owner="one")
    assert join.answer is True
    assert receive.items == [b"dead"]


def test_only_the_owner_moves(queue: HostedQueue, one: Owner):
    """A lease that is lost moves nothing."""
    target = HostedQueue(FakeTimers())
    one.put(b"a")
    (delivery_id,) = one.receive().ids
    assert not queue.move(delivery_id, target, b"dead", owner="other")
    one.vanish()
    assert not queue.move(delivery_id, target, b"dead", owner="one")
    assert (queue.qsize(), target.qsize()) == (1, 0)


def test_nothing_moves_to_a_queue_that_was_shut_down(queue: HostedQueue, one: Owner):
    """The item stays with its owner."""
    target = HostedQueue(FakeTimers())
    target.shutdown()
    one.put(b"a")
    (delivery_id,) = one.receive().ids
    with pytest.raises(QueueShutDown):
        queue.move(delivery_id, target, b"dead", owner="one")
    assert one.settle([delivery_id], "nack") == [True]


def test_what_is_taken_over_needs_no_room(small: HostedQueue):
    """What moves here; a queue that was shut down at once drops it."""
    owner = Owner(small)
    owner.put(b"a", b"b")
    small.take_over(b"c")
    assert small.qsize() == 3
    small.shutdown(immediate=True)
    small.take_over(b"d")
    assert owner.join().answer is True


# -- counting ---------------------------------------------------------------------------------


def test_statistics(small: HostedQueue):
    """What there is now, and what there was in all."""
    owner = Owner(small)
    owner.put(b"a", b"b", b"c")
    ids = owner.receive(2).ids
    owner.settle(ids[:1], "ack")
    owner.settle(ids[1:], "nack", delay=5)
    assert small.statistics() == {
        "qsize": 2,
        "maxsize": 2,
        "unfinished": 2,
        "leased": 0,
        "delayed": 1,
        "waiting_getters": 0,
        "waiting_putters": 0,
        "puts": 3,
        "deliveries": 2,
        "redeliveries": 0,
        "done": 1,
        "is_shutdown": False,
    }


def test_statistics_of_those_who_wait(small: HostedQueue):
    """Receives count with all that they would take, puts with what is still to be put."""
    owner = Owner(small)
    owner.receive(3)
    owner.receive()
    assert small.statistics()["waiting_getters"] == 4
    owner.vanish()
    owner.put(b"a", b"b", b"c", b"d", b"e")
    assert small.statistics()["waiting_putters"] == 3


def test_a_reply_may_call_the_queue(queue: HostedQueue):
    """What an answer leads to may happen within it."""
    answers: list[list[bytes]] = []

    class SettlesAndReceivesAgain:
        def tell(self, outcome: Outcome) -> None:
            assert isinstance(outcome, Handed)
            answers.append([bytes(data) for _, _, data in outcome.deliveries])
            queue.settle([(i, "ack", 0.0) for i, _, _ in outcome.deliveries])
            if len(answers) < 3:
                queue.receive(1, None, self)
            tell(queue.answers)

    join = Call(queue)
    queue.put([b"a", b"b", b"c"], None, Call())
    queue.join(None, join)
    queue.receive(1, None, SettlesAndReceivesAgain())
    tell(queue.answers)
    assert answers == [[b"a"], [b"b"], [b"c"]]
    assert join.answer is True


class Named(str):
    """A name that counts how often it is compared."""

    __slots__ = ()
    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Named.compared += 1
        return str.__eq__(self, other)


def test_a_lost_owner_costs_what_it_had(timed: HostedQueue, monkeypatch: pytest.MonkeyPatch):
    """And not what all others have, who may be thousands that go at once."""
    monkeypatch.setattr(Named, "compared", 0)
    owners = [Owner(timed, Named(number)) for number in range(500)]
    for owner in owners:
        owner.put(b"x")
        owner.receive()
    for owner in owners:
        owner.receive()
        owner.join()
    Named.compared = 0
    for owner in owners[1:]:
        owner.vanish()
    assert Named.compared < 10 * len(owners)
    assert timed.statistics()["leased"] == 2
