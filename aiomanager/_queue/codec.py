"""How items become bytes and objects again, for a queue that knows neither proxies nor hosts."""

from __future__ import annotations

from typing import Any

import anyio

from .._ground.buffers import Buffer
from .._wire.items import decode, encode


class Codec:
    """Items as pickles. What stands above the queue gives it one that knows more of what may be in
    an item."""

    def encode(self, item: object, protocol: int) -> bytes:
        """The pickle of an item; raises `EncodeError`."""
        return encode(item, protocol)

    def decode(self, data: Buffer) -> tuple[Any, anyio.Event | None]:
        """The item; raises `DecodeError`. Where it has brought references to objects of a host, the
        event says when that counts them: the item is not done before."""
        return decode(data), None
