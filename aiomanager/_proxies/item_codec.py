"""Items that may hold proxies: they arrive wrapped, as what `wrap` gives."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

import anyio

from .._concurrency.event_loop import spawn
from .._ground.buffers import Buffer
from .._ground.errors import AioManagerError
from .._queue.codec import Codec, Decoded
from .._wire.framing import BULK_SIZE
from .._wire.items import decode
from .._wire.replies import ReplyUnpickler
from .references import Found, Reference

logger = logging.getLogger("aiomanager")


def _decode(data: Buffer) -> Decoded:
    """The item. Where there are proxies in it, their hosts are told of these references in the
    background, and the event says when that is over. Before that, whoever put the item must not
    learn that it is done, as he may give up his own reference then."""
    # To look for them takes less time than the better unpickler, unless there is much to look at.
    # `in` would take three times as long as `find`, as it asks first whether the name is a number.
    if len(data) < BULK_SIZE and bytes(data).find(b"RebuildProxy") < 0:
        return decode(data), None
    found = Found(None)
    item = decode(data, lambda data: ReplyUnpickler(data, found).load())
    if not found.uncounted:
        return item, None
    counted = anyio.Event()
    spawn(partial(_count, found.uncounted, counted))
    return item, counted


ITEM_CODEC = Codec(decode=_decode)
"""Pickles, in which proxies are found and wrapped."""


async def _count(references: Sequence[Reference], counted: anyio.Event) -> None:
    try:
        for reference in references:
            try:
                await reference.count()
            except AioManagerError as exc:
                # As text: the error itself would keep alive all that it came through.
                logger.warning(
                    "%r came in an item, but is not to be had: %s", reference.typeid, str(exc)
                )
    finally:
        counted.set()
