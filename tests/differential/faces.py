"""The two faces that a managed object has here: the standard library's proxy as it is, and a
blocking face of what `wrap` makes of it. Both have the same names.

Where ours raises an error of its own before anything is sent, as is documented, the face raises
what the standard library does: for what is not exposed, and for what cannot be pickled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import managers, process
from typing import Any

import anyio.to_thread

import aiomanager
from aiomanager import AsyncProxy, AsyncQueue
from tests.differential import loops

# What the standard library has as an attribute and we have as a coroutine.
ATTRIBUTES = frozenset({"parties", "n_waiting", "broken"})


class Blocking:
    """An awaitable object, for callers that block: each call is one in an event loop, and returns
    or raises what that does. It is pickled as what it stands for, and wrapped again where it
    arrives.

    Args:
        wrapped: what `wrap` gave.
        loop: the arrangement of event loops in which it is called; see `loops`.
    """

    def __init__(self, wrapped: Any, loop: str) -> None:
        vars(self).update(_wrapped=wrapped, _loop=loop)

    def __reduce__(self) -> Any:
        return arrive, (self._wrapped, self._loop)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            return self._private(name)
        if name in ATTRIBUTES and isinstance(self._wrapped, aiomanager.AsyncProxy):
            return self._ask(getattr(self._wrapped, name))
        if name == "value" and "'Value'" in repr(self._wrapped):
            return self._ask(self._wrapped.get)
        try:
            method = getattr(self._wrapped, name)
        except AttributeError:
            if not is_namespace(self._wrapped):
                raise
            return self._ask(partial(self._wrapped.get, name))
        return Method(self, name) if callable(method) else method

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        """A condition's; the predicate may block."""

        async def ask() -> Any:
            return await anyio.to_thread.run_sync(predicate)

        return self._ask(self._wrapped.wait_for, ask, timeout)

    def _private(self, name: str) -> Any:
        """A method whose name begins with an underscore: awaitable by `call` alone."""
        if name.startswith("__") or not self._exposes(name):
            raise AttributeError(name)
        return partial(self._ask, self._wrapped.call, name)

    def _exposes(self, name: str) -> bool:
        return name in (getattr(getattr(self._wrapped, "_reference", None), "exposed", None) or ())

    def __setattr__(self, name: str, value: object) -> None:
        if name.startswith("_"):
            vars(self)[name] = value
        elif name == "value" and "'Value'" in repr(self._wrapped):
            self._ask(partial(self._wrapped.set, value))
        elif is_namespace(self._wrapped):
            self._ask(partial(self._wrapped.set, name, value))
        else:
            raise AttributeError(name)

    def __delattr__(self, name: str) -> None:
        self._ask(partial(self._wrapped.delete, name))

    def _ask(self, method: Callable[..., Any], *args: Any, **kwds: Any) -> Any:
        async def work() -> Any:
            try:
                return await method(*args, **kwds)
            except StopIteration as stop:  # which no coroutine can raise
                raise StopAsyncIteration(*stop.args) from None

        try:
            return blocking(loops.call(self._loop, work), self._loop)
        except StopAsyncIteration as stop:
            raise StopIteration(*stop.args) from None
        except aiomanager.EncodeError as exc:  # which says what could not be pickled, and why
            raise exc.__cause__ or exc from None

    def _callmethod(self, name: str, args: Any = (), kwds: Any = None) -> Any:
        try:
            return self._ask(self._wrapped.call, name, *args, **(kwds or {}))
        except aiomanager.ConfigurationError as exc:  # not exposed, which we know before the host
            raise managers.RemoteError(str(exc)) from None

    def _getvalue(self) -> Any:
        return self._callmethod("#GETVALUE")

    def __str__(self) -> str:
        return str(self._callmethod("__repr__"))

    # -- locks, pools -------------------------------------------------------------------------

    def __enter__(self) -> Any:
        return blocking(loops.call(self._loop, self._wrapped.__aenter__), self._loop)

    def __exit__(self, *error: object) -> None:
        loops.call(self._loop, partial(self._wrapped.__aexit__, *error))

    # -- containers, iterators ----------------------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        if isinstance(self._wrapped, AsyncQueue):
            raise TypeError("what is got in a loop over a queue is settled by the loop")
        if self._exposes("__iter__"):  # which `async for` calls when it begins, and `iter` at once
            made: Iterator[Any] = self._callmethod("__iter__")
            return made
        return Iterating(aiter(self._wrapped), self._loop)

    def __iadd__(self, other: Any) -> Any:
        self._callmethod("extend", (other,))
        return self

    def __imul__(self, number: int) -> Any:
        self._callmethod("__imul__", (number,))
        return self


def _special(name: str) -> Callable[..., Any]:
    def method(self: Blocking, *args: Any) -> Any:
        return self._callmethod(name, args)

    return method


for _name in ("getitem", "setitem", "delitem", "len", "contains", "add", "mul", "rmul", "reversed"):
    setattr(Blocking, f"__{_name}__", _special(f"__{_name}__"))


class Method:
    """A method, which is pickled as the object's is."""

    def __init__(self, owner: Blocking, name: str) -> None:
        self._owner = owner
        self._name = name

    def __call__(self, *args: Any, **kwds: Any) -> Any:
        return self._owner._ask(getattr(self._owner._wrapped, self._name), *args, **kwds)

    def __reduce__(self) -> Any:
        return getattr, (self._owner, self._name)


class Iterating:
    """An iteration over a wrapped object, or an iterator that the host has."""

    def __init__(self, iterator: Any, loop: str) -> None:
        self._iterator = iterator
        self._loop = loop

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return blocking(loops.call(self._loop, self._iterator.__anext__), self._loop)
        except StopAsyncIteration as stop:
            raise StopIteration(*stop.args) from None


def is_namespace(wrapped: Any) -> bool:
    """Whether its attributes are what it is for."""
    return type(wrapped).__name__ == "AsyncNamespace"


def blocking(value: Any, loop: str) -> Any:
    """What a call brought, with the awaitable objects in it as blocking ones."""
    if type(value).__name__ == "AsyncIteratorProxy":
        return Iterating(value, loop)
    if isinstance(value, (AsyncProxy, AsyncQueue)):
        return Blocking(value, loop)
    if type(value) in {list, tuple}:
        return type(value)(blocking(part, loop) for part in value)
    if type(value) is dict:
        return {key: blocking(part, loop) for key, part in value.items()}
    return value


def over(proxy: Any, loop: str) -> Any:
    """The blocking face of a proxy."""
    return blocking(wrapped_in_a_loop(proxy, loop), loop)


def arrive(value: Any, loop: str) -> Any:
    """What a pickle of a blocking face becomes. At a host it is the proxy, as any other."""
    if getattr(process.current_process(), "_manager_server", None) is not None:
        return value
    if isinstance(value, managers.BaseProxy):
        return over(value, loop)
    return blocking(value, loop)


def wrapped_in_a_loop(proxy: Any, loop: str) -> Any:
    """`wrap`, where it is mostly called."""

    async def work() -> Any:
        return aiomanager.wrap(proxy)

    return loops.call(loop, work)
