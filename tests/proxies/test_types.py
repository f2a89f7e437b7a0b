"""What type checkers are told of wrapped objects is so."""

from __future__ import annotations

import ast
import inspect
from multiprocessing import managers
from typing import Any

import pytest

import aiomanager
from aiomanager import AsyncEvent, AsyncLock, AsyncPool, AsyncProxy, AsyncResult, wrap
from aiomanager._proxies import containers, pools

pytestmark = pytest.mark.every_python

# How a `SyncManager` makes one, and its kind.
MADE = {
    "dict": (),
    "list": (),
    "Value": ("i", 1),
    "Array": ("i", [1]),
    "Lock": (),
    "RLock": (),
    "Semaphore": (),
    "Condition": (),
    "Event": (),
    "Barrier": (1,),
    "Namespace": (),
    "Queue": (),
}
KINDS = {"RLock": "Lock", "Semaphore": "Lock", "dict": "Dict", "list": "List"}
PROXIES = {
    "AsyncDict": "DictProxy",
    "AsyncList": "ListProxy",
    "AsyncValue": "ValueProxy",
    "AsyncArray": "ArrayProxy",
    "AsyncPool": "PoolProxy",
}


@pytest.mark.parametrize("name", MADE)
def test_an_object_is_of_the_class_that_its_type_says(manager, name):
    """`isinstance` agrees with the type checker."""
    wrapped = wrap(getattr(manager, name)(*MADE[name]))
    assert type(wrapped) is getattr(aiomanager, f"Async{KINDS.get(name, name)}")


def told(module) -> dict[str, set[str]]:
    """The methods that only type checkers see, by class."""
    return {
        node.name: {
            each.name
            for block in node.body
            if isinstance(block, ast.If)
            for each in ast.walk(block)
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.ClassDef)
    }


@pytest.mark.parametrize("kind", PROXIES)
def test_methods_that_checkers_see_are_there(kind):
    """The standard library's proxies expose them, or every `AsyncProxy` has them."""
    methods = (told(containers) | told(pools))[kind]
    assert methods
    assert methods - set(dir(AsyncProxy)) <= set(getattr(managers, PROXIES[kind])._exposed_)


def test_signatures():
    """`help` shows what the methods of the standard library take."""
    assert str(inspect.signature(AsyncLock.acquire)).startswith(
        "(self: 'Any', blocking: 'bool' = True, timeout"
    )
    for method, name in (
        (AsyncEvent.wait, "wait"),
        (AsyncResult.get, "get"),
        (AsyncPool.map, "map"),
    ):
        assert method.__name__ == name
        assert inspect.iscoroutinefunction(method)
        assert method.__doc__


@pytest.mark.anyio
async def test_a_type_for_the_checker_alone(manager):
    """It changes nothing at run time, and is not passed to the host."""
    untrue: Any = int
    async with aiomanager.connect(manager.address, manager._authkey) as connected:
        shared = await connected.proxy("dict", {"a": 1}, as_=untrue)
        assert await shared.get("a") == 1
        assert await wrap(manager.dict(), untrue).copy() == {}
        jobs = connected.queue("Queue", untrue)
        assert connected.queue("Queue") is jobs
        await jobs.put("no number")
        assert await jobs.get() == "no number"
