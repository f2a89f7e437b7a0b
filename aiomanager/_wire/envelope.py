"""The envelope of an item that has headers: a mark, their length, the headers as JSON, the pickle.

An item without headers is its bare pickle, which begins with another byte: an empty envelope costs
nothing. The host takes the envelope off for a client of the standard library's, and looks into the
headers of nothing else.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping
from typing import Any, cast

from .._ground.buffers import Buffer
from .._ground.errors import ConfigurationError

Header = str | int | float | bytes
Headers = Mapping[str, Header]

_MARK = 0x04  # no pickle of protocol 2 or later begins with this byte
_START = struct.Struct("!BI")

HEADERS_LIMIT = 16 * 1024
"""Bytes of the headers of an item, as JSON."""


def put_on(data: bytes, headers: Headers) -> bytes:
    """An item in an envelope with these headers.

    Raises:
        ConfigurationError: they are no small mapping of str to str, int, float or bytes.
    """
    packed = json.dumps({_key(key): _value(key, headers[key]) for key in headers}).encode()
    if len(packed) > HEADERS_LIMIT:
        raise ConfigurationError(
            f"the headers have {len(packed)} bytes, and {HEADERS_LIMIT} is the most that an item "
            "takes: put what is large into the item"
        )
    return b"".join((_START.pack(_MARK, len(packed)), packed, data))


def taken_off(data: Buffer) -> Buffer:
    """The item without its envelope, if it has one; nothing is copied."""
    if not data or data[0] != _MARK:
        return data
    _, size = _START.unpack_from(data)
    return memoryview(data)[_START.size + size :]


def headers_of(data: Buffer) -> dict[str, Header]:
    """The headers of an item; none where it has no envelope, or one that nobody can read."""
    if not data or data[0] != _MARK:
        return {}
    try:
        _, size = _START.unpack_from(data)
        loaded = json.loads(bytes(data[_START.size : _START.size + size]))
        headers = cast("dict[str, Any]", loaded)
        return {key: _read(value) for key, value in headers.items()}
    except (ValueError, struct.error, AttributeError, IndexError, TypeError, RecursionError):
        return {}


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise ConfigurationError(f"{key!r} names no header: give text")
    return key


def _value(key: str, value: object) -> object:
    if isinstance(value, bytes):
        return [base64.b64encode(value).decode()]  # no list is a header's value
    if isinstance(value, (str, int, float)):
        return value
    raise ConfigurationError(
        f"the header {key!r} is of type {type(value).__name__}: give str, int, float or bytes"
    )


def _read(value: Any) -> Header:
    return base64.b64decode(value[0]) if isinstance(value, list) else value
