"""`wrap`: what a coroutine gets for a proxy, by the methods that the object exposes."""

from __future__ import annotations

import pickle
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing import managers, pool
from multiprocessing.context import get_spawning_popen
from queue import Queue
from typing import Any, TypeVar, overload

from .._concurrency.finalizers import cut_at_exit
from .._ground.addresses import parse
from .._ground.errors import ConfigurationError, EncodeError, RemoteError
from .._host.manager import QueueProxy
from .._queue.prefetching import PREFETCH
from .._queue.queue import AsyncQueue, reduced_for_hosts
from .._transport.base import Conversation
from .._transport.pool import ConnectionPool
from .._transport.session import Session
from .._wire.items import pickle_for_hosts
from .._wire.messages import QUEUE_PREFIX
from .._wire.replies import NotThereError
from ..engines.hosted import HostedEngine
from ..engines.stock.engine import StockEngine
from ..engines.stock.leftovers import Target
from .base import AsyncProxy
from .conditions import AsyncCondition
from .containers import AsyncArray, AsyncDict, AsyncList, AsyncValue
from .host_connections import CALL_TIMEOUT, RECONNECT, HostConnections, host_at, host_of
from .item_codec import ITEM_CODEC
from .kinds import AsyncBarrier, AsyncEvent, AsyncIteratorProxy, AsyncNamespace
from .locks import AsyncLock
from .pools import AsyncPool, AsyncResult
from .references import Reference, set_wrapper
from .signatures import TypeAsValue

K = TypeVar("K")
V = TypeVar("V")
P = TypeVar("P")
S = TypeVar("S")
T = TypeVar("T")

# The first whose methods are all exposed.
_KINDS: Mapping[frozenset[str], Callable[[Reference], AsyncProxy]] = {
    frozenset({"acquire", "release", "wait", "notify"}): AsyncCondition,
    frozenset({"is_set", "set", "clear", "wait"}): AsyncEvent,
    frozenset({"__getattribute__", "wait", "abort", "reset"}): AsyncBarrier,
    frozenset({"apply_async", "map_async", "starmap_async", "terminate"}): AsyncPool,
    frozenset({"get", "wait", "ready", "successful"}): AsyncResult,
    frozenset({"__next__"}): AsyncIteratorProxy,
    frozenset({"__getattribute__", "__setattr__", "__delattr__"}): AsyncNamespace,
    frozenset({"__delitem__", "items", "keys", "popitem", "setdefault", "update"}): AsyncDict,
    frozenset({"__delitem__", "append", "extend", "insert", "reverse", "sort"}): AsyncList,
}

# These expose what many others have too, and nothing else.
_EXACTLY: Mapping[frozenset[str], Callable[[Reference], AsyncProxy]] = {
    frozenset({"get", "set"}): AsyncValue,
    frozenset({"__len__", "__getitem__", "__setitem__"}): AsyncArray,
}

# What a lock may expose beside `acquire` and `release`; a pool of something has these two as well.
_LOCK_NAMES = frozenset(
    {"acquire", "release", "acquire_lock", "release_lock", "locked", "locked_lock", "get_value"}
)


# Not `object`: mypy then took `DictProxy[Any, Any]` for either and its result for `Any`.
_Other = TypeVar("_Other")


@overload
def wrap(proxy: object, as_: TypeAsValue[P], *, sentinel: object = ...) -> P: ...
@overload
def wrap(proxy: managers.DictProxy[K, V]) -> AsyncDict[K, V]: ...
@overload
def wrap(proxy: managers.ListProxy[T]) -> AsyncList[T]: ...  # type: ignore[overload-overlap]
@overload
def wrap(proxy: managers.ValueProxy[T]) -> AsyncValue[T]: ...
@overload
def wrap(proxy: managers.Namespace) -> AsyncNamespace: ...
@overload
def wrap(proxy: threading.Barrier) -> AsyncBarrier: ...
@overload
def wrap(proxy: threading.Condition) -> AsyncCondition: ...
@overload
def wrap(proxy: threading.Event) -> AsyncEvent: ...
@overload
def wrap(proxy: threading.Lock | threading.RLock | threading.Semaphore) -> AsyncLock: ...
@overload
def wrap(proxy: pool.Pool) -> AsyncPool: ...
@overload
def wrap(proxy: pool.AsyncResult[T]) -> AsyncResult[T]: ...
@overload
def wrap(proxy: pool.IMapIterator[T]) -> AsyncIteratorProxy[T]: ...
@overload
def wrap(proxy: Queue[T]) -> AsyncQueue[T]: ...
@overload
def wrap(proxy: Queue[T], *, sentinel: S) -> AsyncQueue[T, S | None]: ...
@overload
def wrap(proxy: QueueProxy) -> AsyncQueue[Any]: ...
@overload
def wrap(proxy: QueueProxy, *, sentinel: object) -> AsyncQueue[Any, Any]: ...
@overload
def wrap(proxy: Sequence[T]) -> AsyncArray[T]: ...  # what `SyncManager.Array` is said to give
@overload
def wrap(proxy: _Other, *, sentinel: object = ...) -> Any: ...  # pyright: ignore[reportInvalidTypeVarUse]
def wrap(
    proxy: Any,
    as_: object = None,  # noqa: ARG001 - for type checkers alone
    *,
    sentinel: object = None,
) -> Any:
    """Make a proxy of the standard library awaitable, whatever manager it comes from: what
    `SyncManager` offers, and classes that a user registered.

    Args:
        proxy: what a manager gave: `manager.dict()`, `manager.get_task_queue()`.
        as_: what the type checker is to take the result for, where the type of the proxy does not
            tell: one of our classes, as `AsyncQueue[Job]`, or a `Protocol` of one's own with the
            methods of a class of one's own, as coroutines. It changes nothing at run time, and
            nothing checks it then.
        sentinel: for a queue, the item that ends iterations over it; `NO_SENTINEL` for none.

    Returns an `AsyncQueue` for what has the methods of a queue, and an `AsyncProxy` for everything
    else. Among these, locks are async context managers, iterators are for `async for`, and a
    `Condition`, `Event`, `Barrier`, `Namespace`, `Pool` or a pool's result has the methods of its
    kind. What the object exposes decides, not how it was registered.

    The type checker has `AsyncDict[K, V]` for a `DictProxy[K, V]`, `AsyncLock` for what
    `SyncManager.Lock` gives, and so on for all that `SyncManager` makes. Of anything else it knows
    as much as `as_` says.

    It talks to the host on worker threads of its own, and needs no closing: its connections close
    when it is garbage. The proxy itself may be used as before.

    Where the proxy's type does not say what the object exposes, as one written by hand without
    `_exposed_` does not, the host is asked, and `wrap` waits for that: a millisecond, and as long
    as connecting may take (5 s) where the host is away.

    What has the methods of a queue by name, and whose `put` takes no `block` and `timeout`, cannot
    be an `AsyncQueue`, which its first use says; `AsyncManager.proxy` gives an `AsyncProxy` for it.

    Raises:
        ConfigurationError: it is no proxy, or one whose manager does not pickle.
        ConnectionLostError: the host had to be asked, and is away.
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
    host = host_of(parse(token.address), private._authkey)
    exposed = getattr(type(proxy), "_exposed_", None)
    if exposed is None:
        exposed = host.function_now("get_methods", token)
    return wrap_reference(Reference(host, token, exposed, proxy), sentinel)


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
    return _EXACTLY.get(exposed, AsyncProxy)(reference)


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
        methods=None if hosted else partial(_methods_of, reference),
        codec=ITEM_CODEC,
    )


async def _methods_of(reference: Reference) -> AsyncProxy:
    return AsyncProxy(reference)


def passed_on(reference: Reference, sentinel: object, prefetch: int, for_hosts: bool) -> Any:
    """How a queue pickles for another process of ours, where it is wrapped again; what goes to a
    host is the standard library's proxy. The key goes along to a child that is being started, and
    to nobody else: as with those proxies, others have it or are told it."""
    if for_hosts:
        return reference.__reduce__()
    host = reference.host
    authkey = host.authkey if get_spawning_popen() is not None else None
    token = managers.Token(reference.typeid, host.address.value, reference.ident)
    exposed = None if reference.exposed is None else tuple(reference.exposed)
    return _unpickled_queue, (token, authkey, exposed, sentinel, prefetch)


def _unpickled_queue(
    token: Any,
    authkey: bytes | None,
    exposed: Sequence[str] | None,
    sentinel: object,
    prefetch: int,
) -> AsyncQueue[Any]:
    reference = Reference(host_at(token.address, authkey), token, exposed, counted=False)
    return _queue(reference, sentinel, prefetch)


class _WrappedHosted(HostedEngine):
    def __init__(self, reference: Reference) -> None:
        transport = reference.host.transport()
        session = Session(
            transport.open, transport.converse_now, call_timeout=CALL_TIMEOUT, reconnect=RECONNECT
        )
        cut_at_exit(session)
        super().__init__(session, reference.ident, threads=True)
        self._reference = reference
        weakref.finalize(self, session.close_from_anywhere).atexit = False

    async def aclose(self) -> None:
        try:
            await super().aclose()
            await self._session.aclose()
        finally:
            self._session.close()


class _WrappedStock(StockEngine):
    def __init__(self, reference: Reference) -> None:
        pool = ConnectionPool(
            reference.host.transport().open, call_timeout=CALL_TIMEOUT, reconnect=RECONNECT
        )
        pool.close_after_use()
        cut_at_exit(pool)

        async def resolve(gone: Target | None) -> Target:
            if gone is not None:
                raise RemoteError(
                    f"the host at {reference.host} does not have this {reference.typeid!r} any "
                    "more; was it restarted?"
                )
            await reference.adopt()
            if reference.exposed is None:
                await reference.find_exposed()
            return Target(reference.ident, tuple(reference.exposed or ()), reference)

        super().__init__(pool, resolve, reference.host.wait_slice, reference.host.transport())

    async def aclose(self) -> None:
        try:
            await super().aclose()
            await self.end()
        finally:
            self._pool.close()


async def create(
    host: HostConnections, name: str, args: Sequence[Any], kwds: Mapping[str, Any]
) -> Any:
    """Call what is registered under a name and wrap what it gives. To be run by a task that no
    caller can cancel."""
    try:
        ident, exposed = await host.pool.function("create", name, *args, **kwds)
    except NotThereError as exc:
        raise unknown_name(exc, name, host) from exc
    except (pickle.PicklingError, TypeError, AttributeError) as exc:
        raise EncodeError(f"the arguments for {name!r} cannot be pickled: {exc}") from exc
    token = managers.Token(name, host.address.value, ident)
    reference = Reference(host, token, exposed)
    reference.counted()
    if is_queue(reference.exposed or ()) and not ident.startswith(QUEUE_PREFIX):
        try:
            await check_queue(reference, host.pool)
        except ConfigurationError:
            return AsyncProxy(reference)
    return wrap_reference(reference)


async def check_queue(reference: Reference, pool: ConnectionPool) -> None:
    """Raise `ConfigurationError` where what has the methods of a queue does not take the arguments
    of one. To be run by a task that no caller can cancel."""
    if not {"put", "get"} <= (reference.exposed or frozenset()):
        return  # which the engine says
    lacking = await pool.call(_lacking(reference))
    if lacking is not None:
        raise ConfigurationError(
            f"{reference.typeid!r} has a put and a get, but its put() takes no {lacking}, "
            "without which there is no waiting that can be left; call its own methods on what "
            f"`await manager.proxy({reference.typeid!r})` gives"
        )


def _lacking(reference: Reference) -> Conversation[str | None]:
    """Ask for an argument that the object's `put` does not take, and a queue's does.

    A call with a name that no function knows raises before anything is done, and its error has the
    first of the names that were in vain."""
    names = {"block": False, "timeout": 0, "aiomanager_asks": None}
    try:
        yield from reference.answer(reference.request("put", **names))
    except TypeError as exc:
        text = str(exc)
        for name in ("block", "timeout"):
            if f"argument '{name}'" in text or f"'{name}' is an invalid" in text:
                return name
        if "no keyword arguments" in text:
            return "block"
    except Exception:
        return None  # what it means the first use will show
    return None


def unknown_name(error: NotThereError, name: str, where: object) -> Exception:
    """The error for a name under which nothing is registered, if that is what was not there."""
    if error.key != name:
        return error
    # A host of ours says what there is.
    rest = str(error).partition(repr(name))[2].rstrip('"')
    there_is = rest if "there is:" in rest else ""
    return ConfigurationError(f"no queue or object is registered at {where} as {name!r}{there_is}")


set_wrapper(wrap_reference)
pickle_for_hosts(AsyncQueue, reduced_for_hosts)
