"""Puts at a stock host: each has an outcome of its own."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import aiomanager
from tests.engines.stock.host import StockHost, blocking

pytestmark = pytest.mark.anyio


async def outcomes_of(queue: Any, items: list[Any]) -> dict[Any, Any]:
    """What comes of puts that begin together."""
    outcomes: dict[Any, Any] = {}

    async def put(item: Any) -> None:
        try:
            await queue.put(item)
        except Exception as exc:
            outcomes[item] = exc
        else:
            outcomes[item] = None

    async with anyio.create_task_group() as group:
        for item in items:
            group.start_soon(put, item)
    return outcomes


async def test_an_item_that_the_queue_refuses_is_nobody_elses_error(connect, host):
    """Those behind it in its batch are put, and each error is one of its own."""
    async with connect() as manager:
        queue = manager.queue("picky")
        outcomes = await outcomes_of(queue, [*range(5), "bad", *range(5, 9)])
        refusal = outcomes.pop("bad")
        assert isinstance(refusal, ValueError)
        assert set(outcomes.values()) == {None}
        assert sorted(await queue.get_many(20)) == list(range(9))


async def test_a_frame_that_ends_its_connection_is_nobody_elses_error(connect, host):
    """Whether that item was put is unknown; those behind it go by another connection."""
    async with connect() as manager:
        queue = manager.queue("picky")
        outcomes = await outcomes_of(queue, [*range(5), "fatal", *range(5, 9)])
        lost = outcomes.pop("fatal")
        assert isinstance(lost, aiomanager.ConnectionLostError)
        assert not lost.outcome_known
        assert set(outcomes.values()) == {None}
        assert sorted(await queue.get_many(20)) == list(range(9))


async def test_put_many_says_how_many_were_put_before_the_one_that_was_refused(connect, host):
    """And puts nothing behind it."""
    async with connect() as manager:
        queue = manager.queue("picky")
        with pytest.raises(ValueError, match="bad item") as refused:
            await queue.put_many(["a", "b", "bad", "c"])
        assert getattr(refused.value, "accepted") == 2  # noqa: B009 - not one of ours
        assert await queue.get_many(9) == ["a", "b"]


async def test_puts_behind_a_full_queue_wait_in_their_order(connect, host):
    """None overtakes those that found no room before it."""
    async with connect() as manager:
        queue = manager.queue("small")
        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(queue.put, number)
            await anyio.wait_all_tasks_blocked()
            put = [await queue.get(timeout=5) for _ in range(5)]
        assert sorted(put) == list(range(5))
        with pytest.raises(aiomanager.QueueFull) as full:
            await queue.put_many([1, 2, 3], timeout=0.1)
        assert full.value.accepted == 1


async def test_a_put_that_was_not_sent_waits_for_the_host(connect, host: StockHost):
    """One that was on its way when the host went is not sent again, as it may have happened."""
    async with connect(reconnect=20) as manager:
        queue = manager.queue("jobs")
        await queue.put("before")
        await blocking(host.kill)
        async with anyio.create_task_group() as group:
            group.start_soon(queue.put, "while away")
            await anyio.wait_all_tasks_blocked()
            await blocking(host.restart)
        assert await queue.get(timeout=5) == "while away"
