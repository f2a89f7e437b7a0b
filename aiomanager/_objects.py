"""Objects at a manager, as coroutines use them: `AsyncProxy`, and the kinds of it that wait.

Whatever a method does at the host, it holds up nothing but its own caller: each call has a
connection to itself while it lasts, and a thread. What the standard library can wait for in slices
is waited for in slices, by one call for all tasks of this process.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, Self, TypeVar

from ._afterwards import on_behalf_of_nobody
from ._errors import ConfigurationError
from ._references import NotExposedError, Reference
from ._slots import finish
from ._waits import Waits

T = TypeVar("T")


class AsyncProxy:
    """An object at a manager's host. Got from `wrap`, from `AsyncManager.proxy`, and from calls
    whose result is such an object.

    The methods that it exposes are coroutines here, under their own names: `await
    shared.update(a=1)`. What begins with an underscore, or is called `call` or `aclose` as the two
    here are, goes through `call`: `await shared.call("__getitem__", "a")`. What the object raises
    is raised here.

    Any number of tasks of one event loop may use it at once. It can be passed to the host, put
    into a queue or given to another process, and arrives there as the standard library's proxy.
    """

    def __init__(self, reference: Reference) -> None:
        self._open_reference: Reference | None = reference

    def __repr__(self) -> str:
        reference = self._open_reference
        what = "closed" if reference is None else f"{reference.typeid!r} at {reference.home}"
        return f"<{type(self).__name__} {what}>"

    def __reduce__(self) -> Any:
        return self._reference.__reduce__()

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self._reference.check(name)
        return partial(self.call, name)

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse what would look like a change at the host, and be none."""
        if not name.startswith("_"):
            raise NotExposedError(
                f"{name!r} cannot be assigned: an assignment cannot be awaited. Call the method "
                "that does it, such as `set` of a Value or a Namespace."
            )
        super().__setattr__(name, value)

    async def call(self, method: str, /, *args: Any, **kwds: Any) -> Any:
        """Call a method of the object by its name and return its result. A result that is an
        object at a host comes wrapped.

        Raises:
            AttributeError: the object does not expose the method; also a `ConfigurationError`.
            EncodeError: the arguments cannot be pickled; nothing was sent.
            DecodeError: the result cannot be unpickled in this process.
            RemoteError: the host could not run the call, or has lost the object.
            ConnectionLostError: the host went away; `outcome_known` says whether the method may
                have run.

        Cancelled while it waits for a connection, the method does not run; after that it runs to
        its end at the host, and its result is dropped.
        """
        reference = self._reference
        if reference.exposed is None:
            await finish(reference.find_exposed)
        reference.check(method)
        request = reference.request(method, *args, **kwds)
        return await self._in_turn(method, lambda: reference.ask(request))

    async def copy(self, *args: Any, **kwds: Any) -> Any:
        """The object itself, copied into this process; where it exposes a `copy`, what that
        returns."""
        exposed = self._reference.exposed or ()
        return await self.call("copy" if "copy" in exposed else "#GETVALUE", *args, **kwds)

    def __aiter__(self) -> AsyncIterator[Any]:
        """Iterate over what the object exposes `__iter__`, or `__getitem__` and `__len__`, for;
        a call for each item."""
        exposed = self._reference.exposed or frozenset()
        if "__iter__" not in exposed and not {"__getitem__", "__len__"} <= exposed:
            raise NotExposedError(f"{self!r} exposes nothing to iterate over")
        return _Items(self, by_iterator="__iter__" in exposed)

    async def aclose(self) -> None:
        """Give the object up now, not when this becomes garbage, and wait until the host has been
        told. Nothing can be called after that. Cancelled, it is given up all the same."""
        reference, self._open_reference = self._open_reference, None
        if reference is not None:
            await finish(reference.give_up)

    async def _in_turn(
        self,
        method: str,
        work: Callable[[], Awaitable[T]],
        discard: Callable[[T], None] | None = None,
    ) -> T:
        """Wait for a turn with a method, and run work that no cancellation reaches."""
        turns = self._reference.home.turns(self._reference.ident, method)
        turn = await turns.enter()

        async def run() -> T:
            try:
                return await work()
            finally:
                turns.leave(turn)

        return await finish(run, discard)

    @property
    def _reference(self) -> Reference:
        if self._open_reference is None:
            raise ConfigurationError("this wrapped object was closed")
        return self._open_reference


class _Items:
    def __init__(self, proxy: AsyncProxy, *, by_iterator: bool) -> None:
        self._proxy = proxy
        self._by_iterator = by_iterator
        self._iterator: Any = None
        self._position = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if self._by_iterator:
            if self._iterator is None:
                self._iterator = await self._proxy.call("__iter__")
            return await anext(self._iterator)
        try:
            item = await self._proxy.call("__getitem__", self._position)
        except IndexError:
            raise StopAsyncIteration from None
        self._position += 1
        return item


class AsyncIteratorProxy(AsyncProxy):
    """An iterator at the host, for `async for`. A task that gives up waiting for an item leaves it
    to the next that asks."""

    def __init__(self, reference: Reference) -> None:
        super().__init__(reference)
        self._left: deque[Any] = deque()  # items that nobody waited for any more
        self._waits: Waits[tuple[Any]] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        """The next item. Cancelled, it has taken none."""
        if self._waits is None:
            reference = self._reference
            # A pool's iterators can wait with a timeout; others wait as long as they do.
            in_slices = "IMap" in str(await self.call("__repr__"))
            self._waits = Waits(
                partial(_next_item, reference, in_slices),
                reference.home.wait_slice,
                discard=self._left.extend,
            )
        if self._left:
            return self._left.popleft()
        outcome = await self._waits.wait(None)
        assert outcome is not None
        return outcome[0]


async def _next_item(reference: Reference, in_slices: bool, seconds: float) -> tuple[Any] | None:
    args = (seconds,) if in_slices else ()
    limit = seconds if in_slices else None
    try:
        return (await reference.ask(reference.request("__next__", *args), limit),)
    except multiprocessing.TimeoutError:
        if not in_slices:
            raise
        return None


class AsyncNamespace(AsyncProxy):
    """A `Namespace`: attributes that processes share."""

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        if not name.startswith("_"):
            raise NotExposedError(f"an attribute of a Namespace is had by `await get({name!r})`")
        return super().__getattr__(name)

    async def get(self, name: str) -> Any:
        """The value of an attribute; AttributeError where there is none."""
        return await self.call("__getattribute__", name)

    async def set(self, name: str, value: Any) -> None:
        """Give an attribute a value. Cancelled, it may or may not have it."""
        await self.call("__setattr__", name, value)

    async def delete(self, name: str) -> None:
        """Remove an attribute; AttributeError where there is none."""
        await self.call("__delattr__", name)


class AsyncEvent(AsyncProxy):
    """An `Event`. Any number of waiting tasks cost one thread and one connection."""

    def __init__(self, reference: Reference) -> None:
        super().__init__(reference)
        self._waits = Waits(
            partial(_is_set_within, reference), reference.home.wait_slice, shared=True
        )

    async def is_set(self) -> bool:
        """Whether it is set."""
        return bool(await self.call("is_set"))

    async def set(self) -> None:
        """Set it, for every process. Cancelled, it may or may not be set."""
        await self.call("set")

    async def clear(self) -> None:
        """Reset it. Cancelled, it may or may not be reset."""
        await self.call("clear")

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait up to `timeout` seconds, for ever if None, until it is set; whether it is.

        The host is asked in slices; an event that is set and cleared again between two of them
        goes unnoticed. Cancelled, it has changed nothing.
        """
        if timeout is not None and timeout <= 0:
            return await self.is_set()
        return bool(await self._waits.wait(timeout))


async def _is_set_within(reference: Reference, seconds: float) -> bool | None:
    return await reference.ask(reference.request("wait", seconds), seconds) or None


class AsyncBarrier(AsyncProxy):
    """A `Barrier`."""

    async def wait(self, timeout: float | None = None) -> int:
        """Wait until all parties wait, and return which of them this is, from 0 on.

        Raises `threading.BrokenBarrierError` where the barrier is broken, or was reset meanwhile.

        Whoever does not wait to the end breaks the barrier for all parties, as in the standard
        library: by its `timeout` in seconds, or cancelled, as the host cannot take a party back.
        Each wait has a connection and a thread to itself.
        """
        reference = self._reference
        over = False

        async def work() -> int:
            nonlocal over
            home = reference.home
            link = await home.borrow()
            try:
                return await home.surely(
                    link,
                    reference.tell("wait", timeout),
                    None,
                    settle=lambda _: None,
                    hurry=lambda: home.converse_now(reference.tell("abort")),
                )
            finally:
                over = True
                home.give_back(link)

        try:
            return await finish(work)
        except Exception:
            raise
        except BaseException:
            if not over:
                on_behalf_of_nobody(lambda: reference.ask(reference.request("abort")))
            raise

    async def abort(self) -> None:
        """Break the barrier: whoever waits, or will wait, gets a `BrokenBarrierError`."""
        await self.call("abort")

    async def reset(self) -> None:
        """Make it new; whoever waits gets a `BrokenBarrierError`."""
        await self.call("reset")

    async def parties(self) -> int:
        """How many it takes to pass."""
        return int(await self.call("__getattribute__", "parties"))

    async def n_waiting(self) -> int:
        """How many wait."""
        return int(await self.call("__getattribute__", "n_waiting"))

    async def broken(self) -> bool:
        """Whether it is broken."""
        return bool(await self.call("__getattribute__", "broken"))
