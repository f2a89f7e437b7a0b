"""Many calls in one message: what waits is sent while the batch before is on its way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import Any, Generic, TypeVar

import anyio

from .._ground.errors import unanswered
from .event_loop import call_later, call_soon
from .futures import Future, attempt, replica

T = TypeVar("T")
Entry = TypeVar("Entry")

# So many of those who gather need not wait for the rest: while their batch is on its way, the event
# loop has the rest to work on. With fewer, a message more costs what that brings, and a fifth of
# the time where the host has no processor to itself.
MANY = 256


class Submitted(Future[T]):
    """An entry of a batch, and the place for its outcome.

    Attributes:
        began: when it was submitted.
        sent: it has left, so whether it has happened may be unknown.
    """

    __slots__ = ("began", "entry", "sent")
    began: float
    entry: Any
    sent: bool


class Batcher(Generic[Entry, T]):
    """Entries that wait are sent as one batch while the batch before is on its way.

    Batching rule:

    1. Idle: an entry is sent at once.
    2. After a batch of n > 1: one turn of the event loop is waited, so that the tasks which its
       outcomes have just woken join the next batch. Else the first of them would leave alone, and
       all others would wait for it.
    3. If max(MANY, n/2) entries are there before that turn is over, they are sent now: one half is
       on its way while the other works on what it has got.

    One batch at a time is under way, so entries arrive in the order in which they were submitted.

    Args:
        send: starts to send a batch; the outcome is one for each entry, in order, a `Failure` for
            an entry that failed. Where the batch as a whole fails, each entry has an error of its
            own.
        limit: entries that go in one batch at most.
        size: bytes of an entry; a batch ends with the entry that takes it over `size_limit`.
        revocable: an entry whose submitter has left before its batch has is not sent.
        patience: seconds after which an entry fails, whatever has become of the batches before it;
            None for never. Its batch goes on, and what comes of it goes to `discard`.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Entry]], Future[Any]],
        *,
        limit: int = 1024,
        size: Callable[[Entry], int] | None = None,
        size_limit: int = 1024 * 1024,
        revocable: bool = False,
        patience: float | None = None,
    ) -> None:
        self._send = send
        self._limit = limit
        self._size = size
        self._size_limit = size_limit
        self._revocable = revocable
        self._patience = patience
        self._watched = patience is None  # somebody looks for entries whose time is up
        self._waiting: deque[Submitted[T]] = deque()
        self._under_way: Sequence[Submitted[T]] = ()
        self._busy = False  # a batch is on its way, or is gathering
        self._gathering = False
        self._enough = 1  # entries that leave without gathering more
        self._idle: anyio.Event | None = None  # there while somebody waits for the end

    async def submit(self, entry: Entry, discard: Callable[[T], object] | None = None) -> T:
        """Send an entry and return its outcome. Cancelled, its outcome goes to `discard`."""
        return await self.submit_soon(entry, discard).wait()

    def submit_soon(
        self, entry: Entry, discard: Callable[[T], object] | None = None
    ) -> Submitted[T]:
        """The same without waiting; entries leave in the order of these calls."""
        submitted: Submitted[T] = Submitted(discard)
        submitted.entry = entry
        submitted.sent = False
        submitted.began = monotonic()
        self._waiting.append(submitted)
        if not self._watched:
            self._watched = True
            call_later(self._patience or 0.0, self._look_at_the_time)
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
        # In a loop and not by recursion: where a manager was closed, each batch fails at once.
        while batch := self._next_batch():
            self._enough = max(MANY, len(batch) // 2) if len(batch) > 1 else 1
            self._under_way = batch
            entries = [submitted.entry for submitted in batch]
            sending = attempt(partial(self._send, entries))
            if not sending.filled:
                sending.add_done_callback(self._sent)
                return
            self._distribute(sending)
            if 0 < len(self._waiting) < self._enough:
                self._flush_soon()
                return
        self._rest()

    def _rest(self) -> None:
        self._busy = False
        if self._idle is not None:
            self._idle.set()
            self._idle = None

    def _sent(self, sending: Future[Any]) -> None:
        self._distribute(sending)
        if self._waiting:
            self._flush_soon()
        else:
            self._rest()

    def _distribute(self, sending: Future[Any]) -> None:
        batch, self._under_way = self._under_way, ()
        error = sending.error
        if error is None:
            for submitted, outcome in zip(batch, sending.value, strict=True):
                submitted.set_outcome(outcome)
            return
        for submitted in batch:
            submitted.set_exception(replica(error))
        while sending.behind is not None and self._waiting:
            # The host was given up while these waited as well.
            self._waiting.popleft().set_exception(replica(sending.behind))

    def _next_batch(self) -> list[Submitted[T]]:
        batch: list[Submitted[T]] = []
        size = 0
        while self._waiting and len(batch) < self._limit and size < self._size_limit:
            submitted = self._waiting.popleft()
            if not (self._revocable and submitted.abandoned) and not submitted.filled:
                submitted.sent = True
                batch.append(submitted)
                if self._waiting and self._size is not None:
                    size += self._size(submitted.entry)
        return batch

    def _look_at_the_time(self) -> None:
        """Give up those who have waited too long, and look again when the next would have."""
        assert self._patience is not None
        over = monotonic() - self._patience
        for submitted in self._under_way:
            if submitted.began <= over and not submitted.filled:
                submitted.set_exception(unanswered(self._patience, sent=True))
        while self._waiting and self._waiting[0].began <= over:
            self._waiting.popleft().set_exception(unanswered(self._patience, sent=False))
        pending = [one.began for one in self._under_way if not one.filled]
        pending += [one.began for one in self._waiting]
        self._watched = bool(pending)
        if pending:
            call_later(min(pending) - over, self._look_at_the_time)
