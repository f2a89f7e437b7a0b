"""Pools of processes at a manager, as coroutines use them. Their results are waited for in slices,
by one call for all tasks of this process."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import anyio

from .._concurrency.futures import run_to_completion
from .._transport.base import Conversation
from .base import AsyncProxy, Limit, shared_poll
from .kinds import AsyncIteratorProxy
from .references import Reference
from .signatures import Pool, Result, shown, shown_as

R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")


async def get(self: AsyncResult[T], timeout: float | None = None) -> T:
    """The signature of a result's `get`."""
    raise NotImplementedError


class AsyncResult(AsyncProxy, Generic[T]):
    """What a `Pool` is computing. Any number of waiting tasks cost one thread and one
    connection."""

    _own = frozenset({"wait", "get"})
    _kind = re.compile(r"<multiprocessing\.pool\.(Apply|Map)Result ")

    @shown_as(Result.wait)
    async def wait(self, *args: Any, **kwds: Any) -> Any:
        """`wait(timeout=None)`: wait up to `timeout` seconds, for ever if None, until it is there.
        Cancelled, it has changed nothing: the pool computes on."""
        limit = Limit(args, kwds)
        if not await limit.keep(self._is_of_its_kind):
            return await self._call("wait", *args, **kwds)
        await self._wait(limit)
        return None

    async def _get(self, *args: Any, **kwds: Any) -> Any:
        """`get(timeout=None)`: wait for the result and return it, or raise what the function has
        raised.

        Raises `multiprocessing.TimeoutError` where it is not there within `timeout` seconds.
        Cancelled, the result stays where it is.
        """
        limit = Limit(args, kwds)
        if not await limit.keep(self._is_of_its_kind):
            return await self._call("get", *args, **kwds)
        await self._wait(limit)
        reference = self._reference
        request = reference.request("get", 0)
        return await limit.keep(lambda: run_to_completion(lambda: reference.ask(request, 0)))

    get = shown(get, _get)

    @shown_as(Result.ready)
    async def ready(self, *args: Any, **kwds: Any) -> Any:
        """Whether it is there."""
        return await self._call("ready", *args, **kwds)

    @shown_as(Result.successful)
    async def successful(self, *args: Any, **kwds: Any) -> Any:
        """Whether the function has raised nothing; ValueError where it has not ended."""
        return await self._call("successful", *args, **kwds)

    async def _wait(self, limit: Limit) -> None:
        await shared_poll(self._reference, _is_ready_within).wait(limit.left(), limit.latest)


async def _is_ready_within(reference: Reference, seconds: float) -> bool | None:
    def conversation() -> Conversation[bool]:
        yield from reference.tell("wait", seconds)
        return bool((yield from reference.tell("ready")))

    return await reference.converse(conversation(), seconds) or None


class AsyncPool(AsyncProxy):
    """A `Pool` at the host; functions must be importable by its processes. As an async context
    manager it is terminated at the end, as the standard library's."""

    _own = frozenset({"apply", "map", "starmap"})
    _kind = re.compile(r"<multiprocessing\.pool\.(Thread)?Pool |<.* pool_size=\d+>$")

    if TYPE_CHECKING:
        # The object's own, as any other method of an `AsyncProxy`.
        async def apply_async(
            self,
            func: Callable[..., R],
            args: Iterable[Any] = (),
            kwds: Mapping[str, Any] = ...,
        ) -> AsyncResult[R]: ...
        async def map_async(
            self, func: Callable[[S], R], iterable: Iterable[S], chunksize: int | None = None
        ) -> AsyncResult[list[R]]: ...
        async def starmap_async(
            self,
            func: Callable[..., R],
            iterable: Iterable[Iterable[Any]],
            chunksize: int | None = None,
        ) -> AsyncResult[list[R]]: ...
        async def imap(
            self, func: Callable[[S], R], iterable: Iterable[S], chunksize: int = 1
        ) -> AsyncIteratorProxy[R]: ...
        async def imap_unordered(
            self, func: Callable[[S], R], iterable: Iterable[S], chunksize: int = 1
        ) -> AsyncIteratorProxy[R]: ...
        async def close(self) -> None: ...
        async def terminate(self) -> None: ...
        async def join(self) -> None: ...

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            await self._call("terminate")

    async def _run_apply(self, *args: Any, **kwds: Any) -> Any:
        """`apply(func, args=(), kwds={})`: run a function in the pool and return its result, or
        raise what it raises. Cancelled, it runs on in the pool."""
        return await self._run("apply", _apply, *args, **kwds)

    apply = shown(Pool.apply, _run_apply)

    async def _run_map(self, *args: Any, **kwds: Any) -> Any:
        """`map(func, iterable, chunksize=None)`: run a function for each item and return the
        results in order. Cancelled, the pool works on."""
        return await self._run("map", _map, *args, **kwds)

    map = shown(Pool.map, _run_map)

    async def _run_starmap(self, *args: Any, **kwds: Any) -> Any:
        """`starmap(func, iterable, chunksize=None)`: `map` with an item for all arguments of a
        call."""
        return await self._run("starmap", _starmap, *args, **kwds)

    starmap = shown(Pool.starmap, _run_starmap)

    async def _run(
        self, method: str, arguments: Callable[..., tuple[Any, ...]], *args: Any, **kwds: Any
    ) -> Any:
        """A method that would hold a thread of the host until it has its result."""
        if not await self._is_of_its_kind():
            return await self._call(method, *args, **kwds)
        result = await self._call(f"{method}_async", *arguments(*args, **kwds))
        return await result.get()


def _apply(
    func: Callable[..., Any], args: Iterable[Any] = (), kwds: Mapping[str, Any] | None = None
) -> tuple[Any, ...]:
    return func, tuple(args), dict(kwds or {})


def _map(
    func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
) -> tuple[Any, ...]:
    return func, list(iterable), chunksize


def _starmap(
    func: Callable[..., Any], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
) -> tuple[Any, ...]:
    return func, [tuple(item) for item in iterable], chunksize
