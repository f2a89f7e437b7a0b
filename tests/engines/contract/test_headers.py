"""Contract: headers go along with an item wherever it goes, and are nobody's else."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from aiomanager import ConfigurationError, DeadLetter, consume
from tests.engines.contract.states import came
from tests.engines.contract.test_deliveries import next_of

pytestmark = pytest.mark.anyio

HEADERS: dict[str, Any] = {
    "tenant": "a", "größe": "ü", "size": 2**70, "share": 0.25, "trace": b"\x00\xff", "": "",
}  # fmt: skip


@pytest.fixture
def carries(place) -> None:
    """Engines that promise headers; that of the standard library's hosts does not."""
    if not place.host.promises.headers:
        pytest.skip("this host has no headers: see test_a_host_without_headers")


@pytest.mark.usefixtures("carries")
async def test_headers_arrive_with_the_item(place, queue):
    """As they were given, also when the item is handed out again, whatever way it was put."""
    await queue.put({"an": "item"}, headers=HEADERS)
    await queue.put_nowait("item", headers={"one": 1})
    await queue.put_many(["x", "y"], headers={"two": 2})
    await queue.put("bare")
    delivery = await next_of(queue)
    assert (delivery.item, delivery.headers) == ({"an": "item"}, HEADERS)
    await delivery.nack()
    found = []
    for _ in range(5):
        delivery = await next_of(queue)
        found.append((delivery.item, delivery.headers))
        await delivery.ack()
    expected = [
        ({"an": "item"}, HEADERS), ("item", {"one": 1}), ("x", {"two": 2}), ("y", {"two": 2}),
        ("bare", {}),
    ]  # fmt: skip
    assert came(place, found, expected)


@pytest.mark.usefixtures("carries")
async def test_an_item_is_the_same_with_and_without(queue):
    """To `get`, `async for` and whoever looks at the item, headers are not there."""
    await queue.put_many([b"x" * 200_000, None], headers=HEADERS)
    assert await queue.get() == b"x" * 200_000
    assert [item async for item in queue] == []


@pytest.mark.usefixtures("carries")
async def test_headers_go_along_with_what_is_moved(place, queue, manager):
    """To another queue, and to a dead-letter queue."""
    other, dead = manager.queue(place.host.name()), manager.queue(place.host.name())
    await queue.put("item", headers=HEADERS)
    await (await next_of(queue)).move(other, "another item")
    moved = await next_of(other)
    assert (moved.item, moved.headers) == ("another item", HEADERS)
    await moved.nack()

    async def fail(item: object) -> None:
        raise ValueError("no")

    await other.put(None)
    with anyio.fail_after(10):
        await consume(other, fail, retries=0, dead_letter=dead)
    letter = await dead.get(timeout=5)
    assert isinstance(letter, DeadLetter)
    assert (letter.item, letter.headers) == ("another item", HEADERS)


@pytest.mark.parametrize(
    "headers, error",
    [
        ({"x": None}, "'x' is of type NoneType"), ({"x": []}, "'x' is of type list"),
        ({1: "x"}, "1 names no header"), ({"x": "y" * 20_000}, "16384 is the most"),
        ({"x": object()}, "'x' is of type object"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("carries")
async def test_wrong_headers(queue, headers, error):
    """The error says what is wrong, and nothing is put."""
    with pytest.raises(ConfigurationError, match=error):
        await queue.put("item", headers=headers)
    assert await queue.empty()


async def test_a_host_without_headers(place, queue):
    """A put with headers says so and puts nothing; what comes from there has none."""
    if place.host.promises.headers:
        pytest.skip("this host has headers")
    with pytest.raises(ConfigurationError, match="no headers"):
        await queue.put("item", headers={"x": 1})
    assert await queue.empty()
    await queue.put("item", headers={})
    delivery = await next_of(queue)
    assert (delivery.item, delivery.headers) == ("item", {})
    await delivery.ack()
