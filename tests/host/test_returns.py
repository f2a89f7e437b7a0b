"""Contract: the host and clients of ours whose connection has broken, and who come back or don't.

What changes something has a number in a channel, so that it can be repeated; for how long the host
remembers is said when a client connects.
"""

from __future__ import annotations

import logging
from typing import Any

import pytest

from aiomanager._ground.errors import ConnectionLostError
from aiomanager._host.client_sessions import (
    ANSWERS_KEPT,
    KEPT_AT_MOST,
    MARGIN,
    Client,
    Clients,
)
from aiomanager._host.server import QueueServer
from aiomanager._wire.messages import Answer
from tests.support.hosted_calls import FakeTimers
from tests.support.own_client import client, data_of
from tests.support.waiting import wait_until_sync

pytestmark = pytest.mark.every_python


def test_a_client_that_connects_again_has_given_up_its_older_connection(host: QueueServer):
    """Even where the host has not heard of that yet: what was leased there goes back at once."""
    with client(host) as older:
        older.call("put", [b"a"], None)
        older.call("receive", 1, None)
        with client(host) as newer:
            ((_, attempt, data),) = newer.call("receive", 1, 0)
            assert (attempt, data) == (2, b"a")
        with pytest.raises((EOFError, ConnectionError)):
            older.call("qsize")


def test_a_put_that_waited_when_its_connection_broke(host: QueueServer):
    """What went in before is what its repetition is told; nothing goes in twice or later."""
    with client(host) as one:
        one.call("put", [b"a"], None, queue="small")
        waiting = one.send("put", [b"b", b"c", b"d"], None, queue="small", channel="put", number=1)
        assert one.nothing_yet(waiting)
    with client(host) as one:
        again = one.call("put", [b"b", b"c", b"d"], None, queue="small", channel="put", number=1)
        assert again == 1
        assert data_of(one.call("receive", 9, 0, queue="small")) == [b"a", b"b"]
        assert one.call("receive", 9, 0, queue="small") == []


def test_a_number_that_goes_back_is_refused(host: QueueServer):
    """Two that use one channel must not get one another's answers."""
    with client(host) as one:
        one.call("put", [b"a"], None, channel="put", number=5)
        kind, value = one.reply(one.send("put", [b"b"], None, channel="put", number=4))
        assert (kind, type(value)) == ("#ERROR", RuntimeError)
        assert one.call("qsize") == 1


def test_errors_are_repeated_too(host: QueueServer):
    """Whatever the answer was."""
    with client(host) as one:
        for _ in range(2):
            kind, value = one.reply(one.send("nothing", channel="c", number=1))
            assert (kind, type(value)) == ("#ERROR", AttributeError)


def test_a_repeated_request_is_not_run_again(host: QueueServer):
    """It gets the answer that it had, on whatever connection."""
    with client(host) as one:
        assert one.call("put", [b"a"], None, channel="put", number=1) == 1
        assert one.call("put", [b"a"], None, channel="put", number=1) == 1
    with client(host) as one:
        assert one.call("put", [b"a"], None, channel="put", number=1) == 1
        assert one.call("qsize") == 1
        assert one.call("put", [b"b"], None, channel="put", number=2) == 1
        assert one.call("put", [b"x"], None, channel="put", number=2, queue="small") == 1
        assert one.call("put", [b"c"], None, channel="another", number=2) == 1
        assert one.call("qsize") == 3
        for _ in range(2):  # and not the answer to the one before
            assert one.call("put", [b"e", b"f"], None, channel="put", number=3) == 2
        assert one.call("qsize") == 5
    with client(host, "another client") as another:
        assert another.call("put", [b"d"], None, channel="put", number=2) == 1
        assert another.call("qsize") == 6


@pytest.mark.parametrize("says", [None, 5.0, 1e9], ids=str)
def test_what_a_client_was_answered_is_forgotten_in_time(says: float | None):
    """Not while it is connected, however long; when it has left, after as long as it says that it
    may come back, up to a limit."""
    timers = FakeTimers()
    forgotten: list[Client] = []
    clients = Clients(timers, forgotten.append)
    ran: list[int] = []

    def put(number: int) -> None:
        def run(send: Any) -> None:
            ran.append(number)
            send(("#RETURN", None))

        def send(answer: Answer) -> bool:
            return True

        client = clients.introduce("one")
        if says is not None:
            client.hello(False, says)
        client.once("put", number, run, send)

    kept = MARGIN + {None: ANSWERS_KEPT, 5.0: 5.0, 1e9: KEPT_AT_MOST}[says]
    put(1)
    timers.advance(kept * 3)
    put(1)
    clients.left("one")
    timers.advance(kept * 0.9)
    put(1)
    clients.left("one")
    timers.advance(kept * 0.9)
    put(1)
    assert ran == [1]
    clients.left("one")
    timers.advance(kept)
    assert len(clients) == 0
    assert len(forgotten) == 1
    put(1)
    assert ran == [1, 1]


def test_what_was_forgotten_is_not_run_again(host: QueueServer):
    """Where a client says that it was here, and that it has sent a request before, nobody knows
    whether it has happened. What it has not sent before is run, and so is everything that it sends
    to another run of the host."""
    with client(host, returns_within=20) as one:
        run = one.hello["run"]
        assert one.hello["kept"] == 20 + MARGIN
    with client(host, "forgotten", run=run) as one:
        request: dict[str, Any] = {"channel": "put", "number": 7, "again": True}
        kind, value = one.reply(one.send("put", [b"a"], 0, **request))
        assert (kind, type(value), value.outcome_known) == ("#ERROR", ConnectionLostError, False)
        assert one.call("qsize") == 0
        assert one.call("put", [b"a"], 0, channel="put", number=8) == 1
        assert one.call("put", [b"a"], 0, channel="put", number=8, again=True) == 1
        assert one.call("qsize") == 1
    with client(host, "of another run", run=run + 1) as one:
        assert one.call("put", [b"a"], 0, channel="put", number=7, again=True) == 1


def test_a_client_that_does_not_come_back(host: QueueServer, caplog: pytest.LogCaptureFixture):
    """What it has taken, and may not have known to be its own, is handed out again, and the log
    says so; what it knew of is out for ever, as at any queue."""
    with caplog.at_level(logging.WARNING), client(host, "other") as other:
        with client(host, returns_within=0) as one:
            one.call("put", [b"a", b"b", b"c"], None)
            for number in (1, 2):
                ((delivery_id, _, _),) = one.call("receive", 1, None)
                one.call("take", [delivery_id], channel="take", number=number)
        deliveries = [*other.call("receive", 1, 5), *other.call("receive", 1, 5)]
        assert [(attempt, data) for _, attempt, data in deliveries] == [(1, b"c"), (2, b"b")]
        wait_until_sync(
            lambda: "a client did not come back; 1 items of queue 'jobs'" in caplog.text,
            description="the log says so",
        )
        assert other.call("statistics")["unfinished"] == 3


def test_a_client_that_comes_back_finds_what_it_took(host: QueueServer):
    """The answer to its take is the same, and it may say that it is done."""
    with client(host) as one:
        run = one.hello["run"]
        one.call("put", [b"a"], None)
        ((delivery_id, _, _),) = one.call("receive", 1, None)
        assert one.call("take", [delivery_id], channel="take", number=1) == [True]
    with client(host, run=run) as one:
        request: dict[str, Any] = {"channel": "take", "number": 1, "again": True}
        assert one.call("take", [delivery_id], **request) == [True]
        assert one.call("task_done", 1, run, ["take"]) == 1
        assert one.call("join") is True
