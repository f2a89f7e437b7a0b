"""The hosted queue, one behaviour at a time: what an owner asks, and what it is answered.

No process, no socket and no real time: an answer is there at once or when the clock is moved.
"""

from __future__ import annotations

from typing import Any

import pytest

from aiomanager._broker.backlog import TAKE_BYTES
from aiomanager._broker.queue import HostedQueue
from tests.support.hosted_calls import FakeTimers, Owner

pytestmark = pytest.mark.every_python


# -- puts and receives ------------------------------------------------------------------------


def test_items_come_out_in_the_order_of_puts(one: Owner):
    """First in, first out, one at a time or as batches."""
    assert one.put(b"a").answer == 1
    assert one.put(b"b", b"c", b"d").answer == 3
    assert one.receive().items == [b"a"]
    assert one.receive(10).items == [b"b", b"c", b"d"]


def test_a_receive_waits_for_an_item(one: Owner, other: Owner):
    """And is answered by the put that brings it."""
    call = one.receive()
    assert call.waits
    other.put(b"a")
    assert call.items == [b"a"]


def test_waiting_receives_are_served_in_order(one: Owner, other: Owner):
    """First come, first served, each with as many as it asked for."""
    first, second, third = one.receive(), other.receive(2), one.receive()
    one.put(b"a", b"b", b"c", b"d")
    assert first.items == [b"a"]
    assert second.items == [b"b", b"c"]
    assert third.items == [b"d"]


def test_a_receive_does_not_wait_for_its_whole_count(one: Owner):
    """It wants up to so many, and is content with one."""
    one.put(b"a", b"b")
    assert one.receive(10).items == [b"a", b"b"]
    call = one.receive(10)
    one.put(b"c")
    assert call.items == [b"c"]


def test_a_receive_gives_up_after_its_timeout(one: Owner, clock: FakeTimers):
    """An empty answer, and what comes later is somebody else's."""
    call = one.receive(timeout=5)
    clock.advance(4.9)
    assert call.waits
    clock.advance(0.1)
    assert call.answer == []
    one.put(b"a")
    assert one.receive().items == [b"a"]


def test_a_receive_without_patience_never_waits(one: Owner, clock: FakeTimers):
    """A timeout of nothing is answered at once."""
    assert one.receive(timeout=0).answer == []
    assert clock.pending == 0


def test_a_cancelled_receive_takes_nothing(one: Owner):
    """It is answered at once, and its place in the line is gone."""
    call = one.receive(ticket=7)
    one.cancel(7)
    assert call.answer == []
    one.put(b"a")
    assert one.receive().items == [b"a"]


def test_a_cancel_that_comes_too_late_changes_nothing(one: Owner, other: Owner):
    """What was handed out is the receiver's to give back."""
    call = one.receive(ticket=7)
    one.put(b"a")
    one.cancel(7)
    assert call.items == [b"a"]
    assert other.receive(timeout=0).answer == []


def test_a_cancel_is_for_the_owners_own_call(one: Owner, other: Owner):
    """Another owner may use the same ticket."""
    mine, theirs = one.receive(ticket=7), other.receive(ticket=7)
    other.cancel(7)
    assert theirs.answer == []
    assert mine.waits


def test_a_batch_of_large_items_is_cut(one: Owner):
    """One answer has no more than it can carry, but at least one item."""
    large = bytes(TAKE_BYTES)
    one.put(large, large, b"small")
    assert one.receive(10).items == [large]
    assert one.receive(10).items == [large]
    assert one.receive(10).items == [b"small"]


# -- room -------------------------------------------------------------------------------------


def test_a_put_waits_for_room(small: HostedQueue):
    """And is answered by the receive that makes it."""
    owner = Owner(small)
    assert owner.put(b"a", b"b").answer == 2
    assert small.full()
    call = owner.put(b"c")
    assert call.waits
    owner.receive()
    assert call.answer == 1
    assert owner.receive(10).items == [b"b", b"c"]


def test_a_put_that_is_larger_than_the_room_goes_in_by_and_by(small: HostedQueue):
    """In order, and before the puts that came later."""
    owner = Owner(small)
    large, later = owner.put(b"a", b"b", b"c", b"d", b"e"), owner.put(b"f")
    assert small.qsize() == 2
    got = [owner.receive().items[0] for _ in range(6)]
    assert got == [b"a", b"b", b"c", b"d", b"e", b"f"]
    assert (large.answer, later.answer) == (5, 1)


def test_a_put_says_how_much_went_in_before_its_time_was_up(small: HostedQueue, clock: FakeTimers):
    """So that its sender knows what is still to be put."""
    owner = Owner(small)
    call = owner.put(b"a", b"b", b"c", timeout=5)
    clock.advance(5)
    assert call.answer == 2
    assert owner.put(b"d", timeout=0).answer == 0
    assert owner.receive(10).items == [b"a", b"b"]


def test_a_cancelled_put_says_how_much_went_in(small: HostedQueue):
    """Nothing of it goes in later."""
    owner = Owner(small)
    call = owner.put(b"a", b"b", b"c", ticket=7)
    owner.cancel(7)
    assert call.answer == 2
    owner.receive(10)
    assert small.empty()


def test_a_put_to_a_full_queue_with_a_waiting_one_before_it(small: HostedQueue):
    """A small put does not overtake a large one that still waits."""
    owner = Owner(small)
    owner.put(b"a")
    large = owner.put(b"b", b"c", b"d")
    assert owner.put(b"x", timeout=0).answer == 0
    assert large.waits


def test_items_that_return_need_no_room(small: HostedQueue):
    """What was accepted once is never refused; puts wait until there is room again."""
    owner = Owner(small)
    owner.put(b"a", b"b")
    ids = owner.receive(2).ids
    owner.put(b"c", b"d")
    owner.settle(ids, "nack")
    assert small.qsize() == 4
    call = owner.put(b"e")
    owner.receive(2)
    assert call.waits
    owner.receive(1)
    assert call.answer == 1


# -- settling ---------------------------------------------------------------------------------


def test_an_acknowledged_item_is_gone(queue: HostedQueue, one: Owner):
    """It is done, and nobody sees it again."""
    one.put(b"a")
    assert one.settle(one.receive().ids, "ack") == [True]
    assert queue.unfinished == 0
    assert one.receive(timeout=0).answer == []


def test_a_refused_item_is_handed_out_again(one: Owner, other: Owner):
    """Before all others, and with a higher count."""
    one.put(b"a", b"b")
    delivery = one.receive()
    assert delivery.attempts == [1]
    one.settle(delivery.ids, "nack")
    again = other.receive(2)
    assert again.items == [b"a", b"b"]
    assert again.attempts == [2, 1]


def test_a_refused_item_may_have_to_wait(queue: HostedQueue, one: Owner, clock: FakeTimers):
    """Others go before it until its time has come; it counts as being in the queue."""
    one.put(b"a", b"b")
    one.settle(one.receive().ids, "nack", delay=5)
    assert queue.qsize() == 2
    assert one.receive().items == [b"b"]
    call = one.receive()
    clock.advance(4.9)
    assert call.waits
    clock.advance(0.1)
    assert call.items == [b"a"]
    assert call.attempts == [2]


def test_an_item_that_nobody_looked_at_counts_as_never_handed_out(one: Owner, other: Owner):
    """It goes back to its place, as if it had not left."""
    one.put(b"a", b"b")
    one.settle(one.receive().ids, "return")
    again = other.receive(2)
    assert again.items == [b"a", b"b"]
    assert again.attempts == [1, 1]


def test_returned_items_keep_the_order_of_their_puts(one: Owner):
    """In whatever order they come back."""
    one.put(b"a", b"b", b"c", b"d")
    ids = one.receive(3).ids
    one.settle([ids[2]], "nack")
    one.settle([ids[0]], "return")
    one.settle([ids[1]], "nack")
    assert one.receive(4).items == [b"a", b"b", b"c", b"d"]


def test_a_taken_item_is_its_receivers(queue: HostedQueue, one: Owner):
    """It cannot return any more, and is unfinished until it is said to be done."""
    one.put(b"a")
    ids = one.receive().ids
    assert one.own(ids) == [True]
    assert one.settle(ids, "nack") == [False]
    assert one.vanish() == 0
    assert (queue.qsize(), queue.unfinished) == (0, 1)
    one.done()
    assert queue.unfinished == 0


def test_what_is_no_delivery_id_takes_nothing(queue: HostedQueue, one: Owner):
    """Nor does what was named before it."""
    one.put(b"a")
    ids = one.receive().ids
    with pytest.raises(TypeError):
        one.own([*ids, []])  # type: ignore[list-item]
    assert one.settle(ids) == [True]


def test_a_receive_without_a_lease_takes(queue: HostedQueue, one: Owner):
    """This is how the standard library's clients get."""
    one.put(b"a")
    assert one.take().items == [b"a"]
    one.vanish()
    assert (queue.qsize(), queue.unfinished) == (0, 1)


def test_an_item_whose_taker_is_gone_stays(one: Owner, other: Owner):
    """It could not be handed over, so it is the next to be received, by the next who waits."""
    gone, waiting = one.take(there=False), other.take()
    one.put(b"a", b"b")
    assert gone.items == [b"a"]
    assert waiting.items == [b"a"]
    assert waiting.attempts == [1]


def test_a_leased_item_whose_receiver_is_gone_stays(one: Owner, other: Owner):
    """The same for deliveries, before anybody has noticed the receiver's end."""
    one.put(b"a")
    one.receive(there=False)
    again = other.receive()
    assert again.items == [b"a"]
    assert again.attempts == [1]
    assert one.vanish() == 0


def test_settling_twice_is_refused(one: Owner):
    """The second time it is nobody's to settle, and nothing happens."""
    one.put(b"a")
    ids = one.receive().ids
    assert one.settle(ids * 2, "ack") == [True, False]
    assert one.settle(ids, "nack") == [False]
    assert one.receive(timeout=0).answer == []


@pytest.mark.parametrize("delay", ["soon", None, 10**400])
def test_a_delay_that_is_no_time_is_refused(queue: HostedQueue, one: Owner, delay: Any):
    """And the item is still its owner's, instead of nobody's."""
    one.put(b"a")
    ids = one.receive().ids
    with pytest.raises((TypeError, ValueError, OverflowError)):
        one.settle(ids, "nack", delay)
    assert queue.unfinished == 1
    assert one.settle(ids) == [True]


def test_settling_what_another_owner_has_is_refused(one: Owner, other: Owner):
    """A lease is its owner's."""
    one.put(b"a")
    ids = one.receive().ids
    assert other.settle(ids) == [False]
    assert one.settle(ids) == [True]


def test_ids_of_another_run_of_the_host_settle_nothing(one: Owner, clock: FakeTimers):
    """A host that was restarted numbers its deliveries differently."""
    later = Owner(HostedQueue(clock), "one")
    one.put(b"a")
    later.put(b"a")
    ids = one.receive().ids
    later.receive()
    assert later.settle(ids) == [False]
