"""Items cut out of requests and set into replies: what comes out is what went in."""

from __future__ import annotations

import io
import pickle
import subprocess
from collections import OrderedDict
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aiomanager._wire.framing import BULK_SIZE
from aiomanager._wire.messages import bulky, dump
from aiomanager._wire.passthrough import put_in, read_by_sender_of, returned_item
from tests.support import pythons

pytestmark = pytest.mark.every_python

IDENT = "aiomanager-queue:jobs"

# Among them the very strings that stand before the item, which a pickle says only once.
DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    | st.binary(max_size=300) | st.sampled_from([IDENT, "put", (), (1,), {}]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.sets(st.integers())
    | st.tuples(inner, inner).map(lambda pair: [*pair, pair, pair, "put", IDENT]),
)  # fmt: skip


def request(*args: Any, method: str = "put", ident: str = IDENT, **kwds: Any) -> bytes:
    """A call of a proxy, as the standard library sends it."""
    return bytes(ForkingPickler.dumps((ident, method, args, kwds)))


def cut_out(message: bytes) -> tuple[str, Any] | None:
    """What the host takes out of a message, of which large ones come in buffers of their own."""
    buffer = message if len(message) < BULK_SIZE else bytearray(message)
    return put_in(buffer, {IDENT})


def loads(data: Any) -> Any:
    """Unpickle by both of Python's unpicklers, and see that they agree."""
    item = pickle.loads(data)
    again = pickle._Unpickler(io.BytesIO(data)).load()
    assert repr(again) == repr(item)
    return item


@given(DATA)
@example(["x" * n for n in range(300)])
@example([b"y" * 10_000] * 3)
def test_the_item_of_a_put(item: Any):
    """Is cut out of its request as a pickle that stands alone."""
    cut = cut_out(request(item))
    assert cut is not None
    assert cut[0] == IDENT
    assert loads(cut[1]) == item


@given(DATA, st.sampled_from(range(pickle.HIGHEST_PROTOCOL + 1)))
def test_whatever_pickler_a_request_comes_from(item: Any, protocol: int):
    """The item is cut out as it should be, or not at all."""
    message = pickle.dumps((IDENT, "put", (item,), {}), protocol)
    cut = cut_out(message)
    assert (cut is not None) == (protocol in (3, 4, 5)) or len(message) < 20
    if cut is not None:
        assert loads(cut[1]) == item


@given(
    st.lists(DATA, max_size=3),
    st.dictionaries(st.sampled_from(["item", "timeout"]), DATA),
    st.sampled_from(["put", "get", "put_nowait", "pus"]),
    st.booleans(),
)
def test_other_calls_go_the_long_way(args: Any, kwds: Any, method: str, own: bool):
    """Only a put of one item and nothing else is understood; no item is made up."""
    call = (IDENT, method, tuple(args), kwds, *([5] if own else []))
    cut = cut_out(pickle.dumps(call))
    if method == "put" and len(args) == 1 and not kwds and not own:
        assert cut is not None
        assert loads(cut[1]) == args[0]
    else:
        assert cut is None


@given(DATA)
@example(["x" * n for n in range(300)])
@example([[n] for n in range(248, 252)] + [[n] for n in range(300)])
@example([IDENT, "put", b"y" * 100_000])
def test_the_item_of_a_put_of_an_old_python(item: Any):
    """Up to Python 3.7 they were pickled in another way."""
    for count in range(4):
        several = [item, *([n] for n in range(count))]
        cut = cut_out(pickle.dumps((IDENT, "put", (several,), {}), 3))
        assert cut is not None
        assert cut[0] == IDENT
        assert loads(cut[1]) == several
        assert loads(b"".join(returned_item(cut[1], 4))) == ("#RETURN", several)
    for other in ((item, True), ()):
        assert cut_out(pickle.dumps((IDENT, "put", other, {}), 3)) is None
    assert cut_out(pickle.dumps((IDENT, "put", (), {"item": item}), 3)) is None
    assert cut_out(pickle.dumps((IDENT, "pus", (item,), {}), 3)) is None
    assert cut_out(pickle.dumps(("another", "put", (item,), {}), 3)) is None


@pytest.mark.parametrize("count", [*range(245, 257), 70_000])
def test_the_item_of_an_old_put_with_many_parts(count: int):
    """Their numbers have one byte at first, and four later."""
    item = [[n] for n in range(count)]
    cut = cut_out(pickle.dumps((IDENT, "put", (item,), {}), 3))
    assert cut is not None
    assert loads(cut[1]) == item


LARGE = [
    b"x" * BULK_SIZE,
    "ü" * 3_000_000,
    bytearray(BULK_SIZE * 3),
    [bytes([n % 256]) * 100 for n in range(1000)],
    {IDENT: ["put", IDENT, b"y" * 70_000, "put", b"z" * 80_000], "put": list(range(20_000))},
]


@pytest.mark.parametrize("item", LARGE, ids=lambda item: type(item).__name__)
@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize("own_memory", [bytearray, lambda message: memoryview(bytearray(message))])
def test_the_large_item_of_a_put(item: Any, protocol: int, own_memory: Any):
    """It is in the message and nowhere else, and has frames as its pickler made them."""
    message = own_memory(pickle.dumps((IDENT, "put", (item,), {}), protocol))
    cut = put_in(message, {IDENT})
    assert cut is not None
    assert cut[0] == IDENT
    assert cut[1] is message
    assert loads(message) == item
    assert loads(b"".join(returned_item(message))) == ("#RETURN", item)


def test_wherever_the_last_frame_begins():
    """Where that is in the end of the request, it goes the long way, and is left as it is."""
    was_cut = []
    for short in range(60):
        item = ["x" * 60_000, "y" * (BULK_SIZE - 60_000 - short), ("z",)]
        message = bytearray(request(item))
        was_cut.append(put_in(message, {IDENT}) is not None)
        assert loads(message) == item if was_cut[-1] else message == request(item)
    assert set(was_cut) == {True, False}


@pytest.mark.parametrize("item", [1, b"x" * BULK_SIZE], ids=["small", "large"])
def test_puts_to_something_else_are_left_as_they_are(item: Any):
    """Another object of the host may have a method of that name."""
    message = bytearray(request(item))
    assert put_in(message, {"another"}) is None
    assert message == request(item)


def test_an_item_that_refers_to_itself():
    """And to others twice."""
    item: list[Any] = ["twice", "twice"]
    item.append(item)
    cut = cut_out(request(item))
    assert cut is not None
    received = loads(cut[1])
    assert received[2] is received
    assert received[0] is received[1]


def test_messages_of_our_own_clients_are_left_alone():
    """With large frames and without."""
    for frames in ([b"x"], [bulky(b"x" * BULK_SIZE)]):
        assert cut_out(b"".join(dump((IDENT, "put", (frames, None), {}, 7)))) is None


@given(st.binary(max_size=80))
def test_garbage_is_left_alone(garbage: bytes):
    """With the right ends too."""
    old = pickle.dumps((IDENT, "put", (1,), {}), 3)
    for put in (request(1), old):
        end = put[-8:]
        for message in (garbage, garbage + end, put[:11] + garbage + end, put[:3] + garbage):
            cut_out(message)


_REQUESTS = """
import sys
from collections import OrderedDict
from multiprocessing.reduction import ForkingPickler
item = ["put", {"a": (1, 2.5, None, True)}, {1, 2}, OrderedDict(b=b"bytes"), 2**70, "ü" * 300]
for put in (item, item * 100, "put", None, 17, "x" * 50_000, item * 3000, b"y" * 100_000):
    print(bytes(ForkingPickler.dumps(("aiomanager-queue:jobs", "put", (put,), {}))).hex())
"""


@pytest.mark.interop
@pytest.mark.parametrize(
    "version,path", pythons.installed([*pythons.OLDER, *pythons.SUPPORTED]).items()
)
def test_requests_of_every_python(version: str, path: str):
    """Each pickles a put in the form that is understood."""
    run = subprocess.run([path, "-c", _REQUESTS], capture_output=True, check=True, timeout=30)
    item = ["put", {"a": (1, 2.5, None, True)}, {1, 2}, OrderedDict(b=b"bytes"), 2**70, "ü" * 300]
    expected = [item, item * 100, "put", None, 17, "x" * 50_000, item * 3000, b"y" * 100_000]
    for line, put in zip(run.stdout.split(), expected, strict=True):
        cut = cut_out(bytes.fromhex(line.decode()))
        assert cut is not None, version
        assert loads(cut[1]) == put


# -- replies ----------------------------------------------------------------------------------


@given(DATA, st.sampled_from(range(2, pickle.HIGHEST_PROTOCOL + 1)))
def test_an_item_is_set_into_its_reply(item: Any, protocol: int):
    """Whatever it is and however it was pickled."""
    assert loads(b"".join(returned_item(pickle.dumps(item, protocol)))) == ("#RETURN", item)


@given(DATA)
def test_an_item_that_was_cut_out_is_set_into_a_reply(item: Any):
    """The whole way through a host."""
    cut = cut_out(request(item))
    assert cut is not None
    assert loads(b"".join(returned_item(cut[1]))) == ("#RETURN", item)


def test_large_items_are_not_copied():
    """Nor are they wrong on either side of the size from which that is so."""
    for size in (0, 250, 260, BULK_SIZE - 20, BULK_SIZE, 300_000):
        for item in (b"x" * size, ["y" * 10] * (size // 10), bytearray(size)):
            data = pickle.dumps(item, 5)
            parts = returned_item(data)
            assert pickle.loads(b"".join(parts)) == ("#RETURN", item)
            assert len(data) <= BULK_SIZE or memoryview(parts[1]).obj is data


def test_an_item_of_a_class_is_made_at_its_receiver():
    """And the error of one that cannot be made is his as well."""
    data = pickle.dumps(OrderedDict(a=1))
    assert pickle.loads(b"".join(returned_item(data))) == ("#RETURN", OrderedDict(a=1))
    with pytest.raises(AttributeError):
        pickle.loads(b"".join(returned_item(data.replace(b"OrderedDict", b"DisorderDic"))))


@pytest.mark.parametrize("message", [b"", b"\x80", b"\x80\x02", b"no pickle"])
def test_what_says_nothing_of_its_sender(message):
    """It is taken for an old one's, whatever it is."""
    assert read_by_sender_of(message) == 2
