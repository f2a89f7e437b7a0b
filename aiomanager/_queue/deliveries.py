"""Deliveries: items on lease, and the iterations that hand them out."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from .._ground.errors import ConfigurationError, DecodeError, LeaseLostError, QueueShutDown
from .._wire.items import Header, headers_of
from .inside import inside
from .leases import Lease
from .local import LocalQueue
from .prefetching import Ahead

T = TypeVar("T")
S = TypeVar("S")
S_contra = TypeVar("S_contra", contravariant=True)

logger = logging.getLogger("aiomanager")


class Target(Protocol[S_contra]):
    """A queue that takes such items: an `AsyncQueue` of them, or of more than them."""

    async def put(
        self, item: S_contra, block: bool = True, timeout: float | None = None
    ) -> None: ...


class Delivery(Generic[T]):
    """An item on lease: this process's to work on until it is settled, by `ack` or `nack`.

    A delivery that is never settled goes to somebody else when this process's connection ends.
    As a context manager it acks where the block ends, and nacks where it raises.
    """

    def __init__(self, lease: Lease[T]) -> None:
        self._lease = lease

    def __repr__(self) -> str:
        state = self._lease.settled or "open"
        identity = self._lease.received.handle
        return f"<Delivery {identity} attempt={self.attempt} {state}>"

    @property
    def item(self) -> T:
        """The item. Raises `DecodeError` where this process cannot unpickle it; the delivery is
        still to be settled then."""
        return self._lease.item

    @property
    def headers(self) -> dict[str, Header]:
        """What went along with the item; nothing where it was put without, or came from a client or
        a host of the standard library's."""
        return headers_of(self._lease.received.data)

    @property
    def attempt(self) -> int:
        """How often the item has been handed out, this time included: 1 the first time. On a stock
        host, which does not count, within this process."""
        return self._lease.received.attempt

    @property
    def redelivered(self) -> bool:
        """Whether somebody may have worked on the item before."""
        return self.attempt > 1

    @property
    def settled(self) -> bool:
        """Whether `ack` or `nack` was called."""
        return self._lease.settled is not None

    async def ack(self) -> None:
        """The item is done, and gone.

        Raises:
            LeaseLostError: the lease ended before, so somebody else has the item or has done it;
                nothing was changed.
            ConnectionLostError: the host is away; it will hand the item out again.

        Cancelled, the ack goes to the host all the same.
        """
        await self._lease.settle("ack")

    async def nack(self, *, delay: float = 0.0, unseen: bool = False) -> None:
        """Hand the item out again, before all others, after `delay` seconds.

        Args:
            unseen: nobody has worked on it, so that this time does not count as an attempt. There
                is nothing to wait for then, and no `delay`.

        Raises:
            LeaseLostError: the lease ended before, so it is handed out again already.

        Cancelled, the nack goes to the host all the same.
        """
        if not 0 <= delay < float("inf"):
            raise ConfigurationError(f"delay is {delay!r}; give seconds from 0 on")
        if unseen and delay:
            raise ConfigurationError("an item that nobody has seen is handed out without a delay")
        await self._lease.settle("return" if unseen else "nack", delay)

    async def move(self, target: Target[S], item: S) -> None:
        """Put `item` in another queue, with the headers of this one, and ack this one: in one step
        where one host of ours has both, else the put first, so that no crash leaves the item in
        neither.

        Args:
            target: an `AsyncQueue`.

        Raises:
            LeaseLostError: the lease ended before; nothing was changed where one host has both.

        Cancelled, the move goes on.
        """
        await move(self._lease, target, item)

    @property
    def data(self) -> bytes:
        """The item as it travelled, for where `item` cannot be had."""
        return self._lease.received.frame()

    async def __aenter__(self) -> Delivery[T]:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is not None:
            self._lease.settle_soon("nack")
        elif self._lease.settled is None:
            await self.ack()


async def move(lease: Lease[Any], target: Target[S], item: S) -> None:
    """`Delivery.move` for a lease."""
    queue: Any = target  # the protocol has no more than the checker needs
    local = inside(queue).here()
    headers = headers_of(lease.received.data) if local.engine.promises.headers else None
    await lease.move(local, local.encode(item, headers))


class _Leases(Generic[T]):
    """The leases that an iteration is given, until a sentinel comes or the queue is shut down."""

    def __init__(self, queue: LocalQueue[T], sentinel: object, prefetch: int = 1) -> None:
        self._ahead: Ahead[Lease[T]] = Ahead(queue, prefetch)
        self._sentinel = sentinel
        self._ended = False

    async def next(self) -> Lease[T]:
        """Wait for the next, StopAsyncIteration where there is none. Cancelled, it has received
        nothing."""
        if self._ended:
            raise StopAsyncIteration
        try:
            lease = await self._ahead.next()
        except QueueShutDown:
            self._ended = True
            raise StopAsyncIteration from None
        if not lease.is_sentinel(self._sentinel):
            return lease
        self._ended = True
        self._ahead.hand_back()
        with contextlib.suppress(LeaseLostError):  # it will end somebody else's iteration
            await lease.settle("ack")
        raise StopAsyncIteration

    def __del__(self) -> None:
        # The loop was left. This may run on any thread, at any moment.
        self._ahead.leave_behind()


class Deliveries(AsyncIterator[Delivery[T]]):
    """Iterates over deliveries until a sentinel comes or the queue is shut down."""

    def __init__(self, queue: LocalQueue[T], sentinel: object) -> None:
        self._leases = _Leases(queue, sentinel)

    async def __anext__(self) -> Delivery[T]:
        """Wait for the next delivery. Cancelled, it has received nothing."""
        return Delivery(await self._leases.next())


class Items(AsyncIterator[T]):
    """Iterates over items: each is done when the next is asked for, and handed out again where
    the loop ended before that."""

    def __init__(self, queue: LocalQueue[T], sentinel: object, prefetch: int) -> None:
        self._queue = queue
        self._leases = _Leases(queue, sentinel, prefetch)
        self._current: Lease[T] | None = None

    async def __anext__(self) -> T:
        """Mark the item before as done, and wait for the next. Cancelled, it has received
        nothing, and the item before is done all the same."""
        current, self._current = self._current, None
        settling = None if current is None else current.settle_soon("ack")
        if settling is not None:
            settling.map(_warn_of_lost_lease, _warn_of_lost_host)
        try:
            lease = await self._leases.next()
        except StopAsyncIteration:
            if settling is not None:
                await settling.wait()
            self._queue.forget()
            raise
        try:
            item = lease.item
        except DecodeError:
            lease.settle_soon("reject")
            raise
        self._current = lease
        self._queue.remember(lease)
        return item

    def __del__(self) -> None:
        # As that of `_Leases`.
        if self._current is not None:
            self._current.leave_behind("nack")


def _warn_of_lost_lease(acked: bool) -> bool:
    if not acked:
        logger.warning(
            "an item took longer than its lease: it was handed out again, and may be processed "
            "twice"
        )
    return acked


def _warn_of_lost_host(error: Exception) -> Exception:
    logger.warning("an item was done, but its host is away and may hand it out again: %s", error)
    return error
