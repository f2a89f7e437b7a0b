"""Messages, requests and replies."""

from __future__ import annotations

import gc
import io
import pickle
import socket
import struct
import threading
from multiprocessing import connection
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomanager._wire.framing import (
    BULK_SIZE,
    HEAD_SIZE,
    MAPPED_SIZE,
    RELEASED_APART,
    MessageReader,
    MessageTooLarge,
)
from aiomanager._wire.handshake import HANDSHAKE_LIMIT
from aiomanager._wire.messages import bulky, dump, load, split
from tests.support.waiting import wait_until_sync
from tests.wire.peers import beside, joined, read

pytestmark = pytest.mark.every_python


# -- messages ------------------------------------------------------------
def test_cut_at_every_byte():
    """Wherever a stream is cut in two, the same messages come out."""
    messages = [b"", b"a", b"some words", b"", b"\xff" * 300]
    stream = joined(*messages)
    for cut in range(len(stream) + 1):
        assert read(MessageReader(), stream[:cut], stream[cut:]) == messages


@pytest.mark.parametrize("step", [1, 3, 1000, BULK_SIZE, 10**6])
def test_large_messages_in_pieces(step: int):
    """Messages on both sides of the size from which they are gathered apart."""
    messages = [b"x" * (BULK_SIZE - 1), b"y", b"z" * BULK_SIZE, b"", b"w" * (BULK_SIZE * 3 + 7)]
    if step < 1000:
        messages = messages[1:3]
    else:
        messages.append(b"v" * (MAPPED_SIZE + 1))
    stream = joined(*messages)
    reader = MessageReader()
    pieces = (stream[start : start + step] for start in range(0, len(stream), step))
    assert read(reader, *pieces) == messages
    assert not reader.midway


class Stream(io.BytesIO):
    """A stream of bytes that is read as a socket is, and has so many ready at a time."""

    def __init__(self, content: bytes, ready: int) -> None:
        super().__init__(content)
        self.ready = ready

    def recv(self, size: int, /) -> bytes:
        return self.read(min(size, self.ready))

    def recv_into(self, buffer: memoryview, /) -> int:
        return self.readinto(buffer[: self.ready])


@pytest.mark.parametrize("ready", [5000, BULK_SIZE, 10**7])
def test_messages_read_from_a_socket(ready: int):
    """Large ones in between go to where they stay, and nothing of the next goes with them."""
    messages = [b"a", b"x" * BULK_SIZE, b"b", b"y" * MAPPED_SIZE, b"z" * (MAPPED_SIZE - 1), b"c"]
    stream = Stream(joined(*messages), ready)
    reader = MessageReader()
    received = []
    while reader.read(stream):
        while (message := reader.next()) is not None:
            received.append(bytes(message))
    assert received == messages
    assert not reader.midway


def test_a_message_that_never_comes_takes_no_memory():
    """Whatever length a peer announces."""
    before = psutil.Process().memory_info().rss
    reader = MessageReader()
    reader.feed(struct.pack("!i", 1024**3) + b"no more")
    assert reader.next() is None
    assert reader.held == 7
    assert psutil.Process().memory_info().rss - before < 64 * 1024**2


def test_the_memory_of_a_message_is_given_back():
    """By the time that its last user is gone, or soon after."""
    process = psutil.Process()
    size = 2 * RELEASED_APART
    before = process.memory_info().rss
    reader = MessageReader()
    reader.feed(struct.pack("!i", size))
    assert reader.next() is None
    while (
        reader.read(Stream(b"x" * MAPPED_SIZE, MAPPED_SIZE)) and (message := reader.next()) is None
    ):
        assert reader.midway
    assert process.memory_info().rss - before >= size
    assert message is not None
    part = message[-10:]
    del message
    assert part == b"x" * 10
    del part
    wait_until_sync(
        lambda: process.memory_info().rss - before < size // 2, description="it is given back"
    )


def test_a_message_for_which_there_is_no_memory():
    """One error, and none besides when what could not be had is given back."""
    reader = MessageReader(2**62)
    reader.feed(struct.pack("!iQ", -1, 2**62))
    with pytest.raises(MemoryError):
        reader.next()
    gc.collect()


def test_the_memory_of_a_message_in_a_cycle_is_given_back():
    """An error whose traceback holds a part of it, say: the collector ends all of it at once."""
    reader = MessageReader()
    reader.feed(struct.pack("!i", RELEASED_APART))
    assert reader.next() is None
    cycle: list[object] = [memoryview(reader._body or b"")]
    cycle.append(cycle)
    del reader, cycle
    gc.collect()
    for thread in threading.enumerate():
        if thread.name == "aiomanager-memory":
            thread.join(10)  # what it raised would fail this test


@given(st.lists(st.binary(max_size=50), max_size=10), st.data())
def test_cut_anywhere(messages: list[bytes], data: st.DataObject):
    """Any messages, cut into any pieces."""
    stream = joined(*messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert read(MessageReader(), *pieces) == messages


@given(st.lists(st.sampled_from([10, BULK_SIZE, 2 * BULK_SIZE]), max_size=6), st.data())
def test_a_message_that_is_let_pass(sizes: list[int], data: st.DataObject):
    """Its first bytes are told once, in its turn, and those beside it come as ever."""
    messages = [bytes([index]) * size for index, size in enumerate(sizes)]
    stream = joined(*messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    came: list[bytes] = []
    reader = MessageReader(shed=came.append)

    def scarce(size: int) -> bytearray:
        if size > BULK_SIZE:
            raise MemoryError
        return bytearray(size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aiomanager._wire.framing._space", scarce)
        for piece in pieces:
            reader.feed(piece)
            while (message := reader.next()) is not None:
                came.append(bytes(message))
    assert not reader.midway
    assert came == [m[:HEAD_SIZE] if len(m) > BULK_SIZE else m for m in messages]


def test_midway_while_something_is_missing():
    """A reader knows whether its stream may end here."""
    stream = joined(b"word")
    reader = MessageReader()
    for byte in stream:
        assert read(reader, bytes([byte])) == ([b"word"] if reader.midway is False else [])
    assert not reader.midway


def test_nothing_is_kept_of_what_was_read():
    """A connection that waits holds no memory for what has passed through it."""
    reader = MessageReader()
    read(reader, joined(b"x" * 1000, b"y" * BULK_SIZE, b"z" * 1000))
    assert not reader._pending
    assert reader._body is None


@pytest.mark.parametrize("size", [101, BULK_SIZE, 2**31 - 1])
def test_limit_is_checked_before_the_body(size: int):
    """What is announced too large is refused by its header alone."""
    reader = MessageReader(limit=100)
    reader.feed(struct.pack("!i", size))
    with pytest.raises(MessageTooLarge, match=f"{size} bytes.*limit here is 100"):
        reader.next()


def test_limit_may_change_between_two_messages():
    """A peer that has authenticated may send more, even where it was all read at once."""
    reader = MessageReader(limit=4)
    reader.feed(joined(b"four", b"and more"))
    assert reader.next() == b"four"
    reader.limit = 8
    assert reader.next() == b"and more"


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x02\x00", b"\xff\xff\xff\xfe"]
)
def test_other_protocols_are_refused(garbage: bytes):
    """The first bytes of HTTP, of TLS, and a negative length."""
    with pytest.raises(MessageTooLarge):
        read(MessageReader(HANDSHAKE_LIMIT), garbage)


def test_long_lengths(monkeypatch: pytest.MonkeyPatch):
    """From 2 GiB on the length has eight bytes, after a -1; the limit holds for it too."""
    monkeypatch.setattr("aiomanager._wire.framing._SHORT_MAX", BULK_SIZE)
    message = b"l" * (BULK_SIZE + 1)
    stream = joined(message, b"ok")
    assert stream.startswith(struct.pack("!iQ", -1, len(message)))
    for cut in (*range(20), len(stream) - 1):
        assert read(MessageReader(), stream[:cut], stream[cut:]) == [message, b"ok"]
    with pytest.raises(MessageTooLarge):
        read(MessageReader(), struct.pack("!iQ", -1, 2**63))


@pytest.mark.parametrize("size", [0, 1, 16_384, 16_385, BULK_SIZE, 200_000])
def test_messages_of_the_standard_library(size: int):
    """Its connections read what we pack, and we read what they send."""
    message = bytes(size)
    sock, end = socket.socketpair()
    with sock, connection.Connection(end.detach()) as theirs:
        with beside(theirs.send_bytes, message):
            reader = MessageReader()
            received: list[bytes] = []
            while not received:
                received = read(reader, sock.recv(4096))
        assert received == [message]
        with beside(sock.sendall, joined(message)):
            assert theirs.recv_bytes() == message


# -- requests and replies ------------------------------------------------------------
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    )
)
def test_dump_and_load(message: Any):
    """Plain data comes back equal, from a message that the standard library can read as well."""
    (body,) = dump(message)
    assert load(body) == message
    assert pickle.loads(body) == message


def test_large_frames_travel_beside_the_pickle():
    """Neither side copies a large frame; small ones stay in the pickle."""
    large, small = b"l" * BULK_SIZE, b"s" * 10
    parts = dump(("put", [bulky(large), bulky(small)]))
    assert any(memoryview(part).obj is large for part in parts)

    message = bytearray(b"".join(parts))
    _, (loaded, other) = load(message)
    assert (loaded, other) == (large, small)
    assert isinstance(loaded, memoryview)
    assert loaded.obj is message
    assert loaded.readonly
    assert isinstance(other, bytes)


def test_messages_of_parts_can_be_told_apart():
    """No pickle begins like a message with buffers beside it."""
    assert all(pickle.dumps(None, protocol)[:1] != b"\x01" for protocol in range(2, 6))
    body, buffers = split(pickle.dumps("plain"))
    assert load(body) == "plain"
    assert buffers == []


@given(st.binary(max_size=60))
def test_damaged_parts_are_refused(rest: bytes):
    """Lengths that do not fit the message are an error, and nothing else."""
    try:
        split(b"\x01" + rest)
    except pickle.UnpicklingError:
        pass
    else:
        count, *lengths = struct.unpack_from(f"!I{(len(rest) - 4) // 8}Q", rest)
        assert sum(lengths[: count + 1]) + 8 * (count + 1) + 4 == len(rest)
