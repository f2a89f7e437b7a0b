"""What stock clients are told of a shutdown, and which of their requests are loaded at once."""

from __future__ import annotations

import contextlib
import pickle
import queue
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomanager._broker.queue import HostedQueue
from aiomanager._host import stock_queue as faces
from aiomanager._host.stock_queue import StockFace, _shutdown_for, plain_arguments
from aiomanager._wire.restricted_pickle import (
    NAME_LIMIT,
    OPCODES_LIMIT,
    NotPlainError,
    check_memo,
    encode_plain,
    load_plain,
)
from tests.support.hosted_calls import FakeTimers, Owner, tell

pytestmark = pytest.mark.every_python

DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    | st.binary(max_size=300),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    | st.lists(inner, max_size=5).map(tuple),
)  # fmt: skip


@pytest.mark.parametrize("has_shutdown", [True, False])
@pytest.mark.parametrize("fallback", [queue.Empty, queue.Full])
def test_shutdown_is_what_the_receivers_python_has(
    has_shutdown: bool, fallback: type[Exception], monkeypatch: pytest.MonkeyPatch
):
    """`queue.ShutDown` where there is one, else what its programs handle."""

    class ShutDown(Exception):
        pass

    if has_shutdown:
        monkeypatch.setattr(queue, "ShutDown", ShutDown, raising=False)
    else:
        monkeypatch.delattr(queue, "ShutDown", raising=False)
    kind, error = pickle.loads(b"".join(_shutdown_for(fallback, "it is over")))
    assert kind == "#ERROR"
    assert type(error) is (ShutDown if has_shutdown else fallback)
    assert str(error) == "it is over"


class Asking:
    """A connection that is asked over, and what became of it."""

    def __init__(self, *, gone: bool) -> None:
        self.gone = gone
        self.protocol = 5
        self.queues: set[HostedQueue] = set()
        self.sent: list[bytes] = []
        self.undelivered: list[Any] = []

    def send(self, parts: Any, undelivered: Any = None) -> bool:
        self.sent.append(b"".join(parts))
        self.undelivered.append(undelivered)
        return True

    def is_gone(self) -> bool:
        return self.gone

    def starve(self) -> None:
        self.gone = True


def test_an_item_that_there_is_no_memory_to_hand_out(monkeypatch):
    """It is the next one's to get, and who has asked for it is cut off."""
    hosted = HostedQueue(FakeTimers())
    Owner(hosted).put(pickle.dumps("a"))
    poor, other = Asking(gone=False), Asking(gone=False)

    def returned_item(data: object, protocol: int) -> list[bytes]:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(faces, "returned_item", returned_item)
        StockFace(hosted).call(poor, "get", (), {})
        tell(hosted.answers)
    assert (poor.gone, poor.sent) == (True, [])
    StockFace(hosted).call(other, "get", (), {})
    tell(hosted.answers)
    assert pickle.loads(other.sent[0]) == ("#RETURN", "a")


def test_who_has_gone_is_given_nothing():
    """Also where its `get` did not wait at the queue, but in front of a host that was busy."""
    hosted = HostedQueue(FakeTimers())
    Owner(hosted).put(pickle.dumps("a"), pickle.dumps("b"))
    gone, there = Asking(gone=True), Asking(gone=False)
    StockFace(hosted).call(gone, "get", (), {})
    tell(hosted.answers)
    assert gone.sent == []
    StockFace(hosted).call(there, "get", (), {})
    tell(hosted.answers)
    assert pickle.loads(there.sent[0]) == ("#RETURN", "a")
    there.undelivered[0]()
    there.undelivered[0]()
    assert Owner(hosted).receive(9).items == [pickle.dumps("a"), pickle.dumps("b")]


def test_what_runs_code_of_a_peers_is_no_argument_of_a_queue():
    """Its comparisons would be made where everybody waits for them."""
    assert plain_arguments((True, 1.5), {"timeout": None})
    assert not plain_arguments((True, queue.Queue), {})
    assert not plain_arguments((), {"timeout": (1,)})


# -- plain requests ---------------------------------------------------------------------------


@given(DATA, st.sampled_from([3, 4, 5]))
def test_plain_data_is_loaded(item: Any, protocol: int):
    """Whatever it is; where it is too much, or its parts share others, by another thread."""
    request = ("ident", "put", (item,), {"timeout": 1})
    with contextlib.suppress(NotPlainError):
        assert load_plain(pickle.dumps(request, protocol)) == request
    assert pickle.loads(encode_plain(item)) == item


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize(
    "request_",
    [
        ("ident", "get", (), {}),
        ("ident", "get", (True, 0.5), {}),
        ("ident", "put", ([1, 2**70, -(2**31), 70000, 300], False), {"timeout": None}),
        ("ident", "put", ({"a": {"b": ("c", b"d", (), [], {}, (1, 2, 3, 4))}, "a" * 300: 1},), {}),
        (None, "create", ("jobs",), {}),
    ],
)
def test_what_the_standard_library_asks_is_loaded_at_once(request_: Any, protocol: int):
    """By the protocols of every Python that has one of its own."""
    for _ in range(2):
        assert load_plain(pickle.dumps(request_, protocol)) == request_


def test_what_is_kept_is_nobodys_to_change():
    """A request that looks the same has its own lists."""
    message = pickle.dumps(("ident", "put", ([1],), {}))
    load_plain(message)[2][0].append(2)
    assert load_plain(message)[2] == ([1],)


# A few bytes, and what they stand for: 2 ** 30 parts, a table of gigabytes.
SHARED = b")" + b"2\x86" * 30
BOMBS = {
    "shared id": b"\x80\x04(" + SHARED + b"\x8c\x03get)}t.",
    "shared method": b"\x80\x04(N" + SHARED + b")}t.",
    "shared argument": b"\x80\x04(N\x8c\x06create" + SHARED + b"\x85}t.",
    "shared by the memo": b"\x80\x04(N\x8c\x06create)" + b"\x94h\x00h\x00\x86" + b"\x85}t.",
    "shared key": b"\x80\x04(N\x8c\x03get)}" + SHARED + b"Nst.",
    "memo": b"\x80\x04Nr\xff\xff\xff\x07.",
    "memo, in text": b"Np99999999\n.",
    "opcodes": b"\x80\x04(" + b"N0" * OPCODES_LIMIT + b"N\x8c\x03get)}t.",
    "long id": pickle.dumps(("i" * (NAME_LIMIT + 1), "get", (), {})),
    "long number": b"\x80\x04(N\x8c\x03get\x8b\xff\xff\xff\x7f)}t.",
    "global": b"\x80\x04ctime\nsleep\nK\x02\x85R.",
    "instance": b"\x80\x04(K\x02itime\nsleep\n.",
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_what_would_hold_up_everybody_is_not_loaded(bomb: bytes):
    """It is left to a thread of its connection's own."""
    with pytest.raises(NotPlainError):
        load_plain(bomb)


@pytest.mark.parametrize(
    "bomb",
    [
        BOMBS["memo"],
        BOMBS["memo, in text"],
        pickle.dumps(["r", "p" * 300, 2.5, b"r" * 80_000, 2**200], 5)[:-1] + BOMBS["memo"][2:],
        b"Np" + b"9" * 5000 + b"\n.",
    ],
    ids=range(4),
)
def test_a_memo_that_is_larger_than_its_pickle_is_refused(bomb: bytes):
    """On that thread too: the table for it would be filled while nobody else runs."""
    with pytest.raises(pickle.UnpicklingError, match="a memo of"):
        check_memo(bomb)


@given(DATA, st.integers(0, 5))
def test_a_memo_of_a_pickle_that_was_made_by_a_pickler_is_accepted(item: Any, protocol: int):
    """Whatever bytes there are in it that could be opcodes."""
    check_memo(pickle.dumps([item, "r" * 70, "pr\n", item], protocol))


@given(st.binary(max_size=100))
def test_the_memo_of_garbage_is_looked_at(garbage: bytes):
    """Nothing but the error of a memo comes of it."""
    with contextlib.suppress(pickle.UnpicklingError):
        check_memo(garbage + b"r")


class Dangerous:
    """Would be noticed if it were unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("this was run",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_runs_code_is_not_loaded(protocol: int):
    """It is left to a thread that may be held up; protocols older than those of any supported
    Python included."""
    with pytest.raises(NotPlainError):
        load_plain(pickle.dumps(("ident", "put", (Dangerous(),), {}), protocol))


@given(st.binary(max_size=100))
def test_garbage_is_an_error(garbage: bytes):
    """Of an ordinary kind, which the host answers, or a tuple, which it looks at further."""
    for message in (garbage, b"\x80\x04" + garbage, b"\x80\x05\x95" + garbage):
        with contextlib.suppress(Exception):
            assert isinstance(load_plain(message), tuple)
