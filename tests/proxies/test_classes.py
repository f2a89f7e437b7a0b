"""Classes that a user registered, and objects in objects."""

from __future__ import annotations

import threading
from multiprocessing.managers import BaseProxy
from typing import Any

import anyio
import pytest

import aiomanager
from aiomanager import ConfigurationError, wrap
from aiomanager._proxies.host_connections import HostConnections
from tests.proxies.freed import all_freed
from tests.support import objects
from tests.support.waiting import wait_until


# -- classes that a user registered ------------------------------------------------------------
@pytest.mark.anyio
async def test_a_registered_class(manager):
    """Methods by their exposed names, with positional and keyword arguments; its errors are
    raised here."""
    counter = wrap(manager.Counter(10))
    assert await counter.add() == 11
    assert await counter.add(2, times=3) == 17
    with pytest.raises(LookupError, match="as it was asked to"):
        await counter.fail()
    with pytest.raises(aiomanager.RemoteError, match="pickle"):
        await counter.unpicklable()
    assert await counter.add() == 18
    copied = await counter.copy()
    assert isinstance(copied, objects.Counter)
    assert copied.value == 18


@pytest.mark.anyio
async def test_what_is_not_exposed_is_refused_by_name(manager):
    """The error is an AttributeError and a ConfigurationError, and says what is exposed."""
    counter = wrap(manager.Counter())
    assert not hasattr(counter, "hidden")
    assert not hasattr(counter, "_private")
    with pytest.raises(AttributeError, match=r"'hidden'.* it exposes: add, child"):
        await counter.hidden()
    with pytest.raises(ConfigurationError, match=r"'hidden'.* it exposes: add, child"):
        await counter.call("hidden")


@pytest.mark.anyio
@pytest.mark.may_block(reason="`wrap` waits for the host where a proxy's type says too little")
async def test_a_proxy_type_that_does_not_say_what_is_exposed(manager):
    """Then the host is asked."""
    bare = wrap(manager.Bare())
    assert await bare.add(2) == 2
    with pytest.raises(AttributeError, match="it exposes: add"):
        await bare.nonsense()


@pytest.mark.anyio
async def test_what_only_looks_like_a_queue_or_a_lock(manager):
    """What is exposed decides: a cache has `put` and `get`, a pool `acquire` and `release`."""
    cache = wrap(manager.Cache())
    await cache.put("a", 1)
    assert await cache.get("a") == 1
    connections = wrap(manager.Connections())
    assert await connections.acquire() == "connection"
    assert await connections.release("connection") == "released"


@pytest.mark.anyio
async def test_arguments_that_cannot_be_pickled(manager):
    """They are refused before anything is sent."""
    shared = wrap(manager.dict())
    with pytest.raises(aiomanager.EncodeError, match="update"):
        await shared.update(a=lambda: None)
    assert await shared.copy() == {}


def test_what_is_no_proxy(manager):
    """The error says what wrap takes."""
    things: list[Any] = [{}, manager, None]
    for thing in things:
        with pytest.raises(ConfigurationError, match=r"takes a proxy.*this is a \w+"):
            wrap(thing)


# -- objects in objects ------------------------------------------------------------
@pytest.mark.anyio
async def test_nested_objects_come_wrapped(manager):
    """As an item, inside plain values, and as the result of a method that makes an object; the
    manager's key is not this process's."""
    outer = wrap(manager.list())
    await outer.append(wrap(manager.dict(x=1)))
    await outer.append({"deep": [manager.list([2])]})
    inner = await outer.call("__getitem__", 0)
    assert await inner.copy() == {"x": 1}
    deep = (await outer.copy())[1]["deep"][0]
    assert await deep.copy() == [2]
    child = await wrap(manager.Counter(5)).child()
    assert await child.add() == 6
    grandchild = await child.child()
    assert await grandchild.add() == 7


@pytest.mark.anyio
async def test_a_wrapped_object_pickles_as_its_proxy(manager):
    """So that it can be passed on, also where it came from a call."""
    child = await wrap(manager.Counter(5)).child()
    outer = wrap(manager.list())
    await outer.append(child)
    assert await (await outer.pop()).add() == 6
    rebuild, arguments = child.__reduce__()
    proxy: Any = rebuild(*arguments[:3], {**arguments[3], "authkey": objects.KEY})
    assert proxy.add() == 7
    assert isinstance(proxy, BaseProxy)


@pytest.mark.anyio
async def test_the_host_keeps_an_object_as_long_as_it_is_wrapped(manager):
    """It is not freed with the proxy, and is freed with the wrapped object."""
    before = manager._number_of_objects()
    proxy = manager.Counter(1)
    wrapped = wrap(proxy)
    del proxy
    assert await wrapped.add() == 2
    child = await wrapped.child()
    assert manager._number_of_objects() == before + 2
    del wrapped
    assert await child.add() == 3
    del child
    await all_freed(manager, before)


@pytest.mark.anyio
async def test_objects_that_nobody_waited_for_are_freed(manager):
    """A call that was left frees what it brought."""
    before = manager._number_of_objects()
    counter = wrap(manager.Counter())
    for _ in range(10):
        with anyio.move_on_after(0.001):
            await counter.child()
    del counter
    await all_freed(manager, before)


@pytest.mark.anyio
async def test_giving_up_never_blocks_the_event_loop(manager, monkeypatch):
    """The host is told on another thread, for proxies of the standard library and for others."""
    threads: list[threading.Thread] = []

    def noted(decref):
        def run(*args):
            threads.append(threading.current_thread())
            return decref(*args)

        return run

    stock: Any = BaseProxy
    monkeypatch.setattr(stock, "_decref", staticmethod(noted(stock._decref)))
    monkeypatch.setattr(
        "aiomanager._proxies.host_connections.HostConnections.function_now",
        noted(HostConnections.function_now),
    )
    wrapped = wrap(manager.Counter())
    child = await wrapped.child()
    threads.clear()  # the standard library gives up a reference of its own when it makes a proxy
    del wrapped, child
    await wait_until(lambda: len(threads) == 2, description="both are given up")
    assert threading.current_thread() not in threads


@pytest.mark.anyio
async def test_aclose_gives_up_at_once(manager):
    """When it returns the host has freed the object, and calls are refused."""
    before = manager._number_of_objects()
    counter = wrap(manager.Counter())
    child = await counter.child()
    for wrapped in (counter, child):
        await wrapped.aclose()
        await wrapped.aclose()
        with pytest.raises(ConfigurationError, match="closed"):
            await wrapped.add()
    assert manager._number_of_objects() == before
