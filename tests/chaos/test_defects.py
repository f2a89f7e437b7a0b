"""Seeded defects: each mistake is made on purpose, and something has to notice it, the checker of
the runs under fire or, where no fault would show it, a test of the contract."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import anyio
import pytest

from aiomanager._broker.queue import HostedQueue
from tests.broker import test_queue, test_takes
from tests.chaos.catalogue import FAULTS
from tests.chaos.defects import DEFECTS, seeded
from tests.chaos.faults import carry_out
from tests.chaos.processes import Nursery
from tests.fuzz import targets
from tests.host import test_ending, test_returns, test_strangers
from tests.queue.consumer import test_items
from tests.queue.consumer.hosting import Hosting
from tests.support.hosted_calls import FakeTimers, Owner
from tests.support.hosts import serving

# So that who has them now keeps them for as long as it takes the others to say something.
LONG_LEASES = {"lease_timeout": 1.5}


class Run(NamedTuple):
    """A fault, so many times, and which kinds of problems the checker has to report, one at least.

    Where something gets stuck the run waits for it for `patience` seconds.
    """

    fault: str
    trials: int
    problems: set[str]
    patience: float = 10.0
    settings: dict[str, Any] = {}  # noqa: RUF012 - of the host, and never changed


SEEN_BY_THE_CHECKER = {
    "no_requeue": Run("F2", 2, {"lost"}),
    "dead_waiter_kept": Run("F1", 2, {"lost"}, patience=4),
    "claim_dropped": Run("F9", 300, {"lost", "hung"}, patience=2),
    "cancelled_receive_dropped": Run("F9", 150, {"hung"}, patience=2),
    "lease_timeout_never": Run("F11", 1, {"hung"}, patience=2),
    "reply_off_by_one": Run("F9", 60, {"hung"}, patience=2),
    "settlements_not_sent_again": Run("F13d", 12, {"hung"}, patience=2),
    "no_reconnection": Run("F6", 1, {"hung"}, patience=2),
    "shutdown_forgets_getters": Run("F1", 1, {"hung"}, patience=2),
    "maxsize_ignored": Run("F4b", 1, {"hung"}, patience=2),
    "no_handshake_deadline": Run("P1", 9, {"hung"}, patience=2),
    "deaf_after_exhaustion": Run("F21a", 1, {"hung"}, patience=2),
    "no_deduplication": Run("F13d", 12, {"enqueued_twice"}, patience=4),
    "taken_and_there": Run("F1", 2, {"enqueued_twice"}),
    "byte_changed": Run("F4", 4, {"unexpected"}),
    "batch_reversed": Run("F12", 1, {"disordered"}),
    "lease_by_message": Run("F11", 5, {"stale_acks"}, settings=LONG_LEASES),
    "stale_ack_accepted": Run("F11", 5, {"stale_acks"}, settings=LONG_LEASES),
    "dead_putter_kept": Run("F4b", 2, {"ghosts"}, patience=4),
    "join_forgets_leases": Run("J1", 1, {"early_joins"}),
    "task_done_for_others": Run("J1", 1, {"early_joins"}, patience=4),
    "descriptors_kept": Run("F1", 1, {"left_behind"}, patience=4),
    "threads_kept": Run("F1", 1, {"left_behind"}, patience=4),
    "socket_file_kept": Run("F1", 1, {"left_behind"}),
    "children_cut_connections": Run("F25", 12, {"failures", "hung"}, patience=8),
    "orphaned": Run("F8", 2, {"left_behind"}, patience=6),
}


@pytest.mark.parametrize("name", SEEN_BY_THE_CHECKER)
def test_the_checker_sees(nursery: Nursery, seed: int, name: str) -> None:
    """The run is reported as invalid, with a kind of problem that the mistake makes."""
    run = SEEN_BY_THE_CHECKER[name]
    fault = FAULTS[run.fault]
    fault = replace(fault, settings={**fault.settings, **run.settings})
    outcome = carry_out(fault, nursery, run.trials, seed, defect=name, longest_wait=run.patience)
    print(f"seed {seed}: {outcome.report} {outcome.notes}")  # noqa: T201 - shown where it fails
    assert run.problems & {*outcome.report.problems}


def an_item_that_was_refused() -> None:
    """It is the next to be handed out."""
    queue = HostedQueue(FakeTimers())
    test_queue.test_a_refused_item_is_handed_out_again(Owner(queue, "one"), Owner(queue, "other"))


def an_item_that_was_refused_for_a_while() -> None:
    """It is handed out when its time has come."""
    clock = FakeTimers()
    queue = HostedQueue(clock)
    test_queue.test_a_refused_item_may_have_to_wait(queue, Owner(queue), clock)


def a_cancelled_receive() -> None:
    """It takes nothing."""
    test_queue.test_a_cancelled_receive_takes_nothing(Owner(HostedQueue(FakeTimers())))


def a_take_for_nobody() -> None:
    """Its item is at its place again."""
    queue = HostedQueue(FakeTimers())
    test_takes.test_what_is_restored_is_at_its_place_again(queue, Owner(queue, "one"))


def a_take_that_was_never_read() -> None:
    """It is undone when its taker is given up."""
    queue = HostedQueue(FakeTimers())
    one, other = Owner(queue, "one"), Owner(queue, "other")
    test_takes.test_a_take_that_was_never_read_is_undone(queue, one, other)


def a_repeated_request() -> None:
    """A request that is sent again gets the answer that it had, in its channel."""
    with serving() as host:
        test_returns.test_a_repeated_request_is_not_run_again(host)


def a_sentinel() -> None:
    """It ends a consumer, and is given to no handler."""
    hosting = Hosting("memory", "memory://seeded")
    anyio.run(test_items.test_another_sentinel_or_none, hosting)


def a_stranger_with_much_to_say() -> None:
    """He announces a megabyte and sends some of it."""
    targets.stranger(bytes(9) + (2**20).to_bytes(4, "big") + bytes(1000))


def a_stranger_without_the_key() -> None:
    """He answers anything, asks what he likes, and says that he is content."""
    messages = (b"{sha256}" + bytes(32), b"#CHALLENGE#{sha256}" + bytes(40), b"#WELCOME#")
    targets.host_shakes(b"".join(bytes([len(message)]) + message for message in messages))


SEEN_BY_A_TEST: dict[str, Callable[[], object]] = {
    "returned_to_the_tail": an_item_that_was_refused,
    "delayed_nack_forgotten": an_item_that_was_refused_for_a_while,
    "restored_to_the_head": a_take_for_nobody,
    "take_of_the_dead_kept": a_take_that_was_never_read,
    "cancel_ignored": a_cancelled_receive,
    "sentinel_handled": a_sentinel,
    "answers_of_all_channels": a_repeated_request,
    "answer_before_last": a_repeated_request,
    "any_key": a_stranger_without_the_key,
    "no_handshake_limit": a_stranger_with_much_to_say,
    "no_message_limit": test_strangers.test_messages_over_the_limit_are_not_read,
    "no_unauthenticated_limit": (test_strangers.test_too_many_strangers_push_one_another_out),
    "stops_at_once": test_ending.test_replies_get_out,
}


@pytest.mark.parametrize("name", SEEN_BY_A_TEST)
def test_a_test_sees(name: str) -> None:
    """It fails where the mistake was made, and not where it was not."""
    check = SEEN_BY_A_TEST[name]
    check()
    with (
        seeded(name),
        pytest.raises((Exception, pytest.fail.Exception)),
    ):
        check()


def test_each_defect_is_seen() -> None:
    """None is only listed."""
    assert {*SEEN_BY_THE_CHECKER, *SEEN_BY_A_TEST} == {*DEFECTS}
    assert not {*SEEN_BY_THE_CHECKER} & {*SEEN_BY_A_TEST}
