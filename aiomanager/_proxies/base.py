"""Objects at a manager, as coroutines use them: `AsyncProxy`, and what its kinds share that wait.

Whatever a method does at the host, it holds up nothing but its own caller: each call has a
connection to itself while it lasts, and a thread. What the standard library can wait for in slices
is waited for in slices, by one call for all tasks of this process.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from math import inf
from typing import Any, ClassVar, Self, TypeVar

import anyio

from .._concurrency.futures import run_to_completion
from .._ground.errors import ConfigurationError, unanswered
from .long_poll import GRACE, LongPoll
from .references import NotExposedError, Reference

T = TypeVar("T")


class AsyncProxy:
    """An object at a manager's host. Got from `wrap`, from `AsyncManager.proxy`, and from calls
    whose result is such an object.

    The methods that it exposes are coroutines here, under their own names: `await
    shared.update(a=1)`. What begins with an underscore, or is called `call` or `aclose` as the two
    here are, goes through `call`: `await shared.call("__getitem__", "a")`. What the object raises
    is raised here, whatever its type; only a StopIteration, which no coroutine can raise, comes as
    StopAsyncIteration.

    The kinds of it (`AsyncLock`, `AsyncEvent` and so on) are chosen by what the object exposes, and
    add to that. A class of one's own with the methods of a kind keeps all of its own: what it
    exposes beside them is there, and the object is asked what it is before a method of the kind
    does anything else than to call the method of that name.

    Any number of tasks may use it at once, in every event loop and in forked children, which have
    connections and a reference of their own. It can be passed to the host, put into a queue or
    given to another process, and arrives there as the standard library's proxy.
    """

    # Methods of the class that stand for exposed ones, also in `call`.
    _own: ClassVar[frozenset[str]] = frozenset()
    # How an object that is of this kind describes itself.
    _kind: ClassVar[re.Pattern[str]] = re.compile("")

    def __init__(self, reference: Reference) -> None:
        self._open_reference: Reference | None = reference

    def __repr__(self) -> str:
        reference = self._open_reference
        what = "closed" if reference is None else f"{reference.typeid!r} at {reference.host}"
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
        if method in self._own:
            return await getattr(self, method)(*args, **kwds)
        return await self._call(method, *args, **kwds)

    async def _call(self, method: str, /, *args: Any, **kwds: Any) -> Any:
        reference = self._reference
        await reference.find_out(method)
        reference.check(method)
        request = reference.request(method, *args, **kwds)
        return await self._in_turn(method, lambda: reference.ask(request))

    async def _is_of_its_kind(self) -> bool:
        """Whether the object is what its methods look like. A class of one's own with the same
        names may take other arguments, and what is left undone there is not known."""
        return bool(self._kind.match(await self._reference.described()))

    async def copy(self, *args: Any, **kwds: Any) -> Any:
        """The object itself, copied into this process; where it exposes a `copy`, what that
        returns."""
        await self._reference.find_out()
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
            await run_to_completion(reference.give_up)

    async def _in_turn(
        self,
        method: str,
        work: Callable[[], Awaitable[T]],
        discard: Callable[[T], None] | None = None,
    ) -> T:
        """Wait for a turn with a method, and run work that no cancellation reaches."""
        turns = self._reference.host.turns(self._reference.ident, method)
        turn = await turns.enter()

        async def run() -> T:
            try:
                return await work()
            finally:
                turns.leave(turn)

        return await run_to_completion(run, discard)

    @property
    def _reference(self) -> Reference:
        if self._open_reference is None:
            raise ConfigurationError("this wrapped object was closed")
        return self._open_reference

    def _check_open(self) -> None:
        assert self._reference is not None


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


def shared_poll(
    reference: Reference, ask: Callable[[Reference, float], Awaitable[T | None]]
) -> LongPoll[T]:
    """The waits for something that is there for all, once it is there, and changes nothing."""
    host = reference.host
    return host.shared(
        reference.ident,
        ask.__name__,
        lambda: LongPoll(
            partial(ask, reference), host.wait_slice, shared=True, reconnect=host.reconnect
        ),
    )


class Limit:
    """The `timeout` among the arguments of a call, in seconds from now on: by when it ends, also
    where the host is not there to end it.

    Attributes:
        latest: the time of the event loop's clock at which it has ended.
    """

    def __init__(self, args: Sequence[Any], kwds: Mapping[str, Any], position: int = 0) -> None:
        timeout = kwds.get("timeout", args[position] if len(args) > position else None)
        is_number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
        self._deadline = anyio.current_time() + max(0.0, timeout) if is_number else inf
        self.latest = self._deadline + GRACE

    def left(self) -> float | None:
        """Seconds that are left of the timeout; None where there was none."""
        if self._deadline == inf:
            return None
        return max(0.0, self._deadline - anyio.current_time())

    async def keep(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do something that ends by itself if the host is there.

        Raises `ConnectionLostError` where it has not ended by the latest."""
        if self.latest == inf:
            return await work()
        begun = anyio.current_time()
        with anyio.CancelScope(deadline=self.latest):
            return await work()
        raise unanswered(anyio.current_time() - begun, sent=True)
