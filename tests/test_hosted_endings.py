"""The hosted queue when something ends: an owner, a lease, the work, the queue itself.

No process, no socket and no real time: an answer is there at once or when the clock is moved.
"""

from __future__ import annotations

import logging

import pytest

from aiomanager._errors import QueueShutDown
from aiomanager._hosted import HostedQueue
from tests.hosted_calls import Call, FakeTimers, Owner

pytestmark = pytest.mark.every_python


@pytest.fixture
def clock() -> FakeTimers:
    """A clock that stands until it is moved."""
    return FakeTimers()


@pytest.fixture
def queue(clock: FakeTimers) -> HostedQueue:
    """A queue without bounds."""
    return HostedQueue(clock)


@pytest.fixture
def small(clock: FakeTimers) -> HostedQueue:
    """A queue with room for two."""
    return HostedQueue(clock, maxsize=2)


@pytest.fixture
def one(queue: HostedQueue) -> Owner:
    """One who uses the queue."""
    return Owner(queue, "one")


@pytest.fixture
def other(queue: HostedQueue) -> Owner:
    """Another who uses the queue."""
    return Owner(queue, "other")


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


# -- join and task_done -----------------------------------------------------------------------


def test_join_waits_until_every_item_is_done(queue: HostedQueue, one: Owner, clock: FakeTimers):
    """Wherever an item is: ready, leased, delayed or taken."""
    one.put(b"a", b"b")
    call = one.join()
    ids = one.receive(2).ids
    one.settle(ids[:1], "nack", delay=5)
    one.settle(ids[1:], "take")
    clock.advance(5)
    assert call.waits
    one.settle(one.receive().ids, "ack")
    assert call.waits
    queue.task_done()
    assert call.answer is True


def test_join_with_nothing_to_do(one: Owner):
    """It is answered at once."""
    assert one.join().answer is True


def test_join_gives_up(one: Owner, clock: FakeTimers):
    """After its time, or when it is cancelled."""
    one.put(b"a")
    first, second = one.join(timeout=5), one.join(ticket=7)
    one.cancel(7)
    assert second.answer is False
    clock.advance(5)
    assert first.answer is False


def test_task_done_is_for_items_that_were_taken(queue: HostedQueue, one: Owner):
    """Not for those in the queue, and not for those that an owner holds, so that no `join` returns
    early whatever a client says too often."""
    one.put(b"a", b"b", b"c")
    one.receive()
    one.take()
    queue.task_done()
    for count in (1, 2, -1):
        with pytest.raises(ValueError, match="too many times"):
            queue.task_done(count)
    assert queue.unfinished == 2


# -- shutdown ---------------------------------------------------------------------------------


def test_after_a_shutdown_nothing_can_be_put(queue: HostedQueue, one: Owner):
    """What is there can still be received; then receives fail as well."""
    one.put(b"a")
    queue.shutdown()
    assert isinstance(one.put(b"b").answer, QueueShutDown)
    assert one.take().items == [b"a"]
    assert isinstance(one.receive().answer, QueueShutDown)
    assert isinstance(one.receive(timeout=0).answer, QueueShutDown)


def test_a_shutdown_ends_receives_that_wait(queue: HostedQueue, one: Owner, other: Owner):
    """All of them, at once."""
    calls = [one.receive(), other.receive(timeout=5)]
    queue.shutdown()
    assert all(isinstance(call.answer, QueueShutDown) for call in calls)


def test_a_shutdown_ends_puts_that_wait(small: HostedQueue):
    """One of which some went in says how many; the others fail."""
    owner = Owner(small)
    some, none = owner.put(b"a", b"b", b"c"), owner.put(b"d")
    small.shutdown()
    assert some.answer == 2
    assert isinstance(none.answer, QueueShutDown)
    assert owner.take(10).items == [b"a", b"b"]


def test_receives_wait_for_what_may_come_back(queue: HostedQueue, one: Owner, other: Owner):
    """While an item is with somebody who may refuse it, the queue has not ended."""
    one.put(b"a")
    ids = one.receive().ids
    queue.shutdown()
    call = other.receive()
    assert call.waits
    one.settle(ids, "nack")
    assert call.items == [b"a"]
    last = one.receive()
    other.settle(call.ids)
    assert isinstance(last.answer, QueueShutDown)


def test_receives_wait_for_what_is_delayed(queue: HostedQueue, one: Owner, clock: FakeTimers):
    """The same for an item that was refused for some time."""
    one.put(b"a")
    one.settle(one.receive().ids, "nack", delay=5)
    queue.shutdown()
    call = one.receive()
    assert call.waits
    clock.advance(5)
    assert call.items == [b"a"]


def test_an_immediate_shutdown_drops_what_nobody_has(
    queue: HostedQueue, one: Owner, clock: FakeTimers
):
    """Those who wait fail at once, `join` waits for what is out, and what returns is dropped."""
    one.put(b"a", b"b", b"c", b"d")
    ids = one.receive(3).ids
    one.settle(ids[:1], "nack", delay=5)
    call = one.join()
    queue.shutdown(immediate=True)
    assert queue.empty()
    assert isinstance(one.receive().answer, QueueShutDown)
    assert call.waits
    assert one.settle(ids[1:2], "nack", delay=5) == [True]
    assert one.settle(ids[2:], "ack") == [True]
    assert call.answer is True
    assert clock.pending == 0


def test_an_immediate_shutdown_may_follow_another(queue: HostedQueue, one: Owner):
    """It drops what is left; a second one of either kind changes nothing."""
    one.put(b"a")
    queue.shutdown()
    queue.shutdown(immediate=True)
    queue.shutdown()
    assert queue.is_shutdown
    assert one.join().answer is True


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

    def settle_and_receive_again(deliveries: list[tuple[int, int, bytes]]) -> bool:
        answers.append([data for _, _, data in deliveries])
        queue.settle([(i, "ack", 0.0) for i, _, _ in deliveries])
        if len(answers) < 3:
            queue.receive(1, None, settle_and_receive_again)
        return True

    join = Call()
    queue.put([b"a", b"b", b"c"], None, Call())
    queue.join(None, join)
    queue.receive(1, None, settle_and_receive_again)
    assert answers == [[b"a"], [b"b"], [b"c"]]
    assert join.answer is True
