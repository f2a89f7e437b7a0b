"""The hosted queue when the work is done, and when it is shut down.

No process, no socket and no real time: an answer is there at once or when the clock is moved.
"""

from __future__ import annotations

import pytest

from aiomanager._broker.queue import HostedQueue
from aiomanager._ground.errors import QueueShutDown
from tests.support.hosted_calls import FakeTimers, Owner

pytestmark = pytest.mark.every_python


# -- join and task_done -----------------------------------------------------------------------


def test_join_waits_until_every_item_is_done(one: Owner, clock: FakeTimers):
    """Wherever an item is: ready, leased, delayed or taken."""
    one.put(b"a", b"b")
    call = one.join()
    ids = one.receive(2).ids
    one.settle(ids[:1], "nack", delay=5)
    one.own(ids[1:])
    clock.advance(5)
    assert call.waits
    one.settle(one.receive().ids, "ack")
    assert call.waits
    one.done()
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
