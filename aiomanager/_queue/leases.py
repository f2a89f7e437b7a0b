"""Leases: items that are this process's to work on, until it says what became of them."""

from __future__ import annotations

from typing import Any, Final, Generic, Literal, Protocol, TypeVar

from .._concurrency.futures import Future
from .._ground.errors import ConfigurationError, DecodeError, LeaseLostError
from ..engines.base import Action, Received

T = TypeVar("T")


class NoSentinel:
    """The type of `NO_SENTINEL`."""

    __module__ = "aiomanager"  # it travels

    def __repr__(self) -> str:
        return "NO_SENTINEL"

    def __reduce__(self) -> str:
        return "NO_SENTINEL"  # the same object in each process


NO_SENTINEL: Final = NoSentinel()
"""Given as `sentinel`, no item ends an iteration."""


def is_sentinel(item: object, sentinel: object) -> bool:
    """Whether an item is the one that ends an iteration. Other types are never compared, as their
    `==` may do anything. An item that cannot be compared, as an array cannot, is another one: it is
    the loop's, and the loop goes on."""
    try:
        return item is sentinel or (type(item) is type(sentinel) and bool(item == sentinel))
    except Exception:
        return False


class Lessor(Protocol):
    """The queue, as its leases need it: a `LocalQueue`."""

    def check_loop(self) -> None: ...
    def load(self, received: Received) -> Any: ...
    def settle_soon(self, received: Received, action: Action, delay: float) -> Future[bool]: ...
    def leave_behind(self, received: Received, how: Literal["nack", "return"]) -> None: ...
    async def move(self, received: Received, target: Any, frame: bytes) -> bool: ...


class Lease(Generic[T]):
    """An item that was handed out and is to be settled: what a `Delivery` shows to users, and
    iterations and `consume` work with."""

    def __init__(self, queue: Lessor, received: Received) -> None:
        self._queue = queue
        self.received = received
        self.settled: str | None = None  # by what
        self._item: Any = NO_SENTINEL

    @property
    def item(self) -> T:
        """The item. Raises `DecodeError` where this process cannot unpickle it."""
        if self._item is NO_SENTINEL:
            self._item = self._queue.load(self.received)
        return self._item  # type: ignore[no-any-return]

    def is_sentinel(self, sentinel: object) -> bool:
        """Whether the item ends an iteration that ends at `sentinel`."""
        if sentinel is NO_SENTINEL:
            return False
        try:
            return is_sentinel(self.item, sentinel)
        except DecodeError:
            return False  # whoever looks at the item meets the error

    async def settle(self, action: Action, delay: float = 0.0) -> None:
        """Settle, and wait until the host has been told. Cancelled, it is told all the same.

        Raises:
            LeaseLostError: the lease ended before.
            ConfigurationError: it was settled already, or belongs to another event loop.
        """
        self._begin(action)
        if not await self._queue.settle_soon(self.received, action, delay).wait():
            raise lost_lease()

    async def move(self, target: object, frame: bytes) -> None:
        """Put a frame in another queue, a `LocalQueue`, and ack this item; as `settle`."""
        self._begin("move")
        try:
            moved = await self._queue.move(self.received, target, frame)
        except Exception:
            self.settled = None  # it was not moved, so there is something to settle still
            raise
        if not moved:
            raise lost_lease()

    def settle_soon(self, action: Action) -> Future[bool] | None:
        """Settle without waiting for it, if that has not happened: for where nothing can be
        awaited, since the task is being cancelled."""
        if self.settled is not None:
            return None
        self.settled = action
        return self._queue.settle_soon(self.received, action, 0.0)

    def leave_behind(self, how: Literal["nack", "return"]) -> None:
        """`settle_soon` for finalizers, which run on any thread: the event loop does it."""
        if self.settled is None:
            self.settled = how
            self._queue.leave_behind(self.received, how)

    def _begin(self, what: str) -> None:
        self._queue.check_loop()
        if self.settled is not None:
            raise ConfigurationError(f"this delivery has been settled already, by {self.settled}")
        self.settled = what


def lost_lease() -> LeaseLostError:
    """The error of what was settled too late."""
    return LeaseLostError(
        "the lease of this item has ended: its connection was lost or its lease_timeout was over, "
        "and the item was handed out again"
    )
