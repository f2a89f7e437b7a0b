"""Contract: a sentinel, or an item, that cannot be compared, as an array cannot."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import aiomanager
from aiomanager import QueueEmpty, consume

pytestmark = [pytest.mark.anyio, pytest.mark.every_python]


class Array:
    """Compares by element, and has no truth of more than one, as numpy's."""

    def __init__(self, *values: int) -> None:
        self.values = values

    def __eq__(self, other: object) -> Any:
        assert isinstance(other, Array)
        return Array(*(a == b for a, b in zip(self.values, other.values, strict=False)))

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        if len(self.values) > 1:
            raise ValueError("the truth value of an array with several elements is ambiguous")
        return bool(self.values and self.values[0])


class Touchy:
    """Raises where it is compared."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("never compare me")

    __hash__ = None  # type: ignore[assignment]


SENTINELS = [Array(0, 0), Touchy()]


@pytest.fixture(params=["memory", "ours"])
async def manager(request: pytest.FixtureRequest):
    """Where leases are kept."""
    if request.param == "memory":
        async with aiomanager.connect("memory://", queues={"jobs": 0}) as manager:
            yield manager
    else:
        async with aiomanager.host({"jobs": 0}) as manager:
            yield manager


async def is_settled(queue: aiomanager.AsyncQueue[Any]) -> None:
    """Nothing is out and nothing waits."""
    with pytest.raises(QueueEmpty):
        queue_item = await queue.get_nowait()
        pytest.fail(f"{queue_item} was left")
    with anyio.fail_after(10):
        await queue.join()


@pytest.mark.parametrize("sentinel", SENTINELS, ids=lambda it: type(it).__name__)
@pytest.mark.parametrize("way", ["async for", "deliveries", "consume"])
async def test_an_item_that_cannot_be_compared_is_no_sentinel(manager, sentinel: Any, way: str):
    """It is worked on and settled like any other, and the loop goes on to its end."""
    queue: Any = manager.queue("jobs", sentinel=sentinel)
    got: list[Any] = []
    await queue.put_many([1, sentinel, sentinel, 2])
    await queue.shutdown()
    with anyio.fail_after(10):
        if way == "async for":
            got.extend([item async for item in queue])
        elif way == "deliveries":
            async for delivery in queue.deliveries():
                async with delivery:
                    got.append(delivery.item)
        else:

            async def handler(item: object) -> None:
                got.append(item)

            await consume(queue, handler)
    assert [type(item).__name__ for item in got] == [
        "int", type(sentinel).__name__, type(sentinel).__name__, "int",
    ]  # fmt: skip
    assert (await queue.statistics()).leased == 0


async def test_an_array_that_can_be_compared_ends_the_loop(manager):
    """One element has a truth."""
    queue: Any = manager.queue("jobs", sentinel=Array(7))
    await queue.put_many([Array(1), Array(0, 0), Array(7)])
    assert [item.values async for item in queue] == [(1,), (0, 0)]
    await is_settled(queue)
