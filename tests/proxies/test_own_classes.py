"""Classes of a user's own that look like something of the standard library's, or beside it."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import anyio
import pytest

import aiomanager
from aiomanager import AsyncProxy, AsyncQueue, ConfigurationError, wrap
from aiomanager._proxies.kinds import AsyncNamespace
from tests.support import objects
from tests.support.waiting import wait_until

# How a wrapped object is come by.
ways = pytest.mark.parametrize("way", ["wrap", "proxy of a stock host", "proxy of ours"])


@pytest.fixture
def had(manager, our_host):
    """Gives what is registered under a name, wrapped."""

    async def have(way: str, name: str) -> Any:
        if way == "wrap":
            return wrap(await anyio.to_thread.run_sync(getattr(manager, name)))
        host = manager if "stock" in way else our_host
        async with aiomanager.connect(host.address, objects.KEY) as connected:
            return await connected.proxy(name)

    return have


@pytest.mark.anyio
@ways
async def test_methods_beside_attributes(had, way):
    """A class behind a NamespaceProxy of one's own keeps its methods; attributes are there too."""
    shared = await had(way, "CounterNamespace")
    assert isinstance(shared, AsyncNamespace)
    assert await shared.add(2) == 2
    assert await shared.call("add", 2) == 4
    assert await shared.get("value") == 4
    await shared.set("value", 10)
    assert await shared.add(1) == 11
    with pytest.raises(AttributeError, match=r"await get\('value'\)"):
        _ = shared.value


@pytest.mark.anyio
@ways
async def test_its_own_methods_win(had, way):
    """Over ours of the same names, with their own arguments; attributes go by the long way."""
    shared = await had(way, "SettingsNamespace")
    assert await shared.get("a", 5) == 1
    assert await shared.get("b", default=5) == 5
    assert await shared.set("k", 1, times=2) == "set"
    assert await shared.get("k") == [1, 1]
    assert await shared.copy() == "a copy"
    assert await shared.call("__getattribute__", "value") == 0
    await shared.call("__setattr__", "value", 3)
    assert await shared.add(1) == 4
    with pytest.raises(AttributeError, match="__getattribute__"):
        _ = shared.value


@pytest.mark.anyio
@ways
async def test_it_can_be_passed_on(had, manager, way):
    """As an item of another object, from which it comes with all its methods."""
    holder = wrap(await anyio.to_thread.run_sync(manager.list))
    if way == "proxy of ours":
        pytest.skip("the two hosts have no way to one another")
    for name in ("CounterNamespace", "SettingsNamespace"):
        shared = await had(way, name)
        await shared.add(5)
        await holder.append(shared)
        assert await (await holder.pop()).add(1) == 6


@pytest.mark.anyio
async def test_it_pickles_for_blocking_code(had):
    """As a proxy whose attributes work: one that is made up for these methods would not."""
    shared = await had("proxy of a stock host", "CounterNamespace")
    rebuild, (kind, token, serializer, options) = shared.__reduce__()
    options = {**options, "authkey": objects.KEY}

    used: list[int] = []

    def use() -> None:
        proxy: Any = rebuild(kind, token, serializer, options)
        used.extend([proxy._callmethod("add", (3,)), proxy.value])

    assert pickle.dumps(shared)
    # On a thread that ends, and its connection with it.
    thread = threading.Thread(target=use)
    thread.start()
    await wait_until(lambda: not thread.is_alive(), description="it is used")
    assert used == [3, 3]


@pytest.mark.anyio
@ways
async def test_what_only_looks_like_an_event(had, way):
    """Its methods are called with the arguments as they are given."""
    flag = await had(way, "Flag")
    assert await flag.wait("red") == "white and not red for 0"
    assert await flag.call("wait", "red", patience=2) == "white and not red for 2"
    await flag.set("blue")
    assert await flag.is_set() == "blue"
    await flag.clear(to="green")
    assert await flag.is_set() == "green"
    assert await flag.fly() == "flies"


@pytest.mark.anyio
@ways
async def test_what_only_looks_like_a_lock(had, way):
    """`acquire(timeout, owner)` is no `acquire(blocking, timeout)`."""
    turnstile = await had(way, "Turnstile")
    assert await turnstile.acquire(500, "me") == "me within 500"
    assert await turnstile.acquire(timeout_ms=5, owner="you") == "you within 5"
    assert await turnstile.release("me") == "released by me"
    assert await turnstile.wait(3) == 3
    assert await turnstile.notify("them") == "notified them"


@pytest.mark.anyio
@ways
async def test_what_only_looks_like_a_result(had, way):
    """Its arguments and what it returns are its own."""
    job = await had(way, "Job")
    assert await job.get("a", default=2) == ("a", 2)
    assert await job.wait("because") == "because"
    assert await job.ready(1)
    assert await job.successful() == "quite"
    assert await job.cancel() == "cancelled"


# -- queues ------------------------------------------------------------
@pytest.mark.anyio
@pytest.mark.parametrize("host", ["stock", "ours"])
async def test_what_cannot_be_a_queue(manager, our_host, host):
    """It is an object with its own methods; as a queue it does what can be done with a `put` and a
    `get` that take no times."""
    address = (manager if host == "stock" else our_host).address
    async with aiomanager.connect(address, objects.KEY) as connected:
        for name in ("unique", "pipe"):
            shared = await connected.proxy(name)
            assert type(shared) is AsyncProxy
            await shared.put("item")
            assert not await shared.empty()
            assert await shared.get() == "item"
            queue = connected.queue(name)
            await queue.put(name)
            assert await queue.get(timeout=5) == name
            assert await shared.empty()


@pytest.mark.anyio
async def test_what_is_wrapped_and_cannot_be_a_queue(manager):
    """Its own methods are there by name."""
    queue = wrap(manager.unique())
    await queue.call("put", "of its own")
    assert await queue.call("get") == "of its own"


@pytest.mark.anyio
async def test_methods_that_a_queue_has_beside_those_of_a_queue(manager):
    """They are called by name."""
    async with aiomanager.connect(manager.address, objects.KEY) as connected:
        for queue in (connected.queue("peek_queue"), wrap(manager.peek_queue())):
            await queue.put("first")
            assert await queue.call("peek") == "first"
            assert await queue.get() == "first"
            with pytest.raises(AttributeError, match="no 'nonsense'"):
                await queue.call("nonsense")
    async with aiomanager.connect("memory://") as connected:
        with pytest.raises(ConfigurationError, match="no methods but those of a queue"):
            await connected.queue("any").call("peek")


@pytest.mark.anyio
@pytest.mark.may_block(reason="`wrap` waits for the host where a proxy's type says too little")
async def test_a_queue_with_a_proxy_written_by_hand(manager):
    """The host is asked what it exposes, so it is a queue, also where it comes in an object."""
    proxy = manager.queue_by_hand()
    queue = wrap(proxy)
    assert isinstance(queue, AsyncQueue)
    await queue.put(1)
    assert await queue.get(timeout=5) == 1
    holder = wrap(manager.list([proxy]))
    received = await holder.call("__getitem__", 0)
    assert isinstance(received, AsyncQueue)
    await received.put(2)
    assert await queue.get(timeout=5) == 2
