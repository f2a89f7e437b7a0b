"""What stock clients are told of a shutdown, and which of their requests are loaded at once."""

from __future__ import annotations

import contextlib
import pickle
import queue
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomanager._faces import _shutdown_for
from aiomanager._plain import NotPlainError, encode_plain, load_plain
from aiomanager._wire import BULK_SIZE, bulky, dump

pytestmark = pytest.mark.every_python

DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    | st.binary(max_size=300),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.sets(st.integers())
    | st.tuples(inner, inner).map(lambda pair: [*pair, pair, pair]),
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


# -- plain requests ---------------------------------------------------------------------------


@given(DATA, st.sampled_from([4, 5]))
def test_plain_data_is_loaded(item: Any, protocol: int):
    """By whichever way."""
    request = ("ident", "put", (item,), {"timeout": 1})
    assert load_plain(pickle.dumps(request, protocol)) == request
    assert pickle.loads(encode_plain(item)) == item


def test_plain_data_with_large_frames_is_loaded():
    """As clients of ours send it."""
    frame = b"\x93" * BULK_SIZE
    message = b"".join(dump(("ident", "put", ([bulky(frame)], None), {}, 7)))
    assert load_plain(message) == ("ident", "put", ([frame], None), {}, 7)


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
