"""Items and replies as bytes: small and large ones come out as they went in, by whatever way."""

from __future__ import annotations

import io
import multiprocessing
import pickle
import pickletools
import socket
from collections import OrderedDict
from multiprocessing.reduction import ForkingPickler
from multiprocessing.resource_sharer import stop as stop_sharing
from typing import Any

import pytest

from aiomanager._ground.buffers import Buffer
from aiomanager._ground.errors import EncodeError
from aiomanager._wire import items
from aiomanager._wire.framing import BULK_SIZE
from aiomanager._wire.items import LARGE_BYTES, decode, encode, without_protocol_5
from aiomanager._wire.passthrough import returned_item
from aiomanager._wire.replies import load_reply

pytestmark = pytest.mark.every_python


class Word(bytes):
    """Bytes, but not just bytes."""


ITEMS = [
    None,
    b"",
    b"x" * (LARGE_BYTES - 1),
    b"x" * LARGE_BYTES,
    Word(b"x" * LARGE_BYTES),
    bytearray(LARGE_BYTES),
    "ü" * LARGE_BYTES,
    [b"y" * LARGE_BYTES, "z" * LARGE_BYTES, OrderedDict(a=[1.5, {2}] * 20_000)],
]


def name(item: Any) -> str:
    """What a test with it is called."""
    return f"{type(item).__name__}-{len(item) if item is not None else 0}"


@pytest.mark.parametrize("item", ITEMS, ids=name)
def test_an_item_there_and_back(item: Any):
    """Also with the standard library alone at the other side, by both of its unpicklers."""
    data = encode(item)
    for back in (decode(data), pickle.loads(data), pickle._Unpickler(io.BytesIO(data)).load()):
        assert back == item
        assert type(back) is type(item)


@pytest.mark.parametrize("own_memory", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("item", ITEMS, ids=name)
def test_an_item_in_a_reply(item: Any, own_memory: Any):
    """Which is read where it lies."""
    reply: Buffer = own_memory(b"".join(returned_item(encode(item))))
    back = load_reply(reply)
    assert back == item
    assert type(back) is type(item)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_replies_of_every_pickle_protocol(protocol: int):
    """Some are read line by line."""
    value = {"many": list(range(BULK_SIZE)), "class": OrderedDict(a=1)}
    assert load_reply(memoryview(pickle.dumps(("#RETURN", value), protocol))) == value


@pytest.mark.parametrize(
    "item", [*ITEMS, ["\x96", bytearray(b"\x96\x97"), (bytearray(),)]], ids=name
)
def test_an_item_without_what_is_new_in_protocol_5(item: Any):
    """It comes out the same from a pickle of which each opcode is one of protocol 4."""
    data = without_protocol_5(encode(item))
    assert {opcode.proto for opcode, _, _ in pickletools.genops(bytes(data))} <= set(range(5))
    assert b"\x80\x05" not in bytes(data[:2])
    for back in (pickle.loads(data), pickle._Unpickler(io.BytesIO(data)).load()):
        assert back == item
        assert type(back) is type(item)


def test_what_cannot_be_had_without_protocol_5_is_left_alone():
    """What is none, what has too many parts to look at on the way, and garbage."""
    many = [*range(30_000), bytearray(3)]
    for data in (pickle.dumps(1, 4), pickle.dumps(many, 5), b"\x80\x05\x96", b"\x80\x05\x96\xff"):
        assert without_protocol_5(data) == data


def test_a_connection_in_an_item_arrives_as_one():
    """As the standard library has it; the number of a descriptor would be another there."""
    here, there = multiprocessing.Pipe()
    left, right = socket.socketpair()
    with here, there, left, right:
        number, sent, plug = decode(encode((1, there, right)))
        assert number == 1
        with sent, plug:
            assert {sent.fileno(), plug.fileno()}.isdisjoint({there.fileno(), right.fileno()})
            sent.send("an answer")
            assert here.recv() == "an answer"
            plug.send(b"another")
            assert left.recv(10) == b"another"
    stop_sharing()


class Exotic:
    """A class that a library tells `multiprocessing` how to pickle."""


def test_what_a_library_has_told_multiprocessing(monkeypatch: pytest.MonkeyPatch):
    """Holds for items as well, from the moment on that it is told."""
    assert isinstance(decode(encode([Exotic()]))[0], Exotic)
    reducers = {**ForkingPickler._extra_reducers, Exotic: lambda _: (str, ("told",))}  # type: ignore[attr-defined]
    monkeypatch.setattr(items, "_REDUCERS", reducers)
    monkeypatch.setattr(ForkingPickler, "_extra_reducers", reducers)
    assert decode(encode([Exotic()])) == ["told"]


def test_what_cannot_be_pickled():
    """Says so at once."""
    with pytest.raises(EncodeError, match="cannot be pickled"):
        encode(lambda: None)
