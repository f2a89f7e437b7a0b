"""Futures whose waiter may be cancelled without cancelling the work.

A request that is half written or half read cannot be left: the connection would answer the next
caller with it. Shields do not help, as a native `task.cancel()` goes through those of anyio. So the
work runs in a task of its own (`start_detached`), and its caller waits for a `Future`, which it may
leave at any time. If the waiter is gone when the result arrives, `discard(result)` is called, so
that nothing is dropped.

An outcome is a value or an error, and says which it is: a value may be an exception, too.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import anyio.lowlevel

from .event_loop import on_asyncio, spawn

T = TypeVar("T")

_Convert = Callable[[Any], Any]
_ConvertError = Callable[[Exception], Exception]


class Failure:
    """The outcome of one entry among several that failed."""

    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error = error


class Future(Generic[T]):
    """A place for one outcome, which one task waits for, or one callback.

    It wakes its waiter through a future of the event loop's own, since there is one for every
    item: anyio's events cost several times as much.

    Args:
        discard: is given a value whose waiter was cancelled at the very moment it came, or before,
            or that came after an error had been given.

    Attributes:
        filled: the outcome is there.
        abandoned: nobody waits any more.
        value, error: the outcome, once it is there; an error is not None.
        behind: the error of whoever stands behind this one, where the host was given up for all.
    """

    __slots__ = (
        "__weakref__", "_callback", "_conversions", "_discard", "_future", "abandoned", "behind",
        "error", "filled", "value",
    )  # fmt: skip

    def __init__(self, discard: Callable[[T], object] | None = None) -> None:
        self.abandoned = False
        self.filled = False
        self.behind: Exception | None = None
        self.value: Any = None
        self.error: Exception | None = None
        self._discard = discard
        self._conversions: tuple[tuple[_Convert, _ConvertError], ...] = ()
        # What wakes whoever waits: one of these, once there is somebody.
        self._future: asyncio.Future[None] | None = None
        self._callback: Callable[[Future[T]], object] | None = None

    def set_result(self, value: T) -> None:
        """Give a value to the waiter, or to `discard` where he has left."""
        if self._conversions:
            try:
                for convert, _ in self._conversions:
                    value = convert(value)
            except Exception as exc:
                self._fill(None, exc)
                return
        self._fill(value, None)

    def set_exception(self, error: Exception, *, behind: Exception | None = None) -> None:
        """Have an error raised where the outcome is waited for."""
        if self._conversions:
            try:
                for _, convert_error in self._conversions:
                    error = convert_error(error)
            except Exception as exc:
                error = exc
        self.behind = behind
        self._fill(None, error)

    def set_outcome(self, outcome: T | Failure) -> None:
        """`set` or `fail`, as the outcome of an entry says."""
        if type(outcome) is Failure:
            self.set_exception(outcome.error)
        elif self._conversions:  # asked here too, as nearly always a call can be saved
            self.set_result(outcome)  # type: ignore[arg-type]
        else:
            self._fill(outcome, None)

    def _fill(self, value: Any, error: Exception | None) -> None:
        if self.filled or self.abandoned:
            self.filled = True
            if self._discard is not None and error is None:
                self._discard(value)
            return
        self.filled = True
        self.value = value
        self.error = error
        if self._future is not None:
            if not self._future.done():
                self._future.set_result(None)
        elif self._callback is not None:
            self._callback(self)

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
            if self.filled and self._discard is not None and self.error is None:
                self._discard(self.value)
            raise
        error = self.error
        if error is not None:
            try:
                raise error
            finally:
                # By its traceback the error holds this frame, and by it what is named here.
                del error, self
        return self.value  # type: ignore[no-any-return]

    def add_done_callback(self, callback: Callable[[Future[T]], object]) -> None:
        """Call back with this future once the outcome is there, where nobody waits for it: at once
        where it is there already."""
        if self.filled:
            callback(self)
        else:
            self._callback = callback

    def map(
        self,
        convert: _Convert,
        convert_error: _ConvertError = lambda error: error,
    ) -> Future[Any]:
        """This future, for what `convert` makes of the value, and `convert_error` of an error. What
        one of them raises is the error."""
        if self.filled:
            converted: Future[Any] = Future()
            converted.map(convert, convert_error)
            if self.error is None:
                converted.set_result(self.value)
            else:
                converted.set_exception(self.error, behind=self.behind)
            return converted
        self._conversions += ((convert, convert_error),)
        return self


def replica(error: Exception) -> Exception:
    """An equal error for another waiter. One error that is raised in several tasks would gather
    the tracebacks of them all."""
    try:
        other = copy.copy(error)
    except Exception:
        other = None
    if type(other) is not type(error):
        # One that wants other arguments than it keeps is made without asking it.
        other = type(error).__new__(type(error), *error.args)
        other.args = error.args
        vars(other).update(vars(error))
    assert other is not None
    other.__traceback__ = error.__traceback__
    other.__cause__ = error.__cause__
    other.__context__ = error.__context__
    other.__suppress_context__ = error.__suppress_context__
    return other


def filled(value: T) -> Future[T]:
    """A future with a value in it."""
    future: Future[T] = Future()
    future.set_result(value)
    return future


def failed(error: Exception) -> Future[Any]:
    """A future with an error in it."""
    future: Future[Any] = Future()
    future.set_exception(error)
    return future


def attempt(start: Callable[[], Future[T]]) -> Future[T]:
    """The future that `start` returns, or one with the error that it raises."""
    try:
        return start()
    except Exception as exc:
        return failed(exc)


def start_detached(
    work: Callable[[], Awaitable[T]], discard: Callable[[T], object] | None = None
) -> Future[T]:
    """Run `work` in a task of its own; its outcome goes into the future."""
    future: Future[T] = Future(discard)

    async def run() -> None:
        try:
            value = await work()
        except Exception as exc:
            future.set_exception(exc)
        else:
            future.set_result(value)

    spawn(run)
    return future


async def run_to_completion(
    work: Callable[[], Awaitable[T]], discard: Callable[[T], object] | None = None
) -> T:
    """Run `work` to its end whatever happens to the caller, and return what it returns.

    Cancelled, the caller leaves at once; the result, when it comes, goes to `discard`.
    """
    return await start_detached(work, discard).wait()
