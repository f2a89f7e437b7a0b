"""Contract: the host as a client of ours speaks to it, message by message.

Requests have an id, which their replies carry, so that many can wait on one connection; those that
change something have a number in a channel, so that they can be repeated.
"""

from __future__ import annotations

import gc
import logging
import pickle
from typing import Any

import pytest

from aiomanager._host.server import QueueServer
from aiomanager._wire.framing import BULK_SIZE, MESSAGE_LIMIT
from aiomanager._wire.hello import pack_hello
from aiomanager._wire.messages import dump, load
from aiomanager._wire.requests import pack_request
from tests.support.hosts import KEY, authenticated, dial, serving, stock_queue
from tests.support.own_client import client, data_of
from tests.support.waiting import wait_until_sync
from tests.support.wire import OwnMessages

pytestmark = pytest.mark.every_python


# -- requests and replies ---------------------------------------------------------------------


def test_the_operations(host: QueueServer):
    """All of them, with the answers that they have."""
    with client(host) as one:
        assert one.call("put", [b"a", b"b", b"c"], None) == 3
        assert (one.call("qsize"), one.call("empty"), one.call("full")) == (3, False, False)
        assert one.call("maxsize", queue="small") == 2
        deliveries = one.call("receive", 2, 0)
        assert [attempt for _, attempt, _ in deliveries] == [1, 1]
        assert data_of(deliveries) == [b"a", b"b"]
        first, second = (delivery_id for delivery_id, _, _ in deliveries)
        assert one.call("take", [first]) == [True]
        assert one.call("settle", [(first, "ack", 0), (second, "nack", 0)]) == [False, True]
        assert one.call("restore", first, 1, b"a") is True
        assert one.call("restore", first, 1, b"a") is False
        deliveries = one.call("receive", 9, 0)
        assert data_of(deliveries) == [b"a", b"b", b"c"]
        (first, *_), (second, *_), (third, *_) = deliveries
        assert one.call("move", first, "small", b"moved") is True
        assert one.call("move", first, "small", b"moved") is False
        assert one.call("settle", [(second, "ack", 0)]) == [True]
        assert one.call("take", [third, second]) == [True, False]
        run = one.hello["run"]
        assert one.call("task_done", 1, run + 1) == 0
        assert one.call("task_done", 2, run) == 1
        assert one.call("join") is True
        assert one.call("statistics")["done"] == 3
        assert one.call("receive", 1, 0) == []
        assert one.call("shutdown", False) is None
        assert one.reply(one.send("put", [b"x"], 0))[0] == "#SHUTDOWN"
        assert one.reply(one.send("receive", 1, None))[0] == "#SHUTDOWN"
        assert data_of(one.call("receive", 1, 0, queue="small")) == [b"moved"]
        assert one.call("ping", queue="") is None


def test_requests_wait_beside_one_another(host: QueueServer):
    """On one connection, and each is answered when it can be."""
    with client(host) as one:
        join_nothing = one.send("join")
        first, second = one.send("receive", 1, None), one.send("receive", 1, 30)
        timed_out = one.send("receive", 1, 0.01)
        other = one.send("receive", 1, None, queue="small")
        assert one.reply(join_nothing) == ("#RETURN", True)
        assert one.reply(timed_out) == ("#RETURN", [])
        assert one.nothing_yet(first)
        one.call("put", [b"x"], None, queue="small")
        assert data_of(one.reply(other)[1]) == [b"x"]
        one.call("put", [b"a", b"b"], None)
        assert data_of(one.reply(first)[1]) == [b"a"]
        assert data_of(one.reply(second)[1]) == [b"b"]


def test_a_waiting_request_can_be_cancelled(host: QueueServer):
    """By its id; the cancel has an answer of its own."""
    with client(host) as one:
        waiting = one.send("receive", 1, None)
        assert one.call("cancel", waiting) is None
        assert one.reply(waiting) == ("#RETURN", [])
        one.call("put", [b"a", b"b", b"c"], 0, queue="small")
        putting = one.send("put", [b"d", b"e"], None, queue="small")
        assert one.nothing_yet(putting)
        one.call("cancel", putting, queue="small")
        assert one.reply(putting) == ("#RETURN", 0)
        joining = one.send("join", queue="small")
        one.call("cancel", joining, queue="small")
        assert one.reply(joining) == ("#RETURN", False)


@pytest.mark.parametrize(
    "request_,frames,error,message",
    [
        (("nope",), [], AttributeError, "no operation 'nope'"),
        (("put",), [b"a"], TypeError, "argument"),
        (("receive", "x", 0), [], TypeError, "not supported"),
        (("settle",), [], TypeError, "argument"),
        (("settle",), [b"x"], ValueError, "settlements"),
        (("take",), [b"x"], ValueError, "ids"),
        (("restore", 1, 1), [], ValueError, "unpack"),
        (("task_done", [], 1), [], TypeError, "not supported"),
        (("move", 1, "nowhere"), [b""], KeyError, "'nowhere'; there is: jobs, small"),
    ],
)
def test_wrong_requests(host: QueueServer, request_: Any, frames: Any, error: type, message: str):
    """Each gets its error, and the connection goes on."""
    with client(host) as one:
        args = [
            one.hello["run"] if arg == 1 and request_[0] == "task_done" else arg for arg in request_
        ]
        kind, value = one.reply(one.send_plainly(*args, frames=frames))
        assert kind == "#ERROR"
        assert type(value) is error
        assert message in str(value)
        assert one.call("qsize") == 0


def test_a_client_that_has_not_said_hello(host: QueueServer):
    """One of the standard library's has no requests of ours, in whatever form."""
    with authenticated(host.address) as conn:
        conn.send_bytes(b"".join(pack_request(7, "aiomanager-queue:jobs", "put", (0,), [b"x"])))
        kind, value = conn.recv()
        assert kind == "#TRACEBACK"
        assert "for those who have said who they are" in value
        conn.send(("aiomanager-queue:jobs", "put", ([b"x"], 0), {}, 7))
        assert conn.recv()[0] == "#TRACEBACK"
    with client(host) as one:
        assert one.call("qsize") == 0


def test_queues_that_are_not_there(host: QueueServer):
    """The error names those that are; and a client may ask for them."""
    with client(host) as one:
        kind, value = one.reply(one.send("qsize", queue="jbos"))
        assert (kind, type(value)) == ("#ERROR", KeyError)
        assert "'jbos' (did you mean 'jobs'?); there is: jobs, small" in str(value)
    with client(host, "other", names=True) as other:
        assert other.hello["queues"] == ["jobs", "small"]
        assert other.hello["limits"] == {"message": MESSAGE_LIMIT}


def test_stock_clients_and_ours_share_a_queue(host: QueueServer):
    """Frames of the ones are objects for the others."""
    jobs = stock_queue(host.address)
    with client(host) as one:
        jobs.put({"from": "stock"})
        ((_, _, data),) = one.call("receive", 1, None)
        assert pickle.loads(data) == {"from": "stock"}
        one.call("put", [pickle.dumps({"from": "ours"})], None)
        assert jobs.get() == {"from": "ours"}


# -- large frames -----------------------------------------------------------------------------


def test_large_frames(host: QueueServer):
    """They travel beside the pickle, both ways, among small ones."""
    frames = [b"s" * 10, b"l" * BULK_SIZE, b"m" * (BULK_SIZE - 1), b"x" * 3_000_000]
    with client(host) as one:
        assert one.call("put", frames, None) == 4
        received = data_of(one.call("receive", 4, None))
        assert [bytes(data) for data in received] == frames


def test_no_message_is_kept_for_a_part_of_it(host: QueueServer):
    """A frame that is a small part of what it came in is copied out; one that is most of it is
    the only thing to keep."""

    def kept() -> int:
        gc.collect()
        return sum(len(found) for found in gc.get_objects() if type(found) is bytearray) + sum(
            memoryview(data.obj).nbytes if isinstance(data, memoryview) else len(data)
            for data in host.queues["jobs"]._backlog._ready
        )

    with client(host) as one:
        frames = [b"l" * BULK_SIZE] * 20
        one.call("put", frames, None)
        deliveries = one.call("receive", 19, None)
        one.call("settle", [(delivery_id, "ack", 0) for delivery_id, _, _ in deliveries])
        del deliveries
        assert kept() < 4 * BULK_SIZE
        one.call("put", [b"y" * 1_000_000], None)
        assert kept() < 1_000_000 + 8 * BULK_SIZE


# -- connections that end ---------------------------------------------------------------------


def test_what_a_client_had_goes_to_others(host: QueueServer, caplog: pytest.LogCaptureFixture):
    """When its connection is gone; and the log says so."""
    with caplog.at_level(logging.WARNING), client(host, "other") as other:
        with client(host) as one:
            one.call("put", [b"a", b"b"], None)
            one.call("receive", 2, None)
            waiting = one.send("receive", 1, None)
            assert one.nothing_yet(waiting)
        deliveries = other.call("receive", 2, 5)
        assert [(attempt, data) for _, attempt, data in deliveries] == [(2, b"a"), (2, b"b")]
        wait_until_sync(
            lambda: "a client is gone; 2 items of queue 'jobs'" in caplog.text,
            description="the log says so",
        )


def test_an_item_that_ends_its_consumers_goes_to_the_dead_letters():
    """When it has ended as many as were allowed, with the reason, and not before."""
    settings = {"queues": {"jobs": 0, "dead": 1}, "dead_letter": "dead", "max_deliveries": 2}
    with serving(**settings) as host:  # type: ignore[arg-type]
        with client(host, "first") as one:
            one.call("put", [pickle.dumps("poison")], None)
            one.call("receive", 1, None)
        with client(host, "second") as one:
            one.call("receive", 1, None)
        letter = stock_queue(host.address, "dead").get(timeout=5)
        assert (letter.item, letter.attempts, letter.queue) == ("poison", 2, "jobs")
        assert letter.reason == "its consumer was lost 2 times"
        assert host.queues["jobs"].unfinished == 0


def test_a_connection_is_of_one_client(host: QueueServer):
    """A second hello changes nothing, nor does a name of the standard library's way: who had the
    first would be remembered for ever."""
    with client(host) as one:
        one.messages.send(pack_hello(client="another", returns_within=10))
        assert load(one.messages.receive())[0] == "#TRACEBACK"
        one.messages.send(dump((None, "accept_connection", ("another",), {})))
        assert load(one.messages.receive()) == ("#RETURN", None)
        assert one.call("qsize") == 0
        assert len(host._clients) == 1


@pytest.mark.parametrize(
    "said",
    [
        {"client": ""}, {"client": 7}, {"client": "x" * 65},
        {"client": "x", "returns_within": "long"}, {"client": "x", "returns_within": -1.0},
    ],
)  # fmt: skip
def test_a_hello_that_makes_no_sense(host: QueueServer, said: dict[str, Any]):
    """It is refused, the connection ends, and nothing of it is remembered."""
    with dial(host.address) as sock, pytest.raises((EOFError, ConnectionResetError)):
        OwnMessages(sock, KEY, **said)
    assert len(host._clients) == 0


def test_the_lease_timeout():
    """A client that is alive and hangs loses what it leased; what it settles late is refused."""
    with serving(lease_timeout=0.05) as host, client(host) as one, client(host, "other") as other:
        one.call("put", [b"a"], None)
        ((delivery_id, _, _),) = one.call("receive", 1, None)
        ((_, attempt, data),) = other.call("receive", 1, 5)
        assert (attempt, data) == (2, b"a")
        assert one.call("settle", [(delivery_id, "ack", 0)]) == [False]


def test_strangers_to_the_protocol_get_an_error(host: QueueServer):
    """Requests with ids are for clients that have said who they are."""
    with authenticated(host.address) as conn:
        conn.send(("aiomanager-queue:jobs", "qsize", (), {}, 1))
        assert conn.recv()[0] == "#TRACEBACK"
    wait_until_sync(lambda: not host._peers, description="it is gone")
