"""Work that no cancellation of its caller reaches.

A native `task.cancel()` goes through anyio's shields, and a request that is half written or half
read cannot be left: the connection would answer the next caller with it. So whatever talks to a
host goes on by itself, and callers wait for its outcome, which they may leave at any time: what
came for somebody who has left is never nobody's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import anyio.lowlevel

from ._tasks import on_asyncio, spawn

T = TypeVar("T")

_Convert = Callable[[Any], Any]
_ConvertError = Callable[[Exception], Exception]


class Slot(Generic[T]):
    """A place for one outcome, which one task waits for, or one callback.

    It wakes its waiter through a future of the event loop's own, since there is one for every
    item: anyio's events cost several times as much.

    Args:
        discard: is given a value whose waiter was cancelled at the very moment it came, or before.
    """

    __slots__ = (
        "__weakref__", "_callback", "_conversions", "_discard", "_future", "_outcome", "abandoned",
        "filled",
    )  # fmt: skip

    def __init__(self, discard: Callable[[T], object] | None = None) -> None:
        self.abandoned = False  # nobody waits any more
        self.filled = False
        self._discard = discard
        self._conversions: tuple[tuple[_Convert, _ConvertError], ...] = ()
        # What wakes whoever waits: one of these, once there is somebody.
        self._future: asyncio.Future[None] | None = None
        self._callback: Callable[[Any], object] | None = None
        self._outcome: Any = None

    def set(self, outcome: T | Exception) -> None:
        """Give the outcome to the waiter, who is raised an exception instance; a value whose
        waiter has left goes to `discard`."""
        for convert, convert_error in self._conversions:
            convert_it: Any = convert_error if isinstance(outcome, Exception) else convert
            outcome = convert_it(outcome)
        self.filled = True
        if self.abandoned:
            if self._discard is not None and not isinstance(outcome, Exception):
                self._discard(outcome)
            return
        self._outcome = outcome
        if self._future is not None:
            if not self._future.done():
                self._future.set_result(None)
        elif self._callback is not None:
            self._callback(outcome)

    async def wait(self) -> T:
        """Wait for the outcome. Cancelled, it leaves at once; the work goes on."""
        try:
            if self.filled:
                await anyio.lowlevel.checkpoint()
            elif on_asyncio():
                self._future = asyncio.Future()  # as the loop's own create_future, in half the time
                await self._future
            else:
                import trio

                event = trio.Event()
                self._callback = lambda _: event.set()
                await event.wait()
        except BaseException:
            self.abandoned = True
            if (
                self.filled
                and self._discard is not None
                and not isinstance(self._outcome, Exception)
            ):
                self._discard(self._outcome)
            raise
        if isinstance(self._outcome, Exception):
            # One error may be given to many; its traceback must not grow with each of them.
            raise self._outcome.with_traceback(None)
        return self._outcome  # type: ignore[no-any-return]

    def then(self, callback: Callable[[T | Exception], object]) -> None:
        """Call back with the outcome, where nobody waits for it: at once where it is there."""
        if self.filled:
            callback(self._outcome)
        else:
            self._callback = callback

    def map(
        self,
        convert: _Convert,
        convert_error: _ConvertError = lambda error: error,
    ) -> Slot[Any]:
        """This slot, for what `convert` makes of the value, and `convert_error` of an error."""
        if self.filled:
            converted: Slot[Any] = Slot()
            converted.map(convert, convert_error).set(self._outcome)
            return converted
        self._conversions += ((convert, convert_error),)
        return self


def filled(value: T) -> Slot[T]:
    """A slot with a value in it."""
    slot: Slot[T] = Slot()
    slot.set(value)
    return slot


def attempt(start: Callable[[], Slot[T]]) -> Slot[T]:
    """The slot that `start` returns, or one with the error that it raises."""
    try:
        return start()
    except Exception as exc:
        slot: Slot[T] = Slot()
        slot.set(exc)
        return slot


def begin(
    work: Callable[[], Awaitable[T]], discard: Callable[[T], object] | None = None
) -> Slot[T]:
    """Run `work` in a task of its own; its outcome goes into the slot."""
    slot: Slot[T] = Slot(discard)

    async def run() -> None:
        try:
            value = await work()
        except Exception as exc:
            slot.set(exc)
        else:
            slot.set(value)

    spawn(run)
    return slot


async def finish(
    work: Callable[[], Awaitable[T]], discard: Callable[[T], object] | None = None
) -> T:
    """Run `work` to its end whatever happens to the caller, and return what it returns.

    Cancelled, the caller leaves at once; the result, when it comes, goes to `discard`.
    """
    return await begin(work, discard).wait()
