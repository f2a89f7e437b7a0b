"""Envelopes: what went in comes out, and what is none is left as it is."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomanager._wire.items import encode, headers_of, put_on, taken_off

pytestmark = pytest.mark.every_python

values = st.text() | st.integers() | st.floats(allow_nan=False) | st.binary() | st.booleans()


@given(st.dictionaries(st.text(), values, max_size=8), st.binary())
def test_what_went_in_comes_out(headers: dict[str, Any], item: bytes):
    """The headers, each of its type, and the item, whatever holds it."""
    data = encode(item)
    envelope = put_on(data, headers)
    for held in (envelope, bytearray(envelope), memoryview(envelope)):
        assert headers_of(held) == headers
        assert [type(value) for value in headers_of(held).values()] == [
            type(value) for value in headers.values()
        ]
        assert bytes(taken_off(held)) == data


@pytest.mark.parametrize("data", [b"", b"\x80", pickle.dumps("item"), encode(b"\x04" * 100)])
def test_a_bare_item_is_left_as_it_is(data: bytes):
    """Not copied, and without headers."""
    assert taken_off(data) is data
    assert headers_of(data) == {}


@given(st.binary())
def test_a_damaged_envelope_has_no_headers(rest: bytes):
    """Whoever sent it; to read it raises nothing."""
    assert isinstance(headers_of(b"\x04" + rest), dict)
