"""`AsyncQueue`: what a user holds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from weakref import WeakValueDictionary

import anyio

from ._ahead import PREFETCH
from ._batches import Batcher
from ._delivery import Deliveries, Delivery, Items
from ._errors import ConfigurationError, DecodeError, EncodeError, QueueEmpty, QueueFull
from ._frames import encode
from ._inbox import Inbox
from ._outbox import BATCH_ITEMS, Outbox, first_batch, full
from ._slots import Slot, begin, finish
from ._tasks import current_task_id
from .engines.base import Action, QueueEngine, Received, Settlement

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class QueueStatistics:
    """A queue at one moment, as its host counts. A stock host knows `qsize` alone; the other
    counts are None there.

    Attributes:
        qsize: items that wait, delayed ones included.
        maxsize: how many may wait; 0 for any number.
        unfinished: items that `join` waits for.
        leased: items handed out and not settled.
        delayed: items that wait for the delay of a nack to end.
        waiting_getters, waiting_putters: items that are being waited for, and that wait for room.
        puts, deliveries, redeliveries, done: since the queue came into being.
        is_shutdown: whether it was shut down.
    """

    qsize: int
    maxsize: int | None = None
    unfinished: int | None = None
    leased: int | None = None
    delayed: int | None = None
    waiting_getters: int | None = None
    waiting_putters: int | None = None
    puts: int | None = None
    deliveries: int | None = None
    redeliveries: int | None = None
    done: int | None = None
    is_shutdown: bool | None = None


class AsyncQueue(Generic[T]):
    """A queue that other processes share, with the names and meanings of `queue.Queue`.

    Got from `AsyncManager.queue` or `wrap`. Any number of tasks of one event loop may use it at
    once; waiting costs none of them a thread. All times are seconds, and `timeout=None` waits for
    ever. Every method raises `ConnectionLostError` where the host is away for longer than the
    manager's `reconnect`.
    """

    def __init__(
        self,
        engine: QueueEngine,
        name: str,
        sentinel: object = None,
        prefetch: int = PREFETCH,
    ) -> None:
        if prefetch < 1:
            raise ConfigurationError(f"prefetch is {prefetch!r}; give 1 or more")
        self.name = name
        self._engine = engine
        self.sentinel = sentinel
        self.prefetch = prefetch
        self._outbox = Outbox(engine)
        self._inbox = Inbox(engine)
        self._settlements: Batcher[Settlement, bool] = Batcher(engine.settle)
        # Settlements of several steps; one at a time, as the engine wants moves.
        self._steps: Batcher[Callable[[], Awaitable[bool]], bool] = Batcher(_run, limit=1)
        self._done: Batcher[None, None] = Batcher(self._send_task_done)
        # Weak, as an iteration that was left has to end and hand its item back.
        self._iterations: WeakValueDictionary[int, Items[T]] = WeakValueDictionary()

    def __repr__(self) -> str:
        return f"<AsyncQueue {self.name!r}>"

    # -- putting ------------------------------------------------------------------------------

    async def put(self, item: T, block: bool = True, timeout: float | None = None) -> None:
        """Put an item, waiting for room where the queue is bounded and full.

        Raises:
            QueueFull: no room within `timeout`, or at once where `block` is false.
            QueueShutDown: the queue was shut down.
            EncodeError: the item cannot be pickled, or is larger than the host takes; nothing
                was sent.
            ConnectionLostError: the host went away. On a stock host `outcome_known` is False where
                the item may have been put; a host of ours enqueues it once, however often it had
                to be sent.

        Cancelled, the item was put or was not: it was not where it had not left yet, or waited
        for room; it may have been where it was on its way.
        """
        await self._outbox.put([self._encode(item)], _timeout(block, timeout))

    async def put_nowait(self, item: T) -> None:
        """`put(item, block=False)`."""
        await self.put(item, False)

    async def put_many(self, items: Iterable[T], timeout: float | None = None) -> None:
        """Put items in order, in few messages; as `put` for each, with one timeout for all.

        Raises `QueueFull` with the number that was put as `accepted`. All items are pickled before
        the first is sent.
        """
        frames = [self._encode(item) for item in items]
        timeout = _timeout(True, timeout)
        deadline = None if timeout is None else anyio.current_time() + timeout
        start = 0
        while batch := first_batch(frames[start : start + BATCH_ITEMS]):
            left = None if deadline is None else max(0.0, deadline - anyio.current_time())
            try:
                await self._outbox.put(batch, left)
            except QueueFull as exc:
                raise full(len(frames), start + exc.accepted) from None
            start += len(batch)

    # -- getting ------------------------------------------------------------------------------

    async def get(self, block: bool = True, timeout: float | None = None) -> T:
        """Take an item. It is the caller's from then on; call `task_done` when it is done.

        Raises:
            QueueEmpty: none within `timeout`, or at once where `block` is false.
            QueueShutDown: the queue was shut down, and nothing is left in it.
            DecodeError: the next item cannot be unpickled in this process; it is in the queue
                again.

        Cancelled, it has taken nothing: an item that was on its way is in the queue again, at its
        head on a host of ours.
        """
        return (await self._take(1, _timeout(block, timeout)))[0]

    async def get_nowait(self) -> T:
        """`get(block=False)`."""
        return await self.get(False)

    async def get_many(self, count: int, timeout: float | None = None) -> list[T]:
        """Take up to `count` items, as soon as there is at least one; as `get` otherwise."""
        if count < 1:
            raise ConfigurationError(f"count is {count!r}; give 1 or more")
        return await self._take(count, _timeout(True, timeout))

    async def _take(self, count: int, timeout: float | None) -> list[T]:
        taken = await self._inbox.receive(count, timeout, take=True)
        if not taken:
            raise QueueEmpty("the queue is empty")
        items: list[T] = []
        try:
            for received in taken:
                items.append(received.load())
                if received.counted is not None:  # seldom; and this is run for each item
                    await received.until_counted()
        except DecodeError:
            # Whoever comes next meets the error, as this one does where it is the first of all.
            returns = [
                self._inbox.hand_back(received, "restore") for received in taken[len(items) :]
            ]
            if not items:
                for slot in returns:
                    await slot.wait()
                raise
        except BaseException:
            for received in taken:
                self._inbox.hand_back(received, "restore")
            raise
        return items

    # -- working ------------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[T]:
        """Iterate over items until a sentinel comes or the queue is shut down. An item counts as
        done when the next is asked for; a loop that is left before that, by a break, an exception
        or the end of the process, hands it out again (`task_done` before a break says that it was
        done)."""
        return Items(self, self.sentinel, self.prefetch)

    def deliveries(self, *, sentinel: Any = ...) -> Deliveries[T]:
        """Iterate over deliveries, which the caller settles, until a sentinel comes or the queue
        is shut down.

        Args:
            sentinel: the item that ends the iteration, `NO_SENTINEL` for none; left out, that of
                the queue, which is None unless told otherwise.
        """
        sentinel = self.sentinel if sentinel is ... else sentinel
        return Deliveries(self, sentinel)

    async def get_deliveries(self, count: int, timeout: float | None = None) -> list[Delivery[T]]:
        """Lease up to `count` items, as soon as there is at least one, sentinels included; as
        `get_many`, but each stays the queue's until the caller settles it."""
        if count < 1:
            raise ConfigurationError(f"count is {count!r}; give 1 or more")
        timeout = _timeout(True, timeout)
        while True:
            leased = await self._inbox.receive(count, timeout, take=False)
            if leased:
                return [Delivery(self, received) for received in leased]
            if timeout is not None:
                raise QueueEmpty("the queue is empty")

    async def task_done(self) -> None:
        """Say that an item is done: the current one of an iteration in this task, else one that
        was taken with `get`.

        Raises ValueError where no item is out. Cancelled, it is sent all the same.
        """
        iteration = self._iterations.get(current_task_id())
        settling = iteration.done_soon() if iteration is not None else None
        if settling is not None:
            await settling.wait()
        else:
            await self._done.submit_soon(None).wait()

    async def join(self) -> None:
        """Wait until every item that was put is done. Cancelled, it has changed nothing."""
        await self._engine.join()

    # -- looking ------------------------------------------------------------------------------

    async def qsize(self) -> int:
        """How many items wait, leased ones not counted."""
        return await finish(lambda: self._engine.ask("qsize"))

    async def empty(self) -> bool:
        """Whether no item waits."""
        return await finish(lambda: self._engine.ask("empty"))

    async def full(self) -> bool:
        """Whether a put would have to wait."""
        return await finish(lambda: self._engine.ask("full"))

    async def maxsize(self) -> int:
        """How many items may wait; 0 for any number. A stock host does not tell:
        `ConfigurationError`."""
        return await finish(lambda: self._engine.ask("maxsize"))

    async def statistics(self) -> QueueStatistics:
        """What the host counts."""
        return QueueStatistics(**await finish(self._engine.statistics))

    async def shutdown(self, immediate: bool = False) -> None:
        """End every producer and consumer in every process: puts raise `QueueShutDown` from now
        on, gets when the last item is out, or now if `immediate`, which drops what waits.

        A stock host can do that from Python 3.13 on; `ConfigurationError` otherwise.
        """
        await finish(lambda: self._engine.shutdown(immediate))

    async def aclose(self) -> None:
        """Send what is on its way, and give back what this process holds for nobody. The queue
        itself goes on; a manager does this for its queues when it closes."""
        await finish(self._close)

    async def _close(self) -> None:
        await self._outbox.drained()
        await self._steps.drained()
        await self._settlements.drained()
        await self._done.drained()
        await self._inbox.drained()
        await self._engine.aclose()

    def _encode(self, item: object) -> bytes:
        frame = encode(item, self._engine.pickle_protocol)
        limit = self._engine.frame_limit
        if limit is not None and len(frame) > limit:
            raise EncodeError(
                f"this {type(item).__name__} has {len(frame)} bytes when it is pickled, and the "
                f"host takes {limit} at most; put a reference to it, or raise the host's "
                "message_limit"
            )
        return frame

    # -- for deliveries -----------------------------------------------------------------------

    @property
    def lease_holder(self) -> object:
        """What leases hang on: they have ended where it is another. None where a host has none."""
        return self._engine.lease_holder

    def settle_soon(self, received: Received, action: Action, delay: float) -> Slot[bool]:
        """Send a settlement; the slot holds whether the lease was still there."""
        if action == "nack" or action == "return":  # noqa: PLR1714 - narrows the type
            return self._inbox.hand_back(received, action, delay)
        settlement = (received.delivery_id, action, delay)
        if received.counted is None:
            return self._settlements.submit_soon(settlement)

        async def work() -> bool:
            await received.until_counted()
            return await self._settlements.submit(settlement)

        return self._steps.submit_soon(work)

    async def move(self, received: Received, target: AsyncQueue[Any], item: object) -> bool:
        """Put an item in another queue and ack this one; whether the lease was still there. One
        step where one host of ours has both queues; else the put comes first, so that a crash in
        between leaves the item in both rather than in neither."""
        frame = target._encode(item)

        async def work() -> bool:
            await received.until_counted()
            if self._engine.host is target._engine.host is not None:
                return await self._engine.move(received.delivery_id, target.name, frame)
            await target._outbox.put([frame], None)
            acked = self._engine.settle([(received.delivery_id, "ack", 0.0)], "move")
            return (await acked.wait())[0]

        return await self._steps.submit(work)

    def remember_iteration(self, iteration: Items[T]) -> None:
        self._iterations[current_task_id()] = iteration

    def forget_iteration(self, iteration: Items[T]) -> None:
        self._iterations.pop(current_task_id(), None)

    def _send_task_done(self, entries: Sequence[None]) -> Slot[Sequence[Exception | None]]:
        return begin(lambda: self._count_done(entries))

    async def _count_done(self, entries: Sequence[None]) -> Sequence[Exception | None]:
        done = await self._engine.task_done(len(entries))
        too_many = ValueError("task_done() called too many times")
        return [None] * done + [too_many] * (len(entries) - done)


def _run(works: Sequence[Callable[[], Awaitable[bool]]]) -> Slot[list[bool]]:
    return begin(works[0]).map(lambda moved: [moved])


def _timeout(block: bool, timeout: float | None) -> float | None:
    if not block:
        return 0.0
    if timeout is not None and not timeout >= 0:
        raise ValueError("'timeout' must be a non-negative number")
    return timeout
