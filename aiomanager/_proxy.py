"""`wrap`: what a coroutine gets for a proxy, by the methods that the object exposes."""

from __future__ import annotations

import pickle
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing import managers
from multiprocessing.context import get_spawning_popen
from typing import Any

from ._addresses import parse
from ._afterwards import cut_at_exit
from ._ahead import PREFETCH
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
from ._references import Home, Reference, home_at, home_of, set_wrapper
from ._session import Session
from ._wire import QUEUE_PREFIX
from .engines.hosted import HostedEngine
from .engines.leftovers import Target
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


def _queue(reference: Reference, sentinel: object, prefetch: int = PREFETCH) -> AsyncQueue[Any]:
    hosted = reference.ident.startswith(QUEUE_PREFIX)
    name = reference.ident[len(QUEUE_PREFIX) :] if hosted else reference.typeid
    engine = _WrappedHosted if hosted else _WrappedStock
    return AsyncQueue(
        lambda: engine(reference),
        name,
        sentinel,
        prefetch,
        reduce=partial(passed_on, reference, sentinel, prefetch),
    )


def passed_on(reference: Reference, sentinel: object, prefetch: int) -> Any:
    """How a queue pickles for another process of ours, where it is wrapped again. The key goes
    along to a child that is being started, and to nobody else: as with the standard library's
    proxies, others have it or are told it."""
    home = reference.home
    authkey = home.authkey if get_spawning_popen() is not None else None
    token = managers.Token(reference.typeid, home.address.value, reference.ident)
    exposed = None if reference.exposed is None else tuple(reference.exposed)
    return _arrived, (token, authkey, exposed, sentinel, prefetch)


def _arrived(
    token: Any,
    authkey: bytes | None,
    exposed: Sequence[str] | None,
    sentinel: object,
    prefetch: int,
) -> AsyncQueue[Any]:
    reference = Reference(home_at(token.address, authkey), token, exposed, counted=False)
    return _queue(reference, sentinel, prefetch)


class _WrappedHosted(HostedEngine):
    def __init__(self, reference: Reference) -> None:
        session = Session(
            reference.home.lane().open, call_timeout=CALL_TIMEOUT, reconnect=RECONNECT
        )
        cut_at_exit(session)
        super().__init__(session, reference.ident, threads=True)
        self._reference = reference
        weakref.finalize(self, session.close_from_anywhere).atexit = False

    async def aclose(self) -> None:
        try:
            await super().aclose()
        finally:
            self._session.close()


class _WrappedStock(StockEngine):
    def __init__(self, reference: Reference) -> None:
        pool = LinkPool(reference.home.lane().open, call_timeout=CALL_TIMEOUT, reconnect=RECONNECT)
        pool.close_when_garbage()
        cut_at_exit(pool)

        async def resolve(gone: Target | None) -> Target:
            if gone is not None:
                raise RemoteError(
                    f"the host at {reference.home} does not have this {reference.typeid!r} any "
                    "more; was it restarted?"
                )
            await reference.adopt()
            if reference.exposed is None:
                await reference.find_exposed()
            return Target(reference.ident, tuple(reference.exposed or ()), reference)

        super().__init__(pool, resolve, reference.home.wait_slice, reference.home.lane())

    async def aclose(self) -> None:
        try:
            await super().aclose()
            await self.end()
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
