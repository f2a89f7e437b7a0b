"""Deliveries: items on lease, and the iterations that hand them out."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Generic, Literal, Protocol, TypeVar

from .._concurrency.futures import Future
from .._ground.errors import ConfigurationError, DecodeError, LeaseLostError, QueueShutDown
from ..engines.base import Action, Received
from .prefetching import Ahead

T = TypeVar("T")

logger = logging.getLogger("aiomanager")


class _NoSentinel:
    __module__ = "aiomanager"  # it travels

    def __repr__(self) -> str:
        return "NO_SENTINEL"

    def __reduce__(self) -> str:
        return "NO_SENTINEL"  # the same object in each process


NO_SENTINEL: Any = _NoSentinel()
"""Given as `sentinel`, no item ends an iteration."""


def is_sentinel(item: object, sentinel: object) -> bool:
    """Whether an item is the one that ends an iteration. Other types are never compared, as their
    `==` may do anything. An item that cannot be compared, as an array cannot, is another one: it is
    the loop's, and the loop goes on."""
    try:
        return item is sentinel or (type(item) is type(sentinel) and bool(item == sentinel))
    except Exception:
        return False


class Lessor(Protocol[T]):
    """What deliveries and iterations need of their queue."""

    def check_loop(self) -> None: ...
    async def get_deliveries(self, count: int) -> list[Delivery[T]]: ...
    @property
    def lease_holder(self) -> object: ...
    def settle_soon(self, received: Received, action: Action, delay: float) -> Future[bool]: ...
    def leave_behind(self, received: Received, how: Literal["nack", "return"]) -> None: ...
    async def move(self, received: Received, target: Any, frame: bytes) -> bool: ...
    def remember_iteration(self, iteration: Items[T]) -> None: ...
    def forget_iteration(self) -> None: ...


class Delivery(Generic[T]):
    """An item on lease: this process's to work on until it is settled, by `ack` or `nack`.

    A delivery that is never settled goes to somebody else when this process's connection ends.
    As a context manager it acks where the block ends, and nacks where it raises.
    """

    def __init__(self, queue: Lessor[T], received: Received) -> None:
        self._queue = queue
        self._received = received
        self._settled: str | None = None
        self._item: Any = NO_SENTINEL

    def __repr__(self) -> str:
        state = self._settled or "open"
        return f"<Delivery {self._received.delivery_id} attempt={self.attempt} {state}>"

    @property
    def item(self) -> T:
        """The item. Raises `DecodeError` where this process cannot unpickle it; the delivery is
        still to be settled then."""
        if self._item is NO_SENTINEL:
            self._item = self._received.load()
        return self._item  # type: ignore[no-any-return]

    @property
    def attempt(self) -> int:
        """How often the item has been handed out, this time included: 1 the first time. On a stock
        host, which does not count, within this process."""
        return self._received.attempt

    @property
    def redelivered(self) -> bool:
        """Whether somebody may have worked on the item before."""
        return self.attempt > 1

    @property
    def settled(self) -> bool:
        """Whether `ack` or `nack` was called."""
        return self._settled is not None

    async def ack(self) -> None:
        """The item is done, and gone.

        Raises:
            LeaseLostError: the lease ended before, so somebody else has the item or has done it;
                nothing was changed.
            ConnectionLostError: the host is away; it will hand the item out again.

        Cancelled, the ack goes to the host all the same.
        """
        await self._settle("ack", 0.0)

    async def nack(self, *, delay: float = 0.0) -> None:
        """Hand the item out again, before all others, after `delay` seconds.

        Raises:
            LeaseLostError: the lease ended before, so it is handed out again already.

        Cancelled, the nack goes to the host all the same.
        """
        if not 0 <= delay < float("inf"):
            raise ConfigurationError(f"delay is {delay!r}; give seconds from 0 on")
        await self._settle("nack", delay)

    async def move(self, target: Any, item: object) -> None:
        """Put `item` in another queue and ack this one: in one step where one host of ours has
        both, else the put first, so that no crash leaves the item in neither.

        Raises:
            LeaseLostError: the lease ended before; nothing was changed where one host has both.

        Cancelled, the move goes on.
        """
        frame = target.encode(item)
        self._begin("move")
        try:
            moved = await self._queue.move(self._received, target.local, frame)
        except Exception:
            self._settled = None  # it was not moved, so there is something to settle still
            raise
        if not moved:
            raise lost_lease()

    @property
    def data(self) -> bytes:
        """The item as it travelled, for where `item` cannot be had."""
        return self._received.frame()

    def settle_soon(self, action: Action) -> Future[bool] | None:
        """Settle without waiting for it, if that has not happened: for where nothing can be
        awaited, since the task is being cancelled."""
        if self._settled is not None:
            return None
        self._settled = action
        return self._queue.settle_soon(self._received, action, 0.0)

    def leave_behind(self, how: Literal["nack", "return"]) -> None:
        """`settle_soon` for finalizers, which run on any thread: the event loop does it."""
        if self._settled is None:
            self._settled = how
            self._queue.leave_behind(self._received, how)

    async def __aenter__(self) -> Delivery[T]:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is not None:
            self.settle_soon("nack")
        elif self._settled is None:
            await self.ack()

    async def _settle(self, action: Action, delay: float) -> None:
        self._begin(action)
        if not await self._queue.settle_soon(self._received, action, delay).wait():
            raise lost_lease()

    def _begin(self, what: str) -> None:
        self._queue.check_loop()
        if self._settled is not None:
            raise ConfigurationError(f"this delivery has been settled already, by {self._settled}")
        self._settled = what


def lost_lease() -> LeaseLostError:
    """The error of what was settled too late."""
    return LeaseLostError(
        "the lease of this item has ended: its connection was lost or its lease_timeout was over, "
        "and the item was handed out again"
    )


class Deliveries(AsyncIterator[Delivery[T]]):
    """Iterates over deliveries until a sentinel comes or the queue is shut down."""

    def __init__(self, queue: Lessor[T], sentinel: object, prefetch: int = 1) -> None:
        self._ahead: Ahead[Delivery[T]] = Ahead(queue, prefetch)
        self._sentinel = sentinel
        self._ended = False

    async def __anext__(self) -> Delivery[T]:
        """Wait for the next delivery. Cancelled, it has received nothing."""
        if self._ended:
            raise StopAsyncIteration
        try:
            delivery = await self._ahead.next()
        except QueueShutDown:
            self._ended = True
            raise StopAsyncIteration from None
        if not self._is_sentinel(delivery):
            return delivery
        self._ended = True
        self._ahead.hand_back()
        with contextlib.suppress(LeaseLostError):  # it will end somebody else's iteration
            await delivery.ack()
        raise StopAsyncIteration

    def __del__(self) -> None:
        # The loop was left. This may run on any thread, at any moment.
        self._ahead.leave_behind()

    def _is_sentinel(self, delivery: Delivery[T]) -> bool:
        if self._sentinel is NO_SENTINEL:
            return False
        try:
            return is_sentinel(delivery.item, self._sentinel)
        except DecodeError:
            return False  # whoever looks at the item meets the error


class Items(AsyncIterator[T]):
    """Iterates over items: each is done when the next is asked for, and handed out again where
    the loop ended before that."""

    def __init__(self, queue: Lessor[T], sentinel: object, prefetch: int) -> None:
        self._queue = queue
        self._deliveries = Deliveries(queue, sentinel, prefetch)
        self._current: Delivery[T] | None = None

    async def __anext__(self) -> T:
        """Mark the item before as done, and wait for the next. Cancelled, it has received
        nothing, and the item before is done all the same."""
        settling = self.done_soon()
        if settling is not None:
            settling.map(_warn_of_lost_lease, _warn_of_lost_host)
        try:
            delivery = await self._deliveries.__anext__()
        except StopAsyncIteration:
            if settling is not None:
                await settling.wait()
            self._queue.forget_iteration()
            raise
        try:
            item = delivery.item
        except DecodeError:
            delivery.settle_soon("reject")
            raise
        self._current = delivery
        self._queue.remember_iteration(self)
        return item

    def done_soon(self) -> Future[bool] | None:
        """Mark the current item as done, if there is one that is not."""
        current, self._current = self._current, None
        return current.settle_soon("ack") if current is not None else None

    def __del__(self) -> None:
        # As that of `Deliveries`.
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
