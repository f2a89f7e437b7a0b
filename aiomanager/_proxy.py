"""`wrap`: what a coroutine gets for a proxy, by the methods that the object exposes."""

from __future__ import annotations

import pickle
import weakref
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import managers
from typing import Any

from ._addresses import parse
from ._afterwards import close_at_exit
from ._conditions import AsyncCondition
from ._errors import ConfigurationError, EncodeError, RemoteError
from ._links import LinkPool
from ._locks import AsyncLock
from ._objects import (
    AsyncBarrier,
    AsyncEvent,
    AsyncIteratorProxy,
    AsyncNamespace,
    AsyncProxy,
)
from ._pools import AsyncPool, AsyncResult
from ._queue import AsyncQueue
from ._references import Home, Reference, home_of, set_wrapper
from ._session import Session
from ._wire import QUEUE_PREFIX
from .engines.hosted import HostedEngine
from .engines.stock import StockEngine

# The first whose methods are all exposed.
_KINDS: Mapping[frozenset[str], Callable[[Reference], AsyncProxy]] = {
    frozenset({"acquire", "release", "wait", "notify"}): AsyncCondition,
    frozenset({"is_set", "set", "clear", "wait"}): AsyncEvent,
    frozenset({"__getattribute__", "wait", "abort", "reset"}): AsyncBarrier,
    frozenset({"apply_async", "map_async", "starmap_async", "terminate"}): AsyncPool,
    frozenset({"get", "wait", "ready", "successful"}): AsyncResult,
    frozenset({"__next__"}): AsyncIteratorProxy,
    frozenset({"__getattribute__", "__setattr__", "__delattr__"}): AsyncNamespace,
}

# What a lock may expose beside `acquire` and `release`; a pool of something has these two as well.
_LOCK_NAMES = frozenset(
    {"acquire", "release", "acquire_lock", "release_lock", "locked", "locked_lock", "get_value"}
)

# Seconds; what `connect` has by default.
CALL_TIMEOUT = 30.0
RECONNECT = 30.0


def wrap(proxy: Any, *, sentinel: object = None) -> Any:
    """Make a proxy of the standard library awaitable, whatever manager it comes from: what
    `SyncManager` offers, and classes that a user registered.

    Args:
        proxy: what a manager gave: `manager.dict()`, `manager.get_task_queue()`.
        sentinel: for a queue, the item that ends iterations over it; `NO_SENTINEL` for none.

    Returns an `AsyncQueue` for what has the methods of a queue, and an `AsyncProxy` for everything
    else. Among these, locks are async context managers, iterators are for `async for`, and a
    `Condition`, `Event`, `Barrier`, `Namespace`, `Pool` or a pool's result has the methods of its
    kind. What the object exposes decides, not how it was registered.

    It talks to the host on worker threads of its own, and needs no closing: its connections close
    when it is garbage. The proxy itself may be used as before.

    Raises:
        ConfigurationError: it is no proxy, or one whose manager does not pickle.
    """
    if not isinstance(proxy, managers.BaseProxy):
        raise ConfigurationError(
            f"wrap() takes a proxy that a manager gave, such as manager.dict() or what a "
            f"registered name returns; this is a {type(proxy).__name__}"
        )
    private: Any = proxy
    if private._serializer != "pickle":
        raise ConfigurationError(f"wrap() cannot speak {private._serializer!r}; use 'pickle'")
    token = private._token
    home = home_of(parse(token.address), private._authkey)
    exposed = getattr(type(proxy), "_exposed_", None)
    return wrap_reference(Reference(home, token, exposed, proxy), sentinel)


def wrap_reference(reference: Reference, sentinel: object = None) -> Any:
    """`wrap` for a reference."""
    exposed = reference.exposed or frozenset()
    if is_queue(exposed):
        return _queue(reference, sentinel)
    for methods, kind in _KINDS.items():
        if methods <= exposed:
            return kind(reference)
    if {"acquire", "release"} <= exposed <= _LOCK_NAMES:
        return AsyncLock(reference)
    return AsyncProxy(reference)


def is_queue(exposed: Sequence[str] | frozenset[str]) -> bool:
    """Whether these are a queue's methods. `put` and `get` are a cache's too."""
    return {"put", "get"} <= set(exposed) and bool({"get_nowait", "task_done"} & set(exposed))


def _queue(reference: Reference, sentinel: object) -> AsyncQueue[Any]:
    lane = reference.home.lane()
    if reference.ident.startswith(QUEUE_PREFIX):
        session = Session(lane.open, call_timeout=CALL_TIMEOUT, reconnect=RECONNECT)
        close_at_exit(session)
        return AsyncQueue(
            _WrappedHosted(session, reference), reference.ident[len(QUEUE_PREFIX) :], sentinel
        )
    pool = LinkPool(lane.open, call_timeout=CALL_TIMEOUT)
    pool.close_when_garbage()
    close_at_exit(pool)
    return AsyncQueue(_WrappedStock(pool, reference), reference.typeid, sentinel)


class _WrappedHosted(HostedEngine):
    def __init__(self, session: Session, reference: Reference) -> None:
        super().__init__(session, reference.ident)
        self._reference = reference
        weakref.finalize(self, session.close).atexit = False

    async def aclose(self) -> None:
        try:
            await super().aclose()
        finally:
            self._session.close()


class _WrappedStock(StockEngine):
    def __init__(self, pool: LinkPool, reference: Reference) -> None:
        async def resolve() -> tuple[str, Sequence[str]]:
            if reference.exposed is None:
                await reference.find_exposed()
            return reference.ident, tuple(reference.exposed or ())

        super().__init__(pool, resolve, reference.home.wait_slice)

    async def aclose(self) -> None:
        try:
            await super().aclose()
        finally:
            self._pool.close()


async def create(home: Home, name: str, args: Sequence[Any], kwds: Mapping[str, Any]) -> Any:
    """Call what is registered under a name and wrap what it gives. To be run by a task that no
    caller can cancel."""
    try:
        ident, exposed = await home.pool.function("create", name, *args, **kwds)
    except (RemoteError, KeyError) as exc:
        if "KeyError" in repr(exc):
            raise ConfigurationError(
                f"no queue or object is registered at {home} as {name!r}"
            ) from exc
        raise
    except (pickle.PicklingError, TypeError, AttributeError) as exc:
        raise EncodeError(f"the arguments for {name!r} cannot be pickled: {exc}") from exc
    token = managers.Token(name, home.address.value, ident)
    reference = Reference(home, token, exposed)
    reference.counted()
    return wrap_reference(reference)


set_wrapper(wrap_reference)
