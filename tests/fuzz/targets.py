"""What must hold of any bytes. Each target raises where it does not."""

from __future__ import annotations

import contextlib
import pickle
import struct
from collections.abc import Callable, Iterator
from unittest import mock

from aiomanager._ground.buffers import Buffer
from aiomanager._ground.errors import AuthenticationError
from aiomanager._wire import messages
from aiomanager._wire.framing import MessageReader, MessageTooLarge, pack
from aiomanager._wire.handshake import (
    HANDSHAKE_LIMIT,
    Handshake,
    client_handshake,
    server_handshake,
)
from aiomanager._wire.hello import is_hello
from aiomanager._wire.messages import load
from aiomanager._wire.passthrough import put_in
from tests.fuzz import requests
from tests.fuzz.doubles import KEY, Host
from tests.fuzz.source import Source

Target = Callable[[bytes], None]

_CHALLENGE = b"#CHALLENGE#"
_FAILURE = b"".join(pack([b"#FAILURE#"]))
# Both kinds of messages, those that are cut out of what was read and those that are gathered, in
# as few bytes as a fuzzer likes to try.
_BULK_SIZE = 32
_LIMITS = (0, 40, 256, 2**24)


def framing(data: bytes) -> None:
    """A stream gives the same messages and the same error however it is cut, and a reader holds
    no more than it was fed and no more than one message over its limit."""
    source = Source(data)
    limit, cutter, stream = source.choice(_LIMITS), Source(source.take(8)), source.take(len(data))
    with mock.patch("aiomanager._wire.framing.BULK_SIZE", _BULK_SIZE):
        expected = list(_messages_of(stream, limit))
        reader = MessageReader(limit)
        found: list[bytes | type[Exception]] = []
        with contextlib.suppress(MessageTooLarge):
            fed = taken = 0
            for piece in cutter.pieces(stream):
                reader.feed(piece)
                fed += len(piece)
                while (message := reader.next()) is not None:
                    found.append(bytes(message))
                    taken += len(message)
                assert reader.held <= fed - taken
                assert reader.midway or not reader.held
            assert expected == found
            return
        assert expected == [*found, MessageTooLarge]


def _messages_of(stream: bytes, limit: int) -> Iterator[bytes | type[Exception]]:
    """What a reader must make of a stream, said another way."""
    while len(stream) >= 4:
        (size,) = struct.unpack("!i", stream[:4])
        start = 4
        if size == -1:
            if len(stream) < 12:
                return
            (size,) = struct.unpack("!Q", stream[4:12])
            start = 12
        if not 0 <= size <= limit:
            yield MessageTooLarge
            return
        if len(stream) < start + size:
            return
        yield stream[start : start + size]
        stream = stream[start + size :]


class _Everything:
    def __contains__(self, name: object) -> bool:
        return True


ANY_QUEUE = _Everything()


def parts(data: bytes) -> None:
    """A message with parts comes apart as it was put together, or is refused; and what is taken
    for the put of an item is one."""
    with contextlib.suppress(pickle.UnpicklingError):
        body, buffers = messages.split(data)
        if data[:1] == b"\x01":
            lengths = struct.pack(f"!{len(buffers) + 1}Q", *map(len, (body, *buffers)))
            joined = b"".join((struct.pack("!BI", 1, len(buffers)), lengths, body, *buffers))
            assert joined == data
        else:
            assert (body, buffers) == (data, [])
    with contextlib.suppress(UnicodeDecodeError):
        for message in (data, memoryview(bytearray(data))):
            put = put_in(message, ANY_QUEUE)
            assert put is None or bytes(put[1]).endswith(pickle.STOP)


def client_shakes(data: bytes) -> None:
    """A client that meets a host without the key never takes it for its own."""
    _shake(client_handshake(KEY), data)


def host_shakes(data: bytes) -> None:
    """A host never takes a stranger for a client."""
    _shake(server_handshake(KEY), data)


def _shake(handshake: Handshake, data: bytes) -> None:
    source = Source(data)
    said: list[Buffer] = []
    try:
        step = next(handshake)
        while step is not None or source:
            if step is None:
                step = handshake.send(source.take(source.number(256)))
            else:
                said.append(step)
                step = next(handshake)
    except AuthenticationError:
        pass
    assert len(said) <= 3
    assert all(len(message) <= HANDSHAKE_LIMIT for message in said)


def stranger(data: bytes) -> None:
    """A stranger reads a challenge and at most that he was refused; nothing of what he sends is
    kept; and when he is cut off, or his time is over, nothing of him is left."""
    host = _host()
    connection = host.connect()
    source = Source(data)
    for piece in Source(source.take(8)).pieces(source.take(len(data))):
        connection.feed(piece)
        assert connection.peer.held <= HANDSHAKE_LIMIT + 12
    (challenge, *rest) = connection.read()
    assert challenge.startswith(_CHALLENGE)
    assert rest in ([], [b"#FAILURE#"])
    host.reactor.turn(host.settings.handshake_timeout)
    assert connection.peer.closed
    _nothing_left(host)


def authenticated(data: bytes) -> None:
    """Whatever a peer with the key sends, each request has at most one answer, in its form; what
    was put is in the queue or was done; and when it is gone nothing of it waits."""
    host = _host()
    connection = host.connect()
    source = Source(data)
    own = source.number(4) > 0
    connection.authenticate(own=own)
    assert not host._newcomers
    requests.carry_out(connection, host, source, own=own)
    connection.take(reads=True)
    for message in connection.read():
        if is_hello(message):
            assert own
            continue
        answer = load(message)
        assert isinstance(answer, tuple)
        assert len(answer) in (2, 3)  # the third is the id that a client of ours asks with
        assert answer[0] in ("#RETURN", "#ERROR", "#TRACEBACK", "#SHUTDOWN")
    connection.end()
    for queue in host.queues.values():
        counts = queue.statistics()
        assert not counts["leased"]
        assert not counts["waiting_getters"]
        assert not counts["waiting_putters"]
        assert counts["puts"] == counts["done"] + counts["unfinished"]
    host.reactor.turn(10_000.0)
    _nothing_left(host)


def _nothing_left(host: Host) -> None:
    assert not host._peers
    assert not host._newcomers
    assert not host._client_of
    assert len(host._clients) == 0


_hosts: list[Host] = []


def _host() -> Host:
    """A host that nobody has left anything at, the same one as long as that is so."""
    if not _hosts or any(queue.unfinished or queue._puts for queue in _hosts[0].queues.values()):
        _hosts[:] = [Host()]
    return _hosts[0]


TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (framing, parts, client_shakes, host_shakes, stranger, authenticated)
}
