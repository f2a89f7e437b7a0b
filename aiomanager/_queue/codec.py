"""How items become bytes and objects again, for a queue that knows neither proxies nor hosts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio

from .._ground.buffers import Buffer
from .._wire.items import decode, encode

Decoded = tuple[Any, anyio.Event | None]
"""An item. Where it has brought references to objects of a host, the event says when that counts
them: the item is not done before."""


def _decode(data: Buffer) -> Decoded:
    return decode(data), None


@dataclass(frozen=True)
class Codec:
    """Items as pickles. What stands above the queue gives it one that knows more of what may be in
    an item.

    Attributes:
        encode: makes the pickle of an item, in a protocol of pickle; raises `EncodeError`.
        decode: makes the item of it; raises `DecodeError`.
    """

    encode: Callable[[object, int], bytes] = encode
    decode: Callable[[Buffer], Decoded] = _decode
