"""A queue at a stock manager: `queue.Queue`, `multiprocessing.JoinableQueue`, or what a user
registered that has their methods.

Such a host knows no leases, and a call that waits there holds one of its threads, which takes the
next item even if its client is dead. So waits go there in slices, one at a time for each queue,
and what a slice brings for somebody who has left stays here, in the order in which it came, for
the next in this process to ask; if nobody does, it goes back to the end of the queue.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import operator
import queue
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

import anyio

from .._batches import Batcher
from .._errors import AioManagerError, ConfigurationError, ConnectionLostError, QueueFull
from .._frames import STOCK_PROTOCOL, Expression, Frame, encode
from .._links import Conversation, LinkPool
from .._replies import load_queue_reply
from .._slots import Slot, begin, filled
from .._tasks import spawn
from .._wire import Buffer, dump
from .base import QueueEngine, Received, Settlement, counted

# How long an item that came for somebody who left is kept here before it goes back, in seconds,
# and how long after that where the queue had no room for it.
KEPT = 1.0
KEPT_LONGER = 0.25
# How long the end of a manager waits for room for such items, in seconds.
LAST_WAIT = 4.0


class StockReceived(Received):
    """An item with the reply around it that brought it."""

    __slots__ = ()

    def load(self) -> Any:
        return super().load()[1]

    def frame(self) -> bytes:
        return encode(_item_of(self))


class StockEngine(QueueEngine):
    """Talks to one queue object of a manager.

    Args:
        resolve: returns the object's id at the host, and the names of its methods.
        wait_slice: seconds that one blocking call may wait at the host. A killed client loses at
            most what arrives within one; shorter ones cost more calls while nothing arrives.
    """

    pickle_protocol = STOCK_PROTOCOL

    def __init__(
        self,
        pool: LinkPool,
        resolve: Callable[[], Awaitable[tuple[str, Sequence[str]]]],
        wait_slice: float,
    ) -> None:
        self._pool = pool
        self._resolve = resolve
        self._slice = wait_slice
        self._target: tuple[str, Sequence[str]] | None = None
        self._ids = itertools.count(1)
        self._out: dict[int, Received] = {}  # handed out here and not settled
        # Handed back, by when they are due and in the order in which they came: a heap.
        self._kept: list[tuple[float, int, Received]] = []
        self._keeping = False
        self._pause: anyio.CancelScope | None = None  # ends early when this side closes
        self._giving_back = anyio.Lock()
        self._put_unwanted = False
        self._joins: Batcher[None, None] = Batcher(self._join, revocable=True)

    # -- putting ------------------------------------------------------------------------------

    def put(
        self, frames: Sequence[bytes], timeout: float | None, channel: str
    ) -> Slot[tuple[int, Exception | None]]:
        if timeout != 0:
            self._put_unwanted = False
        return begin(lambda: self._put_in_slices(frames, timeout))

    async def _put_in_slices(
        self, frames: Sequence[bytes], timeout: float | None
    ) -> tuple[int, Exception | None]:
        deadline = None if timeout is None else anyio.current_time() + timeout
        accepted = 0
        while True:
            seconds = self._slice_until(deadline)
            count, error = await self._put(frames[accepted:], seconds)
            accepted += count
            if error is not None or accepted == len(frames):
                return accepted, error
            if self._put_unwanted or (deadline is not None and anyio.current_time() >= deadline):
                return accepted, None

    def interrupt_put(self) -> None:
        self._put_unwanted = True

    async def _put(self, frames: Sequence[bytes], seconds: float) -> tuple[int, Exception | None]:
        accepted = 0
        ident = ""

        def conversation() -> Conversation[None]:
            nonlocal accepted
            wait = seconds > 0
            for frame in frames:
                _value((yield dump((ident, "put", (Frame(frame), wait, seconds), {}))))
                accepted += 1
                wait = False  # the slice is for all of them

        try:
            ident, _ = await self._found()
            await self._run(conversation(), seconds)
        except queue.Full:
            return accepted, None
        except Exception as exc:
            return accepted, exc
        return accepted, None

    # -- receiving ----------------------------------------------------------------------------

    def receive(self, count: int, timeout: float | None) -> Slot[list[Received]]:
        return begin(lambda: self._receive_in_a_slice(count, timeout))

    async def _receive_in_a_slice(self, count: int, timeout: float | None) -> list[Received]:
        if kept := self._take_kept(count):
            return kept
        seconds = self._slice if timeout is None else min(timeout, self._slice)
        if self._kept:
            # Somebody's delayed item is due before the slice would end.
            seconds = max(0.0, min(seconds, self._kept[0][0] - anyio.current_time()))
        replies: list[Buffer] = []
        ident, _ = await self._found()

        def conversation() -> Conversation[None]:
            reply = yield dump((ident, "get", (seconds > 0, seconds), {}))
            while _is_return(reply):
                replies.append(reply)
                if len(replies) == count:
                    return
                reply = yield dump((ident, "get", (False,), {}))
            _value(reply)

        try:
            await self._run(conversation(), seconds)
        except queue.Empty:
            pass
        except Exception:
            # What came before belongs to somebody; the error will meet whoever asks next.
            if not replies:
                raise
        return [self._hand_out(StockReceived(0, 0, reply)) for reply in replies]

    def interrupt(self) -> None:
        """The slice that is under way goes on: its thread at the host would take the next item in
        any case. What it brings is kept."""

    def _hand_out(self, received: Received) -> Received:
        received.delivery_id = next(self._ids)
        received.attempt += 1
        self._out[received.delivery_id] = received
        return received

    # -- settling -----------------------------------------------------------------------------

    def settle(
        self, settlements: Sequence[Settlement], channel: str = "settle"
    ) -> Slot[list[bool]]:
        return begin(lambda: self._settle(settlements))

    async def _settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        answers: list[bool] = []
        done = 0
        for delivery_id, action, delay in settlements:
            received = self._out.pop(delivery_id, None)
            answers.append(received is not None)
            if received is None:
                continue
            if action == "ack":
                done += 1
            else:
                if action == "return":
                    received.attempt -= 1
                self._keep(received, delay)
        if done:
            await self._task_done_if_counted(done)
        return answers

    def take(self, delivery_ids: Sequence[int], channel: str) -> Slot[list[bool]]:
        return filled([self._out.pop(ident, None) is not None for ident in delivery_ids])

    def restore(self, received: Received, *, rejected: bool = False) -> Slot[bool]:
        received.attempt -= not rejected
        self._keep(received, 0.0)
        return filled(True)

    def _keep(self, received: Received, delay: float) -> None:
        heapq.heappush(self._kept, (anyio.current_time() + delay, received.delivery_id, received))
        if not self._keeping:
            self._keeping = True
            spawn(self._give_back_later)

    def _take_kept(self, count: int) -> list[Received]:
        taken: list[Received] = []
        now = anyio.current_time()
        while self._kept and len(taken) < count and self._kept[0][0] <= now:
            taken.append(self._hand_out(heapq.heappop(self._kept)[2]))
        return taken

    async def _give_back_later(self) -> None:
        while self._kept and not self._pool.closed:
            self._pause = anyio.CancelScope()
            with self._pause:
                overdue = self._kept[0][0] + KEPT
                await anyio.sleep(max(KEPT_LONGER, overdue - anyio.current_time()))
            async with self._giving_back:
                while self._kept and self._kept[0][0] + KEPT <= anyio.current_time():
                    if not await self._give_back(0.0):
                        break
        self._keeping = False

    async def _give_back(self, seconds: float) -> bool:
        """Put the first of what is kept at the end of the queue again, as it came, waiting for
        room up to `seconds`; False where that failed, and it is still kept."""
        kept = heapq.heappop(self._kept)
        try:
            ident, _ = await self._found()
            await self._run(_call(ident, "put", _item_of(kept[-1]), seconds > 0, seconds), seconds)
        except Exception:
            heapq.heappush(self._kept, kept)
            return False
        with contextlib.suppress(AioManagerError):
            await self._task_done_if_counted(1)  # for the get that brought it here
        return True

    async def aclose(self) -> None:
        out, self._out = self._out, {}
        for received in out.values():
            self._keep(received, 0.0)
        deadline = anyio.current_time() + LAST_WAIT
        async with self._giving_back:
            while self._kept:
                left = self._slice_until(deadline)
                if not await self._give_back(left) and not left:
                    break
        if self._pause is not None:
            self._pause.cancel()
        if self._kept:
            raise QueueFull(
                f"{len(self._kept)} items that were received for nobody cannot go back: the queue "
                "is full or gone"
            )

    # -- the rest -----------------------------------------------------------------------------

    async def task_done(self, count: int) -> list[Exception | None]:
        ident, methods = await self._found()
        if "task_done" not in methods:
            raise ConfigurationError("this queue has no task_done(): it is not a joinable one")
        done = 0

        def conversation() -> Conversation[None]:
            nonlocal done
            for _ in range(count):
                _value((yield dump((ident, "task_done", (), {}))))
                done += 1

        try:
            await self._run(conversation(), None)
        except ValueError:
            pass
        return counted(done, count)

    async def _task_done_if_counted(self, count: int) -> None:
        _, methods = await self._found()
        if "task_done" in methods:
            await self.task_done(count)

    async def join(self) -> None:
        await self._joins.submit(None)

    def _join(self, joiners: Sequence[None]) -> Slot[Sequence[None]]:
        return begin(lambda: self._join_for(joiners))

    async def _join_for(self, joiners: Sequence[None]) -> Sequence[None]:
        # The standard library has no join with a timeout. It holds a thread at the host until all
        # is done, so there is one for all who wait; those who come later get one after it.
        ident, methods = await self._found()
        if "join" not in methods:
            raise ConfigurationError("this queue has no join(): it is not a joinable one")
        await self._pool.wait(_call(ident, "join"), None)
        return joiners

    async def ask(self, what: Literal["qsize", "empty", "full", "maxsize"]) -> Any:
        ident, methods = await self._found()
        if what not in methods:
            raise ConfigurationError(f"this queue's host does not tell its {what}")
        return await self._call(ident, what)

    async def shutdown(self, immediate: bool) -> None:
        ident, methods = await self._found()
        if "shutdown" not in methods:
            raise ConfigurationError(
                "this queue's host cannot shut it down: it needs Python 3.13 or a host of "
                "aiomanager's; put a sentinel for each consumer instead"
            )
        await self._call(ident, "shutdown", immediate)

    async def statistics(self) -> dict[str, Any]:
        return {"qsize": await self.ask("qsize")}

    # -- inside -------------------------------------------------------------------------------

    async def _found(self) -> tuple[str, Sequence[str]]:
        if self._target is None:
            ident, methods = await self._resolve()
            if "put" not in methods or "get" not in methods:
                raise ConfigurationError(
                    "what is registered under this name is no queue: it has no put and get"
                )
            self._target = ident, methods
        return self._target

    async def _call(self, ident: str, method: str, *args: Any) -> Any:
        return await self._run(_call(ident, method, *args), None)

    async def _run(self, conversation: Conversation[Any], seconds: float | None) -> Any:
        try:
            if seconds:
                return await self._pool.wait(conversation, seconds + self._pool.call_timeout)
            return await self._pool.call(conversation)
        except ConnectionLostError:
            self._target = None  # a restarted host knows the object under another id
            raise

    def _slice_until(self, deadline: float | None) -> float:
        if deadline is None:
            return self._slice
        return max(0.0, min(self._slice, deadline - anyio.current_time()))


def _item_of(received: Received) -> Expression:
    """What unpickles to the item that a reply brought."""
    return Expression(operator.getitem, Frame(bytes(received.data)), 1)


def _call(ident: str, method: str, *args: Any) -> Conversation[Any]:
    return _value((yield dump((ident, method, args, {}))))


def _is_return(reply: Buffer) -> bool:
    """Whether a reply brings a value. It begins with its kind; to look for that spares
    unpickling an item, which this process may not be able to."""
    return b"#RETURN" in bytes(reply[:32])


def _value(reply: Buffer) -> Any:
    return load_queue_reply(reply)
