"""The hosted queue and what its clients have taken: whose it is, and what is undone of it.

No process, no socket and no real time: an answer is there at once or when the clock is moved.
"""

from __future__ import annotations

import pytest

from aiomanager._broker import takes
from aiomanager._broker.places import FIRST_PAUSE
from aiomanager._broker.queue import HostedQueue
from tests.support.hosted_calls import Call, FakeTimers, Owner

pytestmark = pytest.mark.every_python


def taken(owner: Owner, count: int = 1, channel: str | None = None) -> Call:
    """Let an owner receive items and take them."""
    call = owner.receive(count)
    assert all(owner.own(call.ids, channel))
    return call


# -- taking back ------------------------------------------------------------------------------


def test_what_is_restored_is_at_its_place_again(queue: HostedQueue, one: Owner):
    """However often, and in whatever order: before what was put later, and after what was not."""
    one.put(b"a", b"b", b"c", b"d")
    for count in (3, 1, 2, 3):
        call = taken(one, count)
        for delivery_id, _, data in reversed(call.answer):
            assert one.restore(delivery_id, data)
    again = one.receive(4)
    assert again.items == [b"a", b"b", b"c", b"d"]
    assert again.attempts == [1, 1, 1, 1]
    one.settle(again.ids)
    assert queue.unfinished == 0


def test_what_a_client_of_the_standard_library_did_not_get_is_at_its_place(
    queue: HostedQueue, one: Owner
):
    """Also after it had been there before."""
    one.put(b"a", b"b", b"c")
    first, second = one.take().ids[0], one.take().ids[0]
    queue.undeliver(second)
    queue.undeliver(first)
    queue.undeliver(one.take().ids[0])
    assert one.take(3).items == [b"a", b"b", b"c"]
    assert queue.unfinished == 3


def test_a_take_is_undone_once(queue: HostedQueue, one: Owner, other: Owner):
    """And by nobody but the one who took."""
    one.put(b"a")
    ((delivery_id, _, _),) = taken(one).answer
    assert not other.restore(delivery_id, b"a")
    assert one.restore(delivery_id, b"a")
    assert not one.restore(delivery_id, b"a")
    assert (queue.qsize(), queue.unfinished) == (1, 1)


def test_a_take_of_an_earlier_run_of_the_host_is_undone_here(queue: HostedQueue, one: Owner):
    """Its item is in no queue, so it becomes the first of this one."""
    one.put(b"b")
    assert one.restore(17, b"a", 3)
    again = one.receive(2)
    assert (again.items, again.attempts) == ([b"a", b"b"], [3, 1])
    statistics = queue.statistics()
    assert statistics["puts"] == statistics["unfinished"] == 2


def test_who_never_says_that_it_is_done_costs_no_more_and_more(
    queue: HostedQueue, one: Owner, monkeypatch: pytest.MonkeyPatch
):
    """What was taken last can go back to its place; what was taken long ago becomes the first."""
    monkeypatch.setattr(takes, "RECEIPTS", 2)
    one.put(*(b"%d" % number for number in range(6)))
    ids = [taken(one).ids[0] for _ in range(5)]
    assert len(queue._takes._receipts["one"]) == 2
    assert one.restore(ids[4], b"4")
    assert one.restore(ids[1], b"1")
    assert one.receive(9).items == [b"1", b"4", b"5"]
    assert queue.unfinished == 3 + 3


# -- counting ---------------------------------------------------------------------------------


def test_what_is_counted_belongs_to_its_client(queue: HostedQueue, one: Owner, other: Owner):
    """Neither another client nor one of whom nothing is known says that it is done."""
    one.put(b"a")
    taken(one)
    join = one.join()
    for somebody in (other, Owner(queue, None)):
        with pytest.raises(ValueError, match="too many times"):
            somebody.done()
    assert join.waits
    one.done()
    assert join.answer is True


def test_clients_of_the_standard_library_count_for_one_another(queue: HostedQueue, one: Owner):
    """As at their own host: whatever one of them took, any of them may say that it is done."""
    one.put(b"a", b"b")
    one.take()
    taken(one)
    Owner(queue, None).done()
    with pytest.raises(ValueError, match="too many times"):
        Owner(queue, None).done()
    one.done()
    assert queue.unfinished == 0


def test_as_many_are_counted_as_there_are(queue: HostedQueue, one: Owner):
    """Who has lost some of them is told how many are left."""
    one.put(b"a", b"b", b"c")
    taken(one, 2)
    assert queue.task_done_up_to(3, holder="one") == 2
    assert queue.unfinished == 1


# -- takes of which the taker may not know ----------------------------------------------------


def test_a_take_that_was_never_read_is_undone(queue: HostedQueue, one: Owner, other: Owner):
    """When its taker will not come back: it counts as a loss, and `join` can end."""
    one.put(b"a", b"b")
    taken(one, channel="take")
    assert one.vanish() == 0
    waiting = other.receive(2)
    assert waiting.items == [b"b"]
    assert one.give_up() == 1
    again = other.receive()
    assert (again.items, again.attempts) == ([b"a"], [2])
    other.settle([*waiting.ids, *again.ids])
    assert queue.unfinished == 0


@pytest.mark.parametrize("proof", ["takes again", "says so", "says that it is done"])
def test_a_take_that_was_read_stands(queue: HostedQueue, one: Owner, proof: str):
    """Whatever says that it was: the item is its taker's, dead or alive."""
    one.put(b"a", b"b")
    taken(one, channel="take")
    unfinished = 1
    if proof == "takes again":
        taken(one, channel="take")
        one.read("take")
        unfinished = 2
    elif proof == "says so":
        one.read()
    else:
        one.done()
        unfinished = 0
    assert one.give_up() == 0
    assert queue.unfinished == queue.qsize() + unfinished


def test_each_channel_has_a_take_of_its_own(one: Owner, other: Owner):
    """What is said of one says nothing of another."""
    one.put(b"a", b"b")
    taken(one, channel="one")
    taken(one, channel="two")
    one.read("two")
    assert one.give_up() == 1
    assert other.receive(9).items == [b"a"]


def test_what_was_never_read_can_be_restored(queue: HostedQueue, one: Owner):
    """Its taker has left; then there is nothing to undo when it is given up."""
    one.put(b"a", b"b")
    (delivery_id,) = taken(one, channel="take").ids
    assert one.restore(delivery_id, b"a")
    assert one.give_up() == 0
    assert one.receive(2).items == [b"a", b"b"]


def test_what_a_client_that_is_given_up_had_is_anybodys_to_count(queue: HostedQueue, one: Owner):
    """Or nobody could ever end a `join`."""
    one.put(b"a")
    taken(one)
    one.give_up()
    assert queue.unfinished == 1
    Owner(queue, None).done()
    assert queue.unfinished == 0


# -- items that cannot be unpickled -----------------------------------------------------------


@pytest.mark.parametrize("how", ["leased", "taken"])
def test_an_item_that_nobody_can_unpickle_is_buried(clock: FakeTimers, how: str):
    """After as many attempts as any other, and with nobody lost by it."""
    dead_lettered: list[tuple[bytes, int, int]] = []
    queue = HostedQueue(
        clock,
        max_deliveries=3,
        dead_letter=lambda item: dead_lettered.append(
            (bytes(item.data), item.losses, item.rejects)
        ),
    )
    one = Owner(queue, "one")
    one.put(b"poison", b"good")
    for attempt in (1, 2, 3):
        call = one.receive()
        assert (call.items, call.attempts) == ([b"poison"], [attempt])
        if how == "leased":
            assert one.settle(call.ids, "reject") == [True]
        else:
            one.own(call.ids)
            assert one.restore(call.ids[0], b"poison", attempt, rejected=True)
    assert dead_lettered == [(b"poison", 0, 3)]
    assert one.receive().items == [b"good"]


def test_without_a_grave_others_get_past_what_nobody_can_unpickle(one: Owner, clock: FakeTimers):
    """It is handed out again at once, to one who may know how, and after longer and longer then."""
    one.put(b"poison", b"good")
    one.settle(one.receive().ids, "reject")
    one.settle(one.receive().ids, "reject")
    assert one.receive().items == [b"good"]
    for pause in (FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE):
        call = one.receive()
        clock.advance(0.9 * pause)
        assert call.waits
        clock.advance(0.2 * pause)
        assert call.items == [b"poison"]
        one.settle(call.ids, "reject")


# -- how much one may have --------------------------------------------------------------------


def test_who_settles_nothing_is_handed_no_more(clock: FakeTimers):
    """Others are, and it is again once it has settled some; what it takes does not count."""
    queue = HostedQueue(clock, max_unsettled=2)
    one, other = Owner(queue, "one"), Owner(queue, "other")
    one.put(*(b"%d" % number for number in range(6)))
    first = one.receive(9)
    assert first.items == [b"0", b"1"]
    waiting, later = one.receive(9), other.receive()
    assert waiting.waits
    assert later.items == [b"2"]
    one.settle(first.ids[:1])
    assert waiting.items == [b"3"]
    waiting = one.receive(9)
    assert one.own(first.ids[1:]) == [True]
    assert waiting.items == [b"4"]
    assert one.receive(timeout=0).answer == []


def test_a_getter_without_room_keeps_its_place_and_its_time(clock: FakeTimers):
    """It gives up when its time is over, and goes with its owner."""
    queue = HostedQueue(clock, max_unsettled_bytes=10)
    one, other = Owner(queue, "one"), Owner(queue, "other")
    one.put(b"x" * 12, b"y")
    first = one.receive(9)
    assert first.items == [b"x" * 12]
    timed, cancelled, gone = one.receive(timeout=5), one.receive(ticket=1), one.receive()
    clock.advance(5)
    assert timed.answer == []
    one.cancel(1)
    assert cancelled.answer == []
    assert queue.statistics()["waiting_getters"] == 1
    one.vanish()
    assert gone.waits
    assert queue.statistics()["waiting_getters"] == 0
    again = other.receive(9)
    assert again.items == [b"x" * 12]
    other.settle(again.ids)
    assert other.receive(9).items == [b"y"]


def test_so_many_calls_of_one_client_wait(clock: FakeTimers):
    """One more is an error, and nobody else's."""
    queue = HostedQueue(clock, max_waiting=2)
    one, other = Owner(queue, "one"), Owner(queue, "other")
    one.receive()
    one.receive()
    with pytest.raises(RuntimeError, match="2 calls of this client wait"):
        one.receive()
    waiting = other.receive()
    other.put(b"a", b"b", b"c")
    assert waiting.items == [b"c"]
    one.receive()
