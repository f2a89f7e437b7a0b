"""Work that no cancellation of its caller reaches.

A native `task.cancel()` goes through anyio's shields, and a request that is half written or half
read cannot be left: the connection would answer the next caller with it. So whatever talks to a
host runs in a task of its own, and callers wait for its outcome, which they may leave at any time:
what came for somebody who has left is never nobody's.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

import anyio
import anyio.lowlevel
from anyio.lowlevel import current_token

T = TypeVar("T")
Entry = TypeVar("Entry")

logger = logging.getLogger("aiomanager")

# asyncio itself keeps only weak references to its tasks.
_running: set[asyncio.Task[None]] = set()


def spawn(work: Callable[[], Awaitable[None]]) -> None:
    """Start a task that belongs to the event loop and not to the caller. `work` must not raise;
    it is cancelled when the loop ends."""
    if isinstance(current_token().native_token, asyncio.AbstractEventLoop):
        task = asyncio.ensure_future(_as_coroutine(work))
        _running.add(task)
        task.add_done_callback(_running.discard)
    else:
        import trio

        trio.lowlevel.spawn_system_task(_as_coroutine, work)


async def _as_coroutine(work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except Exception:
        # Nobody waits for this task, and trio would end the program for it.
        logger.exception("a background task of aiomanager failed")


def call_soon(callback: Callable[[], object]) -> None:
    """Call back in the next turn of the event loop, when the tasks that are ready now have run."""
    token = current_token().native_token
    if isinstance(token, asyncio.AbstractEventLoop):
        token.call_soon(_guarded, callback, context=_context_of_callbacks())
    else:
        token.run_sync_soon(_guarded, callback)  # type: ignore[attr-defined]


def call_later(seconds: float, callback: Callable[[], object]) -> None:
    """Call back after so many seconds, if the event loop still runs then."""
    token = current_token().native_token
    if isinstance(token, asyncio.AbstractEventLoop):
        token.call_later(seconds, _guarded, callback, context=_context_of_callbacks())
        return

    async def wait() -> None:
        await anyio.sleep(seconds)
        callback()

    spawn(wait)


def _guarded(callback: Callable[[], object]) -> None:
    try:
        callback()
    except Exception:
        logger.exception("a callback of aiomanager failed")  # trio would end the program


def call_when_readable(sock: socket.socket, callback: Callable[[], object]) -> Callable[[], object]:
    """Call back whenever the socket can be read, until the function that is returned is called,
    which is to be done before the socket is closed."""
    token = current_token().native_token
    if isinstance(token, asyncio.AbstractEventLoop):
        # The event loop's own way costs one turn of it; a task that waits costs three.
        with contextlib.suppress(NotImplementedError):
            _context_of_callbacks().run(token.add_reader, sock, callback)
            return lambda: token.is_closed() or token.remove_reader(sock)
    scope = anyio.CancelScope()

    async def wait() -> None:
        with scope, contextlib.suppress(anyio.ClosedResourceError):
            while not scope.cancel_called:  # the callback may have closed the socket
                await anyio.wait_readable(sock)
                callback()

    spawn(wait)
    return scope.cancel


def _context_of_callbacks() -> contextvars.Context:
    """Where callbacks of asyncio can use anyio. They run in no task, and where sniffio is installed
    anyio asks it, which knows asyncio by the current task or by this variable."""
    context = contextvars.copy_context()
    with contextlib.suppress(ImportError):
        import sniffio

        context.run(sniffio.current_async_library_cvar.set, "asyncio")
    return context


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
        self._conversions: list[tuple[Callable[[Any], Any], Callable[[Exception], Exception]]] = []
        # What wakes whoever waits: one of these, once there is somebody.
        self._future: asyncio.Future[None] | None = None
        self._callback: Callable[[], object] | None = None
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
            self._callback()

    async def wait(self) -> T:
        """Wait for the outcome. Cancelled, it leaves at once; the work goes on."""
        try:
            if self.filled:
                await anyio.lowlevel.checkpoint()
            elif _on_asyncio():
                self._future = asyncio.get_running_loop().create_future()
                await self._future
            else:
                import trio

                event = trio.Event()
                self._callback = event.set
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
            self._callback = lambda: callback(self._outcome)

    def map(
        self,
        convert: Callable[[T], Any],
        convert_error: Callable[[Exception], Exception] = lambda error: error,
    ) -> Slot[Any]:
        """This slot, for what `convert` makes of the value, and `convert_error` of an error."""
        if self.filled:
            converted: Slot[Any] = Slot()
            converted.map(convert, convert_error).set(self._outcome)
            return converted
        self._conversions.append((convert, convert_error))
        return self


def _on_asyncio() -> bool:
    """Whether this task is asyncio's. In trio's guest mode asyncio runs too, but no task of its
    own at this moment."""
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False


def current_task_id() -> int:
    """What no other task that runs at present has."""
    if _on_asyncio():
        return id(asyncio.current_task())
    import trio

    return id(trio.lowlevel.current_task())


def on_task_end(callback: Callable[[], object]) -> Callable[[], object]:
    """Have `callback` called when the current task has ended, and return what calls that off."""
    if _on_asyncio():
        task = asyncio.current_task()
        assert task is not None

        def ended(_: asyncio.Task[Any]) -> None:
            callback()

        task.add_done_callback(ended, context=_context_of_callbacks())
        return lambda: task.remove_done_callback(ended)
    return _TaskWatch(callback).end


class _TaskWatch:
    """An instrument of Trio's, which tells nobody else that a task has ended."""

    def __init__(self, callback: Callable[[], object]) -> None:
        import trio

        self._callback = callback
        self._task = trio.lowlevel.current_task()
        trio.lowlevel.add_instrument(self)  # type: ignore[arg-type]

    def task_exited(self, task: object) -> None:
        """For Trio, which knows an instrument by the names of its methods."""
        if task is self._task:
            self.end()
            self._callback()

    def end(self) -> None:
        import trio

        trio.lowlevel.remove_instrument(self)  # type: ignore[arg-type]


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


class _Submitted(Slot[T]):
    """An entry of a batch, and the place for its outcome."""

    __slots__ = ("entry",)
    entry: Any


class Batcher(Generic[Entry, T]):
    """Sends what waits as one batch while the batch before is on its way.

    An entry that comes alone leaves at once. After a batch of several, those whom its outcomes
    wake have a turn of the event loop in which to come along: else the first of them would leave
    alone, and all others wait for it.

    Args:
        send: starts to send a batch; the outcome is one for each entry, in order, an exception
            instance for an entry that failed.
        limit: entries that go in one batch at most.
        size: bytes of an entry; a batch ends with the entry that takes it over `size_limit`.
        revocable: an entry whose submitter has left before its batch has is not sent.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Entry]], Slot[Any]],
        *,
        limit: int = 1024,
        size: Callable[[Entry], int] | None = None,
        size_limit: int = 1024 * 1024,
        revocable: bool = False,
    ) -> None:
        self._send = send
        self._limit = limit
        self._size = size
        self._size_limit = size_limit
        self._revocable = revocable
        self._waiting: deque[_Submitted[T]] = deque()
        self._busy = False
        self._several = False  # the last batch had more than one entry
        self._idle: anyio.Event | None = None  # there while somebody waits for the end

    async def submit(self, entry: Entry, discard: Callable[[T], object] | None = None) -> T:
        """Send an entry and return its outcome. Cancelled, its outcome goes to `discard`."""
        return await self.submit_soon(entry, discard).wait()

    def submit_soon(self, entry: Entry, discard: Callable[[T], object] | None = None) -> Slot[T]:
        """The same without waiting; entries leave in the order of these calls."""
        submitted: _Submitted[T] = _Submitted(discard)
        submitted.entry = entry
        self._waiting.append(submitted)
        if not self._busy:
            self._busy = True
            self._flush_soon()
        return submitted

    @property
    def idle(self) -> bool:
        """Whether nothing is waiting or on its way."""
        return not self._busy

    async def drained(self) -> None:
        """Wait until nothing is waiting or on its way."""
        while self._busy:
            if self._idle is None:
                self._idle = anyio.Event()
            await self._idle.wait()

    def _flush_soon(self) -> None:
        if self._several:
            call_soon(self._flush)
        else:
            self._flush()

    def _flush(self) -> None:
        batch = self._next_batch()
        if batch:
            self._several = len(batch) > 1
            entries = [submitted.entry for submitted in batch]
            attempt(lambda: self._send(entries)).then(lambda outcomes: self._sent(batch, outcomes))
            return
        self._busy = False
        if self._idle is not None:
            self._idle.set()
            self._idle = None

    def _sent(self, batch: Sequence[_Submitted[T]], outcomes: Any) -> None:
        if isinstance(outcomes, Exception):
            outcomes = [outcomes] * len(batch)
        for submitted, outcome in zip(batch, outcomes, strict=True):
            submitted.set(outcome)
        if self._waiting:
            self._flush_soon()
        else:
            self._flush()

    def _next_batch(self) -> list[_Submitted[T]]:
        batch: list[_Submitted[T]] = []
        size = 0
        while self._waiting and len(batch) < self._limit and size < self._size_limit:
            submitted = self._waiting.popleft()
            if not (self._revocable and submitted.abandoned):
                batch.append(submitted)
                if self._size is not None:
                    size += self._size(submitted.entry)
        return batch
