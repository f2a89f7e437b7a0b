"""`AsyncQueue`: what a user holds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio

from .._concurrency.futures import run_to_completion
from .._ground.errors import ConfigurationError, DecodeError, QueueEmpty, QueueFull
from .._wire.items import Headers
from ..engines.base import QueueEngine
from .codec import Codec
from .deliveries import Deliveries, Delivery, Items
from .fetcher import Return
from .inside import Inside, inside
from .leases import is_sentinel
from .prefetching import PREFETCH
from .sender import BATCH_ITEMS, first_batch, full, say_accepted

if TYPE_CHECKING:
    # Every checker has the stubs of it, and nothing imports it at run time.
    import typing_extensions

    S_contra = typing_extensions.TypeVar("S_contra", contravariant=True, default=None)
else:
    S_contra = TypeVar("S_contra", contravariant=True)

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


class AsyncQueue(Generic[T, S_contra]):
    """A queue that other processes share, with the names and meanings of `queue.Queue`.

    Got from `AsyncManager.queue` or `wrap`. Any number of tasks of one event loop may use it at
    once; waiting costs none of them a thread. All times are seconds, and `timeout=None` waits for
    ever. Every method raises `ConnectionLostError` where the host is away for longer than the
    manager's `reconnect`; a call with a timeout ends within a second after that in any case.

    One that `wrap` gave works in every event loop and in forked children, with connections of its
    own in each; that of an `AsyncManager` is of the event loop and the process which entered the
    manager, and raises `ConfigurationError` in others. It can be passed to other processes, and
    arrives as what `wrap` gives; one who knows only the standard library gets its proxy.

    To a type checker it is an `AsyncQueue[Job]`, whose `get`, iterations and deliveries give a
    `Job`, and whose `put` takes a `Job` or None, as None is the item that ends iterations unless
    another was chosen: `AsyncQueue[Job, Stop | None]` takes a `Stop` too, and is good wherever an
    `AsyncQueue[Job]` is. Iterations and `consume` never hand the sentinel out, so that what they
    give is a `Job` for sure. `get` does; who ends a loop over `get` by a sentinel says so in the
    type of the items, `AsyncQueue[Job | None]`.

    Attributes:
        name: under which the host has it.
        sentinel: the item that ends iterations over it.
        prefetch: how many items an iteration holds at once at most.
    """

    if not TYPE_CHECKING:
        # The checkers know that the second parameter has a default. `Generic` does from 3.13 on.
        __class_getitem__ = classmethod(GenericAlias)

    def __init__(
        self,
        engine: Callable[[], QueueEngine],
        name: str,
        sentinel: object = None,
        prefetch: int = PREFETCH,
        reduce: Callable[[bool], Any] | None = None,
        methods: Callable[[], Awaitable[Any]] | None = None,
        codec: Codec | None = None,
    ) -> None:
        if prefetch < 1:
            raise ConfigurationError(f"prefetch is {prefetch!r}; give 1 or more")
        self.name = name
        self.sentinel = sentinel
        self.prefetch = prefetch
        self._inside: Inside[T] = Inside(engine, name, codec or Codec(), reduce)
        self._here = self._inside.locals.here
        self._methods = methods

    def __reduce__(self) -> Any:
        """Pickles as what another process can use: see `wrap`."""
        return self._inside.reduce(for_hosts=False)

    def __repr__(self) -> str:
        return f"<AsyncQueue {self.name!r}>"

    # -- putting ------------------------------------------------------------------------------

    async def put(
        self,
        item: T | S_contra,
        block: bool = True,
        timeout: float | None = None,
        *,
        headers: Headers | None = None,
    ) -> None:
        """Put an item, waiting for room where the queue is bounded and full.

        Args:
            headers: what goes along with it, for whoever receives it as a `Delivery`: a small
                mapping of str to str, int, float or bytes, up to 16 KiB. A client of the standard
                library gets the item alone, and a host of it has no headers.

        Raises:
            QueueFull: no room within `timeout`, or at once where `block` is false.
            QueueShutDown: the queue was shut down.
            EncodeError: the item cannot be pickled, or is larger than the host takes; nothing
                was sent.
            MemoryError: the host has no memory for it; nothing was put.
            ConfigurationError: the headers are none, or the host has no headers; nothing was sent.
            ConnectionLostError: the host went away. On a stock host `outcome_known` is False where
                the item may have been put; a host of ours enqueues it once, however often it had
                to be sent.

        Cancelled, the item was put or was not: it was not where it had not left yet, or waited
        for room; it may have been where it was on its way.
        """
        local = self._here()
        await local.sender.put([local.encode(item, headers)], _timeout(block, timeout))

    async def put_nowait(self, item: T | S_contra, *, headers: Headers | None = None) -> None:
        """`put(item, block=False)`."""
        await self.put(item, False, headers=headers)

    async def put_many(
        self,
        items: Iterable[T | S_contra],
        timeout: float | None = None,
        *,
        headers: Headers | None = None,
    ) -> None:
        """Put items in order, in few messages; as `put` for each, with one timeout for all, and
        the same headers for each.

        Whatever it raises once items are on their way has the number of those that were put for
        sure as `accepted`, the first ones; `QueueFull` says it too. All items are pickled before
        the first is sent.
        """
        local = self._here()
        frames = [local.encode(item, headers) for item in items]
        timeout = _timeout(True, timeout)
        deadline = None if timeout is None else anyio.current_time() + timeout
        start = 0
        while batch := first_batch(frames[start : start + BATCH_ITEMS]):
            left = None if deadline is None else max(0.0, deadline - anyio.current_time())
            try:
                await local.sender.put(batch, left)
            except QueueFull as exc:
                raise full(len(frames), start + exc.accepted) from None
            except Exception as exc:
                say_accepted(exc, start)
                raise
            start += len(batch)

    # -- getting ------------------------------------------------------------------------------

    async def get(self, block: bool = True, timeout: float | None = None) -> T:
        """Take an item. It is the caller's from then on; call `task_done` when it is done.

        A process that is killed before, or within some milliseconds after, the item has come has
        taken nothing: a host of ours hands it out again once the process can no longer come back,
        `reconnect` and `call_timeout` after its connection has ended.

        Raises:
            QueueEmpty: none within `timeout`, or at once where `block` is false.
            QueueShutDown: the queue was shut down, and nothing is left in it.
            DecodeError: the next item cannot be unpickled in this process; it is in the queue
                again. A host of ours counts that, and gives it up after its `max_deliveries`, or
                lets others pass where it has no dead-letter queue.

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
        local = self._here()
        fetcher = local.fetcher
        taken = await fetcher.receive(count, timeout, take=True)
        if not taken:
            raise QueueEmpty("the queue is empty")
        items: list[T] = []
        try:
            for received in taken:
                items.append(local.load(received))
                if received.counted is not None:  # seldom; and this is run for each item
                    await received.until_counted()
        except DecodeError:
            # Whoever comes next meets the error, as this one does where it is the first of all;
            # only then it was met.
            first: Return = "restore" if items else "reject taken"
            returns = [fetcher.hand_back(taken[len(items)], first)] + [
                fetcher.hand_back(received, "restore") for received in taken[len(items) + 1 :]
            ]
            if not items:
                for future in returns:
                    await future.wait()
                raise
        except BaseException:
            for received in taken:
                fetcher.hand_back(received, "restore")
            raise
        local.engine.handed_out(taken[: len(items)])
        return items

    # -- working ------------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[T]:
        """Iterate over items until a sentinel comes or the queue is shut down. An item counts as
        done when the next is asked for; a loop that is left before that, by a break, an exception
        or the end of the process, hands it out again (`task_done` before a break says that it was
        done)."""
        return Items(self._here(), self.sentinel, self.prefetch)

    def deliveries(self, *, sentinel: Any = ...) -> Deliveries[T]:
        """Iterate over deliveries, which the caller settles, until a sentinel comes or the queue
        is shut down.

        Args:
            sentinel: the item that ends the iteration, `NO_SENTINEL` for none; left out, that of
                the queue, which is None unless told otherwise.
        """
        sentinel = self.sentinel if sentinel is ... else sentinel
        return Deliveries(self._here(), sentinel)

    async def get_deliveries(self, count: int, timeout: float | None = None) -> list[Delivery[T]]:
        """Lease up to `count` items, as soon as there is at least one, sentinels included; as
        `get_many`, but each stays the queue's until the caller settles it."""
        if count < 1:
            raise ConfigurationError(f"count is {count!r}; give 1 or more")
        leases = await self._here().get_leases(count, _timeout(True, timeout))
        return [Delivery(lease) for lease in leases]

    async def task_done(self) -> None:
        """Say that an item is done: the current one of an iteration in this task, else one that
        was taken with `get`.

        Raises:
            ValueError: no item is out.
            LeaseLostError: the lease of the item has ended, so somebody else has it or has done
                it; nothing was changed.

        Cancelled, it is sent all the same.
        """
        await self._here().task_done()

    async def join(self) -> None:
        """Wait until every item that was put is done. Cancelled, it has changed nothing."""
        await self._here().engine.join()

    # -- looking ------------------------------------------------------------------------------

    async def qsize(self) -> int:
        """How many items wait, leased ones not counted."""
        engine = self._here().engine
        return await run_to_completion(lambda: engine.ask("qsize"))

    async def empty(self) -> bool:
        """Whether no item waits."""
        engine = self._here().engine
        return await run_to_completion(lambda: engine.ask("empty"))

    async def full(self) -> bool:
        """Whether a put would have to wait."""
        engine = self._here().engine
        return await run_to_completion(lambda: engine.ask("full"))

    async def maxsize(self) -> int:
        """How many items may wait; 0 for any number. A stock host does not tell:
        `ConfigurationError`."""
        engine = self._here().engine
        return await run_to_completion(lambda: engine.ask("maxsize"))

    async def statistics(self) -> QueueStatistics:
        """What the host counts."""
        return QueueStatistics(**await run_to_completion(self._here().engine.statistics))

    async def shutdown(self, immediate: bool = False) -> None:
        """End every producer and consumer in every process: puts raise `QueueShutDown` from now
        on, gets when the last item is out, or now if `immediate`, which drops what waits.

        A stock host can do that from Python 3.13 on; `ConfigurationError` otherwise.
        """
        engine = self._here().engine
        await run_to_completion(lambda: engine.shutdown(immediate))

    async def call(self, method: str, /, *args: Any, **kwds: Any) -> Any:
        """Call a method that the queue object of a stock host has beside those of a queue, `await
        queue.call("peek")`, as `AsyncProxy.call` does."""
        if self._methods is None:
            raise ConfigurationError(f"{self!r} has no methods but those of a queue")
        proxy = await run_to_completion(self._methods)
        return await proxy.call(method, *args, **kwds)

    async def aclose(self) -> None:
        """Send what is on its way, and give back what this process holds for nobody. The queue
        itself goes on; a manager does this for its queues when it closes."""
        local = self._inside.locals.made()
        if local is not None:
            await run_to_completion(local.aclose)


def check_options(queue: AsyncQueue[Any, Any], sentinel: Any, prefetch: Any) -> None:
    """Refuse options that are given and are others than a queue has."""
    if prefetch not in (..., queue.prefetch):
        raise _other_option(queue.name, "prefetch", queue.prefetch, prefetch)
    if sentinel is not ... and not is_sentinel(sentinel, queue.sentinel):
        raise _other_option(queue.name, "sentinel", queue.sentinel, sentinel)


def reduced_for_hosts(queue: AsyncQueue[Any, Any]) -> Any:
    """How a queue pickles on its way to a host."""
    return inside(queue).reduce(for_hosts=True)


def _other_option(name: str, option: str, has: object, asked: object) -> ConfigurationError:
    return ConfigurationError(
        f"the queue {name!r} has {option}={has!r} in this manager, so it cannot have "
        f"{option}={asked!r}: ask for it with the same options everywhere, leave them out where it "
        "has them already, or connect once more for others"
    )


def _timeout(block: bool, timeout: float | None) -> float | None:
    if not block:
        return 0.0
    if timeout is not None and not timeout >= 0:
        raise ValueError("'timeout' must be a non-negative number")
    return timeout
