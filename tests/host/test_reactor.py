"""The host's loop: times, calls from other threads, and callbacks that fail."""

from __future__ import annotations

import contextlib
import logging
import select
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from aiomanager._host.reactor import CANCELLED, WARNINGS, WARNINGS_PERIOD, Reactor
from aiomanager._host.readiness import ENDS_FIRST

pytestmark = pytest.mark.every_python


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    """A reactor that is closed at the end."""
    reactor = Reactor()
    yield reactor
    reactor.close()


def test_calls_happen_at_their_time_and_in_order(reactor: Reactor):
    """Earlier ones first, equal ones as they were asked for, cancelled ones not at all."""
    calls: list[str] = []
    now = reactor.time()
    reactor.call_at(now + 0.02, lambda: calls.append("second"))
    reactor.call_at(now + 0.02, lambda: calls.append("third"))
    reactor.call_at(now + 0.01, lambda: calls.append("first"))
    cancelled = reactor.call_at(now + 0.015, lambda: calls.append("cancelled"))
    cancelled.cancel()
    cancelled.cancel()
    last = reactor.call_at(now + 0.03, reactor.stop)
    reactor.run()
    last.cancel()
    assert calls == ["first", "second", "third"]
    assert reactor.time() >= now + 0.03


class Sleeps:
    """Tells a reactor's selector's sleeps from its looks."""

    def __init__(self, reactor: Reactor) -> None:
        self._select = reactor._selector.select
        self.pauses: list[float | None] = []
        reactor._selector.select = self  # type: ignore[method-assign]

    def __call__(self, timeout: float | None = None) -> Any:
        self.pauses.append(timeout)
        return self._select(timeout)


def test_after_a_short_wait_it_looks_for_more_before_it_sleeps():
    """For as long as it is told, and not after a long one."""
    with contextlib.closing(Reactor(busy_poll=0.02)) as reactor:
        sleeps = Sleeps(reactor)

        def in_a_while(callback: Callable[[], None]) -> None:
            reactor.call_at(reactor.time() + 0.5, callback)

        def woken() -> None:
            reactor.call_soon(lambda: None)
            in_a_while(lambda: in_a_while(reactor.stop))

        in_a_while(woken)
        reactor.run()
    first, *looks, second, last = sleeps.pauses
    assert set(looks) == {0}
    assert len(looks) >= 2  # the first is for the call
    assert all(pause is not None and pause > 0.05 for pause in (first, second, last))


def test_what_is_due_is_called_by_who_looks_for_more():
    """However long it would look."""
    with contextlib.closing(Reactor(busy_poll=60.0)) as reactor:
        reactor.call_soon(lambda: None)
        reactor.call_at(reactor.time() + 0.05, reactor.stop)
        reactor.run()


def test_a_call_may_ask_for_another(reactor: Reactor):
    """Also for one that is due already."""
    calls: list[int] = []

    def again() -> None:
        calls.append(1)
        if len(calls) < 5:
            reactor.call_at(reactor.time(), again)
        else:
            reactor.stop()

    reactor.call_at(reactor.time(), again)
    reactor.run()
    assert len(calls) == 5


def test_cancelled_calls_do_not_pile_up(reactor: Reactor):
    """Nearly every deadline is cancelled long before its time."""
    kept = [reactor.call_at(reactor.time() + 3600, lambda: None) for _ in range(10)]
    for _ in range(10_000):
        reactor.call_at(reactor.time() + 3600, lambda: None).cancel()
    assert len(reactor._timers) <= CANCELLED + len(kept) + 1
    assert all(timer in [entry[2] for entry in reactor._timers] for timer in kept)


def test_calls_from_other_threads_wake_it(reactor: Reactor):
    """It sleeps until there is something to do, and misses nothing."""
    calls: list[int] = []

    def ask() -> None:
        for number in range(1000):
            reactor.call_soon(partial(calls.append, number))
        reactor.call_soon(reactor.stop)

    thread = threading.Thread(target=ask)
    thread.start()
    reactor.run()
    thread.join()
    assert calls == list(range(1000))


def test_a_callback_that_fails_is_logged(reactor: Reactor, caplog: pytest.LogCaptureFixture):
    """Whichever kind it is; the others are called."""

    def fail(*args: object) -> None:
        raise LookupError("as asked")

    one, other = socket.socketpair()
    with one, other, caplog.at_level(logging.ERROR):
        reactor.watch(one, 1, fail)
        other.send(b"x")
        reactor.call_soon(fail)
        reactor.call_at(reactor.time(), fail)
        reactor.call_at(reactor.time() + 0.01, reactor.stop)
        reactor.run()
        reactor.unwatch(one)
        reactor.unwatch(one)
    assert caplog.text.count("LookupError: as asked") >= 3


def test_it_sleeps_while_there_is_nothing_to_do(reactor: Reactor):
    """A deadline far away costs nothing."""
    reactor.call_at(reactor.time() + 0.2, reactor.stop)
    before = time.thread_time()
    reactor.run()
    assert time.thread_time() - before < 0.05


def test_calls_after_the_end_are_ignored():
    """A thread may finish when the host is over."""
    reactor = Reactor()
    reactor.close()
    reactor.call_soon(lambda: None)


def test_warnings_that_peers_cause_are_limited(
    reactor: Reactor, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    """Some are written; of the others only the number, later."""
    now = 0.0
    monkeypatch.setattr(reactor, "time", lambda: now)
    with caplog.at_level(logging.WARNING):
        now = 100.0
        for _ in range(WARNINGS + 5):
            reactor.warn("%s was refused", "a peer")
        assert caplog.messages == ["a peer was refused"] * WARNINGS
        now += WARNINGS_PERIOD
        reactor.warn("%s was refused", "b")
    assert caplog.messages[WARNINGS:] == [
        "5 more warnings were left out: %s was refused",
        "b was refused",
    ]


def test_what_is_unwatched_in_a_turn_is_not_called_back_in_it(reactor: Reactor):
    """Though its event came in the same turn: whoever unwatched it may have closed it."""
    called: list[int] = []
    pairs = [socket.socketpair() for _ in range(2)]

    def first_of_them(number: int, events: int) -> None:
        called.append(number)
        reactor.unwatch(pairs[1 - number][0])
        reactor.call_at(reactor.time(), reactor.stop)

    for number, (receiver, sender) in enumerate(pairs):
        reactor.watch(receiver, selectors.EVENT_READ, partial(first_of_them, number))
        sender.send(b"x")
    reactor.run()
    assert len(called) == 1
    for receiver, sender in pairs:
        reactor.unwatch(receiver)
        receiver.close()
        sender.close()


def test_the_ends_of_many_hold_up_nobody():
    """Where thousands of connections end at once, whoever asks for something meanwhile is served
    before most of them; and they all get on."""
    with contextlib.closing(Reactor()) as reactor, contextlib.ExitStack() as stack:
        served: list[str] = []

        def watch(name: str) -> socket.socket:
            ours, theirs = socket.socketpair()
            stack.callback(ours.close)
            stack.callback(theirs.close)

            def ready(events: int) -> None:
                reactor.unwatch(ours)
                served.append(name)
                if len(served) == len(ends) + 1:
                    reactor.stop()

            reactor.watch(ours, selectors.EVENT_READ, ready)
            return theirs

        ends: list[socket.socket] = []
        ends.extend(watch("end") for _ in range(100))
        asks = watch("asks")
        ends.extend(watch("end") for _ in range(100))
        for end in ends[:150]:
            end.close()
        asks.send(b"x")
        for end in ends[150:]:
            end.close()
        reactor.run()
        assert len(served) == 201
        if hasattr(select, "epoll"):
            assert served.index("asks") <= ENDS_FIRST


def test_a_failure_says_how_often_it_was_left_out(caplog: pytest.LogCaptureFixture):
    """With its traceback the first time, in a line then, and a number at last."""
    now = 1000.0
    with contextlib.closing(Reactor()) as reactor, caplog.at_level(logging.WARNING):
        reactor.time = lambda: now  # type: ignore[method-assign]
        for number in range(WARNINGS + 3):
            reactor.failed("it failed", ValueError(f"for reason {number}"))
        reactor.failed("something else failed", ValueError("once"))
        assert [bool(record.exc_info) for record in caplog.records] == [
            True, *[False] * (WARNINGS - 1), True,
        ]  # fmt: skip
        now += WARNINGS_PERIOD
        reactor.failed("it failed", ValueError("again"))
    assert caplog.messages[1] == "it failed: ValueError: for reason 1"
    assert caplog.messages[WARNINGS + 1] == "3 more warnings were left out: it failed"
