"""`consume`: a handler over deliveries."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import anyio
from anyio.abc import TaskGroup, TaskStatus

from .._ground.errors import ConfigurationError, DecodeError, LeaseLostError, QueueShutDown
from .._wire.dead_letters import DeadLetter
from .deliveries import Delivery, Target, move
from .inside import inside
from .leases import Lease
from .queue import AsyncQueue

T = TypeVar("T")

logger = logging.getLogger("aiomanager")

Backoff = float | Callable[[int], float]
LONGEST_BACKOFF = 60.0
# A retry is due at the host a moment after it is due here: the way there takes time.
RETRY_MARGIN = 0.1


async def consume(
    queue: AsyncQueue[T, Any],
    handler: Callable[[T], Awaitable[object]],
    *,
    concurrency: int = 1,
    retries: int = 0,
    backoff: Backoff = 1.0,
    dead_letter: Target[DeadLetter[T]] | None = None,
    on_error: Callable[[Delivery[T], Exception], object] | None = None,
    sentinel: Any = ...,
    relay_sentinel: bool = False,
    drain_timeout: float | None = 10.0,
    handle_signals: bool = False,
) -> int:
    """Run `handler` over the items of a queue until a sentinel comes or the queue is shut down.

    An item is done when its handler returns. Where the handler raises, the item is handed out
    again, to any consumer of the queue, up to `retries` times; then it goes to `dead_letter`, as a
    `DeadLetter`. Without a dead-letter queue it is given up where there is an `on_error`, which
    has been shown it; and where there is neither, the item stays in the queue and the error ends
    this call, after the other handlers have ended.

    Args:
        concurrency: how many handlers run at once.
        retries: how often an item is tried again, by any consumer.
        backoff: seconds before the first retry, doubled for each later one up to 60; or a function
            of the number of attempts made.
        dead_letter: a queue for what was given up, of any host. On a host of ours that has both
            queues, the item is at each moment in exactly one of them.
        on_error: called with the delivery and the error after each failed attempt; sync or async.
            Where it settles the delivery itself, that stands. What it raises ends this call.
        sentinel: the item that ends the loop, given to no handler, and marked done: one for all
            handlers of this call. `NO_SENTINEL` for none; left out, that of the queue.
        relay_sentinel: hand the sentinel on instead of marking it done, so that one ends the
            consumers of all processes. It stays in the queue then, and ends those who come later
            too; `queue.shutdown()` says the same without leaving anything behind.
        drain_timeout: seconds that handlers get to end when this call is cancelled; after that
            they are cancelled, and their items handed out again. None for any time.
        handle_signals: end as by cancellation, but without raising, at SIGINT and SIGTERM. Not
            for use inside a web server, which has signal handlers of its own.

    Returns:
        The number of items that were handled.

    Raises:
        What a handler raised, where nothing else was to be done with it.
        ConfigurationError: an argument cannot work; the handler is no async function.
        ConnectionLostError: the host was away for longer than the manager's `reconnect`.

    Cancelled, it receives nothing more, lets the handlers under way end within `drain_timeout`,
    and raises. To cancel it again does not hurry them.
    """
    _check_count("concurrency", concurrency, 1)
    if drain_timeout is not None:
        _check_seconds("drain_timeout", drain_timeout)
    if dead_letter is queue:
        raise ConfigurationError("dead_letter is the queue itself: it would never be empty")
    if sentinel is ...:
        sentinel = queue.sentinel
    rules = _Rules(handler, retries, backoff, dead_letter, on_error)
    consumer = _Consumer(queue, rules, concurrency, sentinel, relay_sentinel, drain_timeout)
    if handle_signals:
        await _stopped_by_signals(consumer)
    else:
        await consumer.run()
    return consumer.result()


async def _stopped_by_signals(consumer: _Consumer) -> None:
    async with anyio.create_task_group() as group:
        await group.start(_stop_at_signals, consumer)
        await consumer.run()
        group.cancel_scope.cancel()


async def _stop_at_signals(
    consumer: _Consumer, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            consumer.stop()


@dataclass(frozen=True)
class _Rules:
    """What happens to an item: the arguments of `consume` that say so."""

    handler: Callable[[Any], Awaitable[object]]
    retries: int
    backoff: Backoff
    dead_letter: Target[DeadLetter[Any]] | None
    on_error: Callable[[Delivery[Any], Exception], object] | None

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        for name in ("handler", "on_error"):
            value = getattr(self, name)
            if not callable(value) and (value is not None or name == "handler"):
                raise ConfigurationError(f"{name} is {value!r}; give a function")
        _check_count("retries", self.retries, 0)
        if not callable(self.backoff):
            _check_seconds("backoff", self.backoff)

    def pause(self, attempt: int) -> float:
        """Seconds between an attempt that failed and the next."""
        if callable(self.backoff):
            return self.backoff(attempt)
        return min(LONGEST_BACKOFF, self.backoff * 2.0 ** min(attempt - 1, 30))


class _Consumer:
    """Receives while a handler is free, and sees every item that it received to a settlement."""

    def __init__(
        self,
        queue: AsyncQueue[Any, Any],
        rules: _Rules,
        concurrency: int,
        sentinel: object,
        relay_sentinel: bool,
        drain_timeout: float | None,
    ) -> None:
        self._queue = queue
        self._rules = rules
        self._concurrency = concurrency
        self._sentinel = sentinel
        self._relay_sentinel = relay_sentinel
        self._drain_timeout = drain_timeout
        self._free = anyio.Semaphore(concurrency)
        self._receiving = anyio.CancelScope()
        self._handling: set[anyio.CancelScope] = set()
        self._drained_by = math.inf  # when handlers that are still under way are cancelled
        self._retries = False  # there are some that may not have come again
        self._retry_due = 0.0  # when the last retry that was asked for here is handed out
        self._error: Exception | None = None
        self._handled = 0

    async def run(self) -> None:
        """Until the end of the queue, or an error, which `result` raises."""
        async with anyio.create_task_group() as handlers:
            try:
                with self._receiving:
                    await self._receive(handlers)
                    await self._all_free()
                if self._receiving.cancelled_caught:
                    self._drain()
                await self._all_free()
            except Exception as exc:
                # Not raised here, where the task group would wrap it.
                self._error = self._error or exc
                self._drain()
            except BaseException:
                # The handlers are shielded, so the task group waits for them on its way out.
                self._drain()
                raise

    def result(self) -> int:
        """The number of items that were handled; raises what ended the run."""
        if self._error is not None:
            raise self._error
        return self._handled

    def stop(self) -> None:
        """Receive nothing more, and let the handlers end."""
        self._receiving.cancel()

    def _drain(self) -> None:
        if self._drain_timeout is not None:
            # Also for a handler that is only about to start.
            self._drained_by = min(self._drained_by, anyio.current_time() + self._drain_timeout)
            for scope in self._handling:
                scope.deadline = self._drained_by

    async def _all_free(self) -> None:
        acquired = 0
        try:
            while acquired < self._concurrency:
                await self._free.acquire()
                acquired += 1
        finally:
            for _ in range(acquired):
                self._free.release()

    async def _receive(self, handlers: TaskGroup) -> None:
        while True:
            free = await self._acquire_free()
            received: list[Lease[Any]] = []
            try:
                received = await inside(self._queue).here().get_leases(free)
            except QueueShutDown:
                return
            finally:
                for _ in range(free - len(received)):
                    self._free.release()
            while received:
                lease = received.pop(0)
                if not lease.is_sentinel(self._sentinel):
                    handlers.start_soon(self._handle, lease)
                    continue
                # What stands behind the sentinel is for whoever comes after this call.
                for _ in (lease, *received):
                    self._free.release()
                while received:
                    received.pop().settle_soon("return")
                try:
                    if await self._may_end(lease):
                        return
                except BaseException:
                    lease.settle_soon("nack")
                    raise

    async def _acquire_free(self) -> int:
        """Wait for a free handler, and take all that are free: what they are for comes in one
        message from the host."""
        await self._free.acquire()
        free = 1
        while self._free.value:
            self._free.acquire_nowait()
            free += 1
        return free

    async def _may_end(self, sentinel: Lease[Any]) -> bool:
        """Whether the sentinel is the last thing here to do. An item that is to be tried again
        was put before it, so the sentinel waits for that."""
        await self._all_free()
        if not self._retries:
            await sentinel.settle("nack" if self._relay_sentinel else "ack")
            return True
        # Also where its time is over by now: it comes before the sentinel when that comes again.
        self._retries = False
        await sentinel.settle("nack", max(0.0, self._retry_due - anyio.current_time()))
        return False

    async def _handle(self, lease: Lease[Any]) -> None:
        with anyio.CancelScope(shield=True, deadline=self._drained_by) as scope:
            self._handling.add(scope)
            try:
                await self._attempt(lease, scope)
            except LeaseLostError as exc:
                logger.warning("%s", exc)
            except Exception as exc:
                self._error = self._error or exc
                self._receiving.cancel()
                if isinstance(exc, DecodeError):
                    lease.settle_soon("reject")
            finally:
                lease.settle_soon("nack")
                self._handling.discard(scope)
                self._free.release()

    async def _attempt(self, lease: Lease[Any], scope: anyio.CancelScope) -> None:
        try:
            answer = self._rules.handler(lease.item)
            if inspect.isawaitable(answer):
                await answer
        except Exception as exc:
            await self._failed(lease, exc)
        except asyncio.CancelledError as exc:
            if scope.cancel_called or _being_cancelled():
                raise
            error = RuntimeError("something that the handler awaited was cancelled")
            error.__cause__ = exc
            await self._failed(lease, error)
        else:
            if not inspect.isawaitable(answer):
                raise ConfigurationError(
                    "the handler is no async function: it would block the event loop"
                )
            await lease.settle("ack")
            self._handled += 1

    async def _failed(self, lease: Lease[Any], error: Exception) -> None:
        rules = self._rules
        if rules.on_error is not None:
            answer = rules.on_error(Delivery(lease), error)
            if inspect.isawaitable(answer):
                await answer
        if lease.settled is not None:
            return
        attempt = lease.received.attempt
        if attempt <= rules.retries:
            pause = rules.pause(attempt)
            self._retries = True
            await lease.settle("nack", pause)
            # From here on, as the host may have heard of it late.
            self._retry_due = max(self._retry_due, anyio.current_time() + pause + RETRY_MARGIN)
        elif rules.dead_letter is not None:
            reason = f"{type(error).__name__}: {error}"
            letter = DeadLetter[Any](lease.received.frame(), reason, attempt, self._queue.name)
            await move(lease, rules.dead_letter, letter)
        elif rules.on_error is not None:
            logger.error("gave up an item of %r after attempt %d", self._queue, attempt)
            await lease.settle("ack")
        else:
            raise error


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _check_count(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(f"{name} is {value!r}; give a whole number from {least} on")


def _check_seconds(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise ConfigurationError(f"{name} is {value!r}; give seconds from 0 on")
