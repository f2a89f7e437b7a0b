"""Items and replies as bytes: small and large ones come out as they went in, by whatever way."""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from typing import Any

import pytest

from aiomanager._errors import EncodeError
from aiomanager._frames import LARGE_BYTES, decode, encode
from aiomanager._replies import load_reply
from aiomanager._splice import returned_item
from aiomanager._wire import BULK_SIZE, Buffer

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


def test_what_cannot_be_pickled():
    """Says so at once."""
    with pytest.raises(EncodeError, match="cannot be pickled"):
        encode(lambda: None)
