"""Work that no cancellation of its caller reaches.

A native `task.cancel()` goes through anyio's shields, and a request that is half written or half
read cannot be left: the connection would answer the next caller with it. So whatever talks to a
host runs in a task of its own, and callers wait for its outcome, which they may leave at any time:
what came for somebody who has left is never nobody's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

import anyio
import anyio.lowlevel
from anyio.lowlevel import current_token

T = TypeVar("T")
Entry = TypeVar("Entry")

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
    await work()


class Slot(Generic[T]):
    """A place for one outcome, which one task waits for.

    A future of the event loop's own, since it is made for every item: anyio's events cost several
    times as much.

    Args:
        discard: is given a value whose waiter was cancelled at the very moment it came, or before.
    """

    __slots__ = ("_discard", "_error", "_value", "_wake", "abandoned", "filled")

    def __init__(self, discard: Callable[[T], object] | None = None) -> None:
        self.abandoned = False  # nobody waits any more
        self.filled = False
        self._discard = discard
        self._wake: Callable[[], object] | None = None
        self._value: Any = None
        self._error: BaseException | None = None

    def set(self, value: T) -> None:
        """Give the value to the waiter, or to `discard` where the waiter has left."""
        self.filled = True
        if not self.abandoned:
            self._value = value
            if self._wake is not None:
                self._wake()
        elif self._discard is not None:
            self._discard(value)

    def fail(self, error: BaseException) -> None:
        """Let the wait raise the error."""
        self.filled = True
        self._error = error
        if self._wake is not None:
            self._wake()

    async def wait(self) -> T:
        """Wait for the outcome. Cancelled, it leaves at once; the work goes on."""
        try:
            if self.filled:
                await anyio.lowlevel.checkpoint()
            else:
                await self._woken()
        except BaseException:
            self.abandoned = True
            if self.filled and self._error is None and self._discard is not None:
                self._discard(self._value)
            raise
        if self._error is not None:
            # One error may be given to many; its traceback must not grow with each of them.
            raise self._error.with_traceback(None)
        return self._value  # type: ignore[no-any-return]

    async def _woken(self) -> None:
        if _on_asyncio():
            future = asyncio.get_running_loop().create_future()
            self._wake = lambda: future.done() or future.set_result(None)
            await future
        else:
            import trio

            event = trio.Event()
            self._wake = event.set
            await event.wait()


def _on_asyncio() -> bool:
    """Whether this task is asyncio's. In trio's guest mode asyncio runs too, but no task of its
    own at this moment."""
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False


async def finish(work: Callable[[], Awaitable[T]], discard: Callable[[T], None] | None = None) -> T:
    """Run `work` to its end whatever happens to the caller, and return what it returns.

    Cancelled, the caller leaves at once; the result, when it comes, goes to `discard`.
    """
    slot: Slot[T] = Slot(discard)

    async def run() -> None:
        try:
            value = await work()
        except Exception as exc:
            slot.fail(exc)
        else:
            slot.set(value)

    spawn(run)
    return await slot.wait()


class Batcher(Generic[Entry, T]):
    """Sends what waits as one batch while the batch before is on its way.

    Args:
        send: sends a batch and returns an outcome for each entry, in order, an exception instance
            for an entry that failed.
        limit: entries that go in one batch at most.
        size: bytes of an entry; a batch ends with the entry that takes it over `size_limit`.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Entry]], Awaitable[Sequence[T | Exception]]],
        *,
        limit: int = 1024,
        size: Callable[[Entry], int] = lambda entry: 0,
        size_limit: int = 1024 * 1024,
    ) -> None:
        self._send = send
        self._limit = limit
        self._size = size
        self._size_limit = size_limit
        self._waiting: deque[tuple[Entry, Slot[T]]] = deque()
        self._idle: anyio.Event | None = None  # there while batches are being sent

    async def submit(self, entry: Entry, discard: Callable[[T], None] | None = None) -> T:
        """Send an entry and return its outcome.

        Cancelled before its batch has left, the entry is not sent; after that it is, and its
        outcome goes to `discard`.
        """
        return await self.submit_soon(entry, discard).wait()

    def submit_soon(self, entry: Entry, discard: Callable[[T], None] | None = None) -> Slot[T]:
        """The same without waiting; entries leave in the order of these calls."""
        slot: Slot[T] = Slot(discard)
        self._waiting.append((entry, slot))
        if self._idle is None:
            self._idle = anyio.Event()
            spawn(self._run)
        return slot

    async def drained(self) -> None:
        """Wait until nothing is waiting or on its way."""
        while self._idle is not None:
            await self._idle.wait()

    async def _run(self) -> None:
        try:
            while batch := self._next_batch():
                entries = [entry for entry, _ in batch]
                try:
                    outcomes = await self._send(entries)
                except Exception as exc:
                    outcomes = [exc] * len(batch)
                for (_, slot), outcome in zip(batch, outcomes, strict=True):
                    if isinstance(outcome, Exception):
                        slot.fail(outcome)
                    else:
                        slot.set(outcome)
        finally:
            idle, self._idle = self._idle, None
            if idle is not None:
                idle.set()

    def _next_batch(self) -> list[tuple[Entry, Slot[T]]]:
        batch: list[tuple[Entry, Slot[T]]] = []
        size = 0
        while self._waiting and len(batch) < self._limit and size < self._size_limit:
            entry, slot = self._waiting.popleft()
            if not slot.abandoned:
                batch.append((entry, slot))
                size += self._size(entry)
        return batch
