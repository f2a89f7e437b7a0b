"""A queue as one event loop of one process uses it: what it sends, what it waits for, what it
holds. Another loop has one of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary, ref

from .._concurrency.batching import Batcher
from .._concurrency.event_loop import current_loop, current_task
from .._concurrency.futures import Failure, Future, start_detached
from .._ground.errors import ConfigurationError, EncodeError, QueueEmpty
from .._wire.items import Headers, put_on, taken_off
from ..engines.base import Action, QueueEngine, Received, Settlement
from .codec import Codec
from .fetcher import Fetcher, Return
from .leases import Lease, lost_lease
from .sender import Sender

T = TypeVar("T")


class LocalQueue(Generic[T]):
    """The parts of a queue that live on an event loop.

    Args:
        engine: the queue at its host, for this loop.
        name: its name at the host.
        codec: what items are, as bytes.
    """

    def __init__(self, engine: QueueEngine, name: str, codec: Codec) -> None:
        self.engine = engine
        self.name = name
        self._codec = codec
        self.sender = Sender(engine)
        self.fetcher = Fetcher(engine)
        self._loop = ref(current_loop())
        self._settlements: Batcher[Settlement, bool] = Batcher(
            engine.settle, patience=engine.patience
        )
        # Settlements of several steps; one at a time, as the engine wants moves.
        self._steps: Batcher[Callable[[], Awaitable[bool]], bool] = Batcher(_run, limit=1)
        self._done: Batcher[None, None] = Batcher(self._send_task_done, patience=engine.patience)
        # What an iteration has handed out last, by the task that iterates. Weak, as an iteration
        # that was left has to hand its item back, and as a task that has ended iterates no more.
        self._current: WeakKeyDictionary[Any, ref[Lease[T]]] = WeakKeyDictionary()

    async def aclose(self) -> None:
        """Send what is on its way, and give back what is held here for nobody."""
        await self.sender.drained()
        await self._steps.drained()
        await self._settlements.drained()
        await self._done.drained()
        await self.fetcher.drained()
        await self.engine.aclose()

    # -- items --------------------------------------------------------------------------------

    def encode(self, item: object, headers: Headers | None = None) -> bytes:
        """An item as it travels.

        Raises:
            EncodeError: it cannot be pickled, or is larger than the host takes.
            ConfigurationError: the headers are none, or the host has no headers.
        """
        frame = self._codec.encode(item, self.engine.pickle_protocol)
        if headers:
            if not self.engine.promises.headers:
                raise ConfigurationError(
                    f"the host of queue {self.name!r} is one of the standard library's, which has "
                    "no headers: put what they say into the item"
                )
            frame = put_on(frame, headers)
        limit = self.engine.frame_limit
        if limit is not None and len(frame) > limit:
            raise EncodeError(
                f"this {type(item).__name__} has {len(frame)} bytes when it is pickled, and the "
                f"host takes {limit} at most; put a reference to it, or raise the host's "
                "message_limit"
            )
        return frame

    def load(self, received: Received) -> Any:
        """The item; raises `DecodeError` where this process cannot unpickle it."""
        loaded, received.counted = self._codec.decode(taken_off(received.data))
        return received.unwrapped(loaded)

    # -- leases -------------------------------------------------------------------------------

    def check_loop(self) -> None:
        """Refuse what belongs to this event loop in another one."""
        loop = current_loop()
        if self._loop() is not loop:
            raise ConfigurationError(
                f"this belongs to another event loop ({self._loop() or 'one that has ended'}), "
                f"and not to the one that runs here ({loop}): use it in the loop that received it"
            )

    @property
    def lease_holder(self) -> object:
        """What leases hang on: they have ended where it is another. None where a host has none."""
        return self.engine.lease_holder

    async def get_leases(self, count: int, timeout: float | None = None) -> list[Lease[T]]:
        """Lease up to `count` items, as soon as there is at least one."""
        while True:
            leased = await self.fetcher.receive(count, timeout, take=False)
            if leased:
                return [Lease(self, received) for received in leased]
            if timeout is not None:
                raise QueueEmpty("the queue is empty")

    def settle_soon(self, received: Received, action: Action, delay: float) -> Future[bool]:
        """Send a settlement; the future holds whether the lease was still there."""
        if action != "ack":
            return self.fetcher.hand_back(received, action, delay)
        settlement = (received.handle, action, delay)
        if received.counted is None:
            return self._settlements.submit_soon(settlement)

        async def work() -> bool:
            await received.until_counted()
            return await self._settlements.submit(settlement)

        return self._steps.submit_soon(work)

    def leave_behind(self, received: Received, how: Return) -> None:
        """`settle_soon` for finalizers, which run on any thread."""
        self.fetcher.leave_behind(received, how)

    async def move(self, received: Received, target: LocalQueue[Any], frame: bytes) -> bool:
        """Put an item in another queue and ack this one; whether the lease was still there. One
        step where one host of ours has both queues; else the put comes first, so that a crash in
        between leaves the item in both rather than in neither."""

        async def work() -> bool:
            await received.until_counted()
            if self.engine.host is target.engine.host is not None:
                return await self.engine.move(received, target.name, frame)
            await target.sender.put([frame], None)
            acked = self.engine.settle([(received.handle, "ack", 0.0)], "move")
            return (await acked.wait())[0]

        return await self._steps.submit(work)

    # -- what is done -------------------------------------------------------------------------

    def remember(self, lease: Lease[T]) -> None:
        """The running task works on this item, which an iteration has handed out."""
        self._current[current_task()] = ref(lease)

    def forget(self) -> None:
        """The running task's iteration has ended."""
        self._current.pop(current_task(), None)

    async def task_done(self) -> None:
        """The item of the running task's iteration is done, or else one that was taken."""
        lease_of = self._current.get(current_task())
        lease = None if lease_of is None else lease_of()
        settling = None if lease is None else lease.settle_soon("ack")
        if settling is None:
            await self._done.submit_soon(None).wait()
        elif not await settling.wait():
            raise lost_lease()

    def _send_task_done(self, entries: Sequence[None]) -> Future[list[Failure | None]]:
        return start_detached(lambda: self._count_done(entries))

    async def _count_done(self, entries: Sequence[None]) -> list[Failure | None]:
        outcomes = await self.engine.task_done(len(entries))
        return [None if error is None else Failure(error) for error in outcomes]


def _run(works: Sequence[Callable[[], Awaitable[bool]]]) -> Future[list[bool]]:
    return start_detached(works[0]).map(lambda moved: [moved])
