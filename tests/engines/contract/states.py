"""What tests find a queue in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from aiomanager import AsyncQueue, QueueEmpty
from tests.engines.contract.hosts import Place


def came(place: Place, found: Sequence[object], expected: Sequence[object]) -> bool:
    """Whether these came, after some of them were handed out again: in this order, or in any where
    the engine promises no more than that they come."""
    if place.host.promises.redelivered == "last":
        return sorted(found, key=repr) == sorted(expected, key=repr)
    return list(found) == list(expected)


async def has(queue: AsyncQueue[Any], count: int) -> bool:
    """Whether so many items wait."""
    return await queue.qsize() == count


async def assert_all_done(queue: AsyncQueue[Any]) -> None:
    """Nothing is in the queue, and nothing is out."""
    with anyio.fail_after(5):
        await queue.join()
    with pytest.raises(QueueEmpty):
        await queue.get(timeout=0.1)
