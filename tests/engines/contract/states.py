"""What tests find a queue in."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from aiomanager import AsyncQueue, QueueEmpty


async def has(queue: AsyncQueue[Any], count: int) -> bool:
    """Whether so many items wait."""
    return await queue.qsize() == count


async def assert_all_done(queue: AsyncQueue[Any]) -> None:
    """Nothing is in the queue, and nothing is out."""
    with anyio.fail_after(5):
        await queue.join()
    with pytest.raises(QueueEmpty):
        await queue.get(timeout=0.1)
