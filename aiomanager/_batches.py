"""Many calls in one message: what waits is sent while the batch before is on its way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import anyio

from ._slots import Slot, attempt
from ._tasks import call_soon

T = TypeVar("T")
Entry = TypeVar("Entry")

# So many of those who gather need not wait for the rest: while their batch is on its way, the event
# loop has the rest to work on.
MANY = 32


class _Submitted(Slot[T]):
    """An entry of a batch, and the place for its outcome."""

    __slots__ = ("entry",)
    entry: Any


class Batcher(Generic[Entry, T]):
    """Sends what waits as one batch while the batch before is on its way.

    An entry that comes alone leaves at once. After a batch of several, those whom its outcomes
    wake have a turn of the event loop in which to come along: else the first of them would leave
    alone, and all others wait for it. Where they are many, half of them leave sooner, and one half
    is on its way while the other works on what it has got.

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
        self._busy = False  # a batch is on its way, or is gathering
        self._gathering = False
        self._enough = 1  # entries that leave without gathering more
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
        elif self._gathering and len(self._waiting) >= self._enough:
            self._flush()
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
        if len(self._waiting) >= self._enough:
            self._flush()
        else:
            self._gathering = True
            call_soon(self._gathered)

    def _gathered(self) -> None:
        if self._gathering:  # it may have left meanwhile
            self._flush()

    def _flush(self) -> None:
        self._gathering = False
        batch = self._next_batch()
        if batch:
            self._enough = max(MANY, len(batch) // 2) if len(batch) > 1 else 1
            entries = [submitted.entry for submitted in batch]
            attempt(lambda: self._send(entries)).then(partial(self._sent, batch))
        else:
            self._rest()

    def _rest(self) -> None:
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
            self._rest()

    def _next_batch(self) -> list[_Submitted[T]]:
        batch: list[_Submitted[T]] = []
        size = 0
        while self._waiting and len(batch) < self._limit and size < self._size_limit:
            submitted = self._waiting.popleft()
            if not (self._revocable and submitted.abandoned):
                batch.append(submitted)
                if self._waiting and self._size is not None:
                    size += self._size(submitted.entry)
        return batch
