"""Contract: queues that are made at run time, under any name."""

from __future__ import annotations

import uuid

import pytest

from aiomanager import ConfigurationError
from tests.engines.contract.own_engines import CLIENTS
from tests.engines.contract.test_deliveries import next_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def name(place) -> str:
    """A name that no queue has yet, at a host that makes queues."""
    if place.host.kind not in ("memory", "ours"):
        pytest.skip("a stock host makes none: see test_a_stock_host_makes_no_queues")
    return f"reply:{uuid.uuid4().hex}"


async def test_a_queue_is_made(place, manager, name):
    """It is a queue as any other, for every client of the host."""
    queue = await manager.declare(name, maxsize=1)
    assert queue is manager.queue(name)
    await queue.put("item")
    assert await queue.full()
    async with place.connect() as other:
        assert await other.queue(name).get(timeout=5) == "item"
        await other.queue(name).task_done()
    await queue.join()


async def test_a_queue_is_declared_again(place, manager, name):
    """With the same options nothing happens, whoever says it; with others it is an error, and
    nothing is changed."""
    queue = await manager.declare(name, maxsize=2, max_deliveries=3)
    await queue.put("item")
    async with place.connect() as other:
        again = await other.declare(name, maxsize=2, max_deliveries=3)
        assert await again.qsize() == 1
        with pytest.raises(ConfigurationError, match="is here with other options"):
            await other.declare(name, maxsize=3)
    assert await queue.get() == "item"


@pytest.mark.parametrize("form", ["email-high", "two words", "größer", "class", "1", "x" * 200])
async def test_any_name_is_good(manager, name, form):
    """Of printable text, for a queue that is declared and one that is used."""
    queue = await manager.declare(f"{form} {name}")
    await queue.put("item")
    assert (await next_of(queue)).item == "item"


@pytest.mark.parametrize("wrong", ["", "a\nb", "nul\0", "x" * 256, 7, None])
async def test_what_names_no_queue(place, manager, wrong):
    """The error says so, before anything is asked of the host."""
    if place.host.kind in CLIENTS:
        pytest.skip("an engine is given its queue, and has no manager that is asked for names")
    for use in (manager.queue, manager.declare):
        with pytest.raises(ConfigurationError, match="cannot name a queue"):
            made = use(wrong)
            await made
    assert manager.queue_names is None or wrong not in manager.queue_names


@pytest.mark.parametrize(
    "options",
    [{"maxsize": "many"}, {"maxsize": True}, {"lease_timeout": 0}, {"max_deliveries": -1}],
    ids=str,
)
async def test_wrong_options(manager, name, options):
    """The error names the queue and the option, and no queue is made."""
    with pytest.raises(ConfigurationError, match=r"of 'reply:.* is"):
        await manager.declare(name, **options)


async def test_a_stock_host_makes_no_queues(place, manager):
    """It says what to do instead."""
    if place.host.kind in ("memory", "ours"):
        pytest.skip("this host makes queues")
    if place.host.kind in CLIENTS:
        pytest.skip("an engine is given its queue, and has no manager that declares any")
    with pytest.raises(ConfigurationError, match="register them there"):
        await manager.declare("new")
