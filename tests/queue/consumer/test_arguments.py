"""What `consume()` refuses."""

from __future__ import annotations

from typing import Any

import pytest

from aiomanager import ConfigurationError, consume


async def _fine(item: object) -> None:
    pass


BAD: dict[str, dict[str, Any]] = {
    "handler": {"handler": None},
    "concurrency": {"concurrency": 0},
    "concurrency is": {"concurrency": 1.5},
    "retries": {"retries": -1},
    "backoff": {"backoff": -1.0},
    "drain_timeout": {"drain_timeout": -1},
    "on_error": {"on_error": "log"},
}


@pytest.mark.anyio
@pytest.mark.parametrize("match", BAD)
async def test_bad_arguments(memory, match):
    """Each is refused before anything is received."""
    async with memory.connect() as manager:
        arguments = {"handler": _fine, **BAD[match]}
        with pytest.raises(ConfigurationError, match=match):
            await consume(manager.queue("jobs"), **arguments)


@pytest.mark.anyio
async def test_a_dead_letter_queue_cannot_be_the_queue(memory):
    """It would never be empty."""
    async with memory.connect() as manager:
        jobs = manager.queue("jobs")
        with pytest.raises(ConfigurationError, match="the queue itself"):
            await consume(jobs, _fine, dead_letter=jobs)


@pytest.mark.anyio
async def test_a_blocking_handler_is_refused(memory):
    """At its first item, which stays; it does not count as a failure of the item."""
    seen: list[int] = []
    async with memory.connect() as manager:
        jobs, failed = manager.queue("jobs"), manager.queue("failed")
        await jobs.put(1)
        with pytest.raises(ConfigurationError, match="no async function"):
            await consume(jobs, seen.append, dead_letter=failed)  # type: ignore[arg-type]
        assert (await jobs.get(timeout=5), seen) == (1, [1])
        assert await failed.empty()
