"""Objects that the standard library has a proxy of its own for: iterators, namespaces, events and
barriers."""

from __future__ import annotations

import multiprocessing
import os
import re
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Generic, Self, TypeVar

from .._concurrency.event_loop import EachLoop
from .._concurrency.finalizers import on_behalf_of_nobody
from .._concurrency.futures import Failure, run_to_completion
from .base import AsyncProxy, Limit, shared_poll
from .long_poll import LongPoll
from .references import Found, NotExposedError, Reference, or_failure
from .signatures import Barrier, Event, Namespace, shown_as

T = TypeVar("T")


class AsyncIteratorProxy(AsyncProxy, Generic[T]):
    """An iterator at the host, for `async for`. A task that gives up waiting for an item leaves it
    to the next that asks."""

    def __init__(self, reference: Reference) -> None:
        super().__init__(reference)
        self._left = _Left()
        self._waits = EachLoop(partial(_waits_for_items, reference, self._left))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        """The next item. Cancelled, it has taken none."""
        self._check_open()
        waits = self._waits.here()
        left = self._left.take()
        outcome = left or await waits.wait(None)
        assert outcome is not None
        if isinstance(outcome, Failure):
            raise outcome.error
        item: T = outcome[0]
        return item


# An item of an iterator, or what it has raised instead of one.
_Item = tuple[Any] | Failure


class _Left:
    """Items that came when nobody waited for them any more: for whoever asks next, in any event
    loop of this process."""

    def __init__(self) -> None:
        self._items: deque[_Item] = deque()
        self._process = os.getpid()

    def add(self, item: _Item) -> None:
        """Keep an item."""
        self._items.append(item)

    def take(self) -> _Item | None:
        """The first of them, if there is one."""
        if self._process != os.getpid():
            self._items, self._process = deque(), os.getpid()  # those are the parent's
        try:
            return self._items.popleft()
        except IndexError:
            return None


def _waits_for_items(reference: Reference, left: _Left) -> LongPoll[_Item]:
    return LongPoll(partial(_next_item, reference), reference.host.wait_slice, discard=left.add)


async def _next_item(reference: Reference, seconds: float) -> _Item | None:
    # A pool's iterators can wait with a timeout; others wait as long as they do.
    in_slices = "IMap" in await reference.described()
    found = Found(reference.host, in_thread=True)
    request = reference.request("__next__", *((seconds,) if in_slices else ()))
    conversation = or_failure(reference.answer(request, found))
    outcome = await reference.converse(conversation, seconds if in_slices else None)
    if not isinstance(outcome, Failure):
        await found.count()
        return (outcome,)
    if in_slices and _is_in_vain(outcome.error):
        return None
    return outcome


def _is_in_vain(error: Exception) -> bool:
    """Whether a wait was in vain, and not a function of the pool that raised such an error."""
    return isinstance(error, multiprocessing.TimeoutError) and not error.args


class AsyncNamespace(AsyncProxy):
    """A `Namespace`, or another object whose attributes processes share.

    Where the object exposes a `get`, a `set` or a `delete` of its own, those are meant; attributes
    are then had by `await shared.call("__getattribute__", name)`, and changed by `__setattr__` and
    `__delattr__` in the same way.
    """

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        exposed = self._reference.exposed or ()
        known = name.startswith("_") or name in exposed or self._reference.guessed
        if not known:
            how = f'call("__getattribute__", {name!r})' if "get" in exposed else f"get({name!r})"
            raise NotExposedError(f"an attribute of a Namespace is had by `await {how}`")
        return super().__getattr__(name)

    @shown_as(Namespace.get)
    async def get(self, *args: Any, **kwds: Any) -> Any:
        """`get(name)`: the value of an attribute; AttributeError where there is none."""
        return await self._own_or("get", "__getattribute__", *args, **kwds)

    @shown_as(Namespace.set)
    async def set(self, *args: Any, **kwds: Any) -> Any:
        """`set(name, value)`: give an attribute a value. Cancelled, it may or may not have it."""
        return await self._own_or("set", "__setattr__", *args, **kwds)

    @shown_as(Namespace.delete)
    async def delete(self, *args: Any, **kwds: Any) -> Any:
        """`delete(name)`: remove an attribute; AttributeError where there is none."""
        return await self._own_or("delete", "__delattr__", *args, **kwds)

    async def _own_or(self, own: str, method: str, *args: Any, **kwds: Any) -> Any:
        await self._reference.find_out()
        method = own if own in (self._reference.exposed or ()) else method
        return await self._call(method, *args, **kwds)


class AsyncEvent(AsyncProxy):
    """An `Event`. Any number of waiting tasks cost one thread and one connection."""

    _own = frozenset({"wait"})
    _kind = re.compile(r"<(threading\.|multiprocessing\.synchronize\.)?Event ")

    @shown_as(Event.wait)
    async def wait(self, *args: Any, **kwds: Any) -> Any:
        """`wait(timeout=None)`: wait up to `timeout` seconds, for ever if None, until it is set;
        whether it is.

        The host is asked in slices; an event that is set and cleared again between two of them
        goes unnoticed. Cancelled, it has changed nothing.
        """
        limit = Limit(args, kwds)
        if not await limit.keep(self._is_of_its_kind):
            return await self._call("wait", *args, **kwds)
        waits = shared_poll(self._reference, _is_set_within)
        return bool(await waits.wait(limit.left(), limit.latest))

    @shown_as(Event.is_set)
    async def is_set(self, *args: Any, **kwds: Any) -> Any:
        """Whether it is set."""
        return await self._call("is_set", *args, **kwds)

    @shown_as(Event.set)
    async def set(self, *args: Any, **kwds: Any) -> Any:
        """Set it, for every process. Cancelled, it may or may not be set."""
        return await self._call("set", *args, **kwds)

    @shown_as(Event.clear)
    async def clear(self, *args: Any, **kwds: Any) -> Any:
        """Reset it. Cancelled, it may or may not be reset."""
        return await self._call("clear", *args, **kwds)


async def _is_set_within(reference: Reference, seconds: float) -> bool | None:
    return await reference.ask(reference.request("wait", seconds), seconds) or None


class AsyncBarrier(AsyncProxy):
    """A `Barrier`.

    Where the object exposes a `parties`, `n_waiting` or `broken` of its own, those are meant.
    """

    _own = frozenset({"wait"})
    _kind = re.compile(r"<(threading\.|multiprocessing\.synchronize\.)?Barrier ")

    @shown_as(Barrier.wait)
    async def wait(self, *args: Any, **kwds: Any) -> Any:
        """`wait(timeout=None)`: wait until all parties wait, and return which of them this is,
        from 0 on.

        Raises `threading.BrokenBarrierError` where the barrier is broken, or was reset meanwhile.

        Whoever does not wait to the end breaks the barrier for all parties, as in the standard
        library: by its `timeout` in seconds, or cancelled, as the host cannot take a party back.
        Each wait has a connection and a thread to itself.
        """
        limit = Limit(args, kwds)
        if not await limit.keep(self._is_of_its_kind):
            return await self._call("wait", *args, **kwds)
        reference = self._reference
        conversation = reference.answer(reference.request("wait", *args, **kwds))
        seconds = limit.left()
        over = False

        async def work() -> Any:
            nonlocal over
            host = reference.host
            connection = None
            try:
                connection = await reference.borrow()
                return await host.call_with_cleanup(
                    connection,
                    conversation,
                    None if seconds is None else seconds + host.call_timeout,
                    settle=lambda _: None,
                    wake=lambda: host.converse_now(reference.tell("abort")),
                )
            finally:
                over = True
                if connection is not None:
                    host.give_back(connection)

        try:
            return await limit.keep(lambda: run_to_completion(work))
        except BaseException:
            if not over:
                on_behalf_of_nobody(lambda: reference.ask(reference.request("abort"), 0))
            raise

    @shown_as(Barrier.abort)
    async def abort(self, *args: Any, **kwds: Any) -> Any:
        """Break the barrier: whoever waits, or will wait, gets a `BrokenBarrierError`."""
        return await self._call("abort", *args, **kwds)

    @shown_as(Barrier.reset)
    async def reset(self, *args: Any, **kwds: Any) -> Any:
        """Make it new; whoever waits gets a `BrokenBarrierError`."""
        return await self._call("reset", *args, **kwds)

    @shown_as(Barrier.parties)
    async def parties(self, *args: Any, **kwds: Any) -> Any:
        """How many it takes to pass."""
        return await self._attribute("parties", *args, **kwds)

    @shown_as(Barrier.n_waiting)
    async def n_waiting(self, *args: Any, **kwds: Any) -> Any:
        """How many wait."""
        return await self._attribute("n_waiting", *args, **kwds)

    @shown_as(Barrier.broken)
    async def broken(self, *args: Any, **kwds: Any) -> Any:
        """Whether it is broken."""
        return await self._attribute("broken", *args, **kwds)

    async def _attribute(self, name: str, *args: Any, **kwds: Any) -> Any:
        if name in (self._reference.exposed or ()):
            return await self._call(name, *args, **kwds)
        return await self._call("__getattribute__", name)
