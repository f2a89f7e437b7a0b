"""Dicts, lists, namespaces and values of a manager."""

from __future__ import annotations

import pytest

from aiomanager import AsyncProxy, wrap


@pytest.mark.anyio
async def test_dict(manager):
    """A dict's methods are coroutines, keywords included, and what it raises is raised here."""
    shared = wrap(manager.dict())
    assert isinstance(shared, AsyncProxy)
    await shared.update({"b": 2}, a=1)
    assert await shared.get("a") == 1
    assert await shared.call("__getitem__", "b") == 2
    assert await shared.call("__len__") == 2
    assert sorted(await shared.items()) == [("a", 1), ("b", 2)]
    assert sorted([key async for key in shared]) == ["a", "b"]
    with pytest.raises(KeyError, match="nothing"):
        await shared.call("__getitem__", "nothing")
    assert await shared.copy() == {"a": 1, "b": 2}
    assert await shared.pop("a") == 1


@pytest.mark.anyio
async def test_list_and_array(manager):
    """Sequences: their methods, iteration, and a copy."""
    shared = wrap(manager.list([3, 1]))
    await shared.append(2)
    await shared.sort()
    assert [item async for item in shared] == [1, 2, 3]
    assert await shared.copy() == [1, 2, 3]
    array = wrap(manager.Array("i", [1, 2]))
    await array.call("__setitem__", 0, 5)
    assert [item async for item in array] == [5, 2]


@pytest.mark.anyio
async def test_namespace_and_value(manager):
    """Attributes and a value have methods of their own."""
    namespace = wrap(manager.Namespace(a=1))
    await namespace.set("b", [2])
    assert await namespace.get("a") == 1
    assert (await namespace.copy()).b == [2]
    await namespace.delete("b")
    with pytest.raises(AttributeError):
        await namespace.get("b")
    with pytest.raises(AttributeError, match=r"await get\('b'\)"):
        await namespace.b
    value = wrap(manager.Value("i", 3))
    await value.set(4)
    assert await value.get() == 4
    for shared in (namespace, value):
        with pytest.raises(AttributeError, match=r"'value' cannot be assigned.*`set`"):
            shared.value = 5


@pytest.mark.anyio
async def test_stock_clients_see_the_same(manager):
    """The proxy goes on working, for blocking code."""
    proxy = manager.dict()
    await wrap(proxy).update(a=1)
    assert dict(proxy) == {"a": 1}
