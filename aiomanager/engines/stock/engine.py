"""A queue at a stock manager: `queue.Queue`, `multiprocessing.JoinableQueue`, or what a user
registered that has their methods.

Such a host knows no leases, and a call that waits there holds one of its threads, which takes the
next item even if its client is dead. So waits go there in slices, one at a time for each queue,
and what a slice brings for somebody who has left stays here, in the order in which it came, for
the next in this process to ask; if nobody does, it goes back to the end of the queue.

Where the connection breaks, what may be asked twice is asked again as long as the host may be
away, which leaves out puts and counts of what is done. An item that a broken slice had taken is
lost with it: no client can mend that.
"""

from __future__ import annotations

import itertools
import queue
import weakref
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, TypeVar

import anyio

from ..._concurrency.batching import Batcher
from ..._concurrency.futures import Future, filled, start_detached
from ..._ground.errors import ConfigurationError, ConnectionLostError, LeaseLostError, unanswered
from ..._transport.base import Connection, Conversation
from ..._transport.patience import Pauses
from ..._transport.pool import ConnectionPool
from ..._transport.thread import ThreadTransport
from ..._wire.items import STOCK_PROTOCOL, Frame
from ..._wire.messages import dump
from ..._wire.replies import is_value, load_queue_reply
from ..base import Promises, QueueEngine, Received, Settlement, Ticket, counted
from .keeping import Keeping
from .leftovers import Errand, Leftovers, StockReceived, Target
from .odd_queues import explained, get_what_is_there, learn_to_get, learn_to_put
from .remote_object import ObjectGoneError, StockObject, closed

T = TypeVar("T")

# Seconds between two looks at a queue whose `get` cannot be told for how long to wait.
POLL = 0.05


class StockEngine(QueueEngine):
    """Talks to one queue object of a manager.

    Args:
        resolve: finds the object at the host; given the one that the host does not know any more,
            finds it anew or raises.
        wait_slice: seconds that one blocking call may wait at the host. A killed client loses at
            most what arrives within one; shorter ones cost more calls while nothing arrives.
        transport: makes connections for what is left when the event loop ends.
    """

    ends_waits_at_once = False
    pickle_protocol = STOCK_PROTOCOL

    promises = Promises(
        redelivered="first here",
        bound="waiting",
        headers=False,
        opaque=False,
        shutdown=None,  # from Python 3.13 on, with a queue.Queue
    )

    def __init__(
        self,
        pool: ConnectionPool,
        resolve: Callable[[Target | None], Awaitable[Target]],
        wait_slice: float,
        transport: ThreadTransport,
    ) -> None:
        self._pool = pool
        self._slice = wait_slice
        self._held = Leftovers(transport, wait_slice)
        weakref.finalize(self, self._held.leave).atexit = False
        self._object = StockObject(pool, resolve, self._held)
        self.patience = self._object.patience
        self._ids = itertools.count(1)
        self._keeping = Keeping(pool, self._object, self._held, wait_slice)
        self._put_unwanted = False
        self._joins: Batcher[None, None] = Batcher(self._join, revocable=True)

    # -- putting ------------------------------------------------------------------------------

    def put(
        self, frames: Sequence[bytes], timeout: float | None, ticket: Ticket
    ) -> Future[tuple[int, Exception | None]]:
        if timeout != 0:
            self._put_unwanted = False
        return start_detached(lambda: self._put_in_slices(frames, timeout))

    async def _put_in_slices(
        self, frames: Sequence[bytes], timeout: float | None
    ) -> tuple[int, Exception | None]:
        deadline = None if timeout is None else anyio.current_time() + timeout
        accepted = 0
        while True:
            seconds = self._slice_until(deadline)
            [(count, error)] = await self._put([frames[accepted:]], seconds)
            accepted += count
            if error is not None or accepted == len(frames):
                return accepted, error
            if self._put_unwanted or (deadline is not None and anyio.current_time() >= deadline):
                return accepted, None

    def interrupt_put(self) -> None:
        self._put_unwanted = True

    def put_each(
        self, puts: Sequence[Sequence[bytes]], timeout: float | None, ticket: Ticket
    ) -> Future[list[tuple[int, Exception | None]] | None]:
        return start_detached(lambda: self._put(puts, 0.0 if timeout is None else timeout))

    async def _put(
        self, puts: Sequence[Sequence[bytes]], seconds: float
    ) -> list[tuple[int, Exception | None]]:
        """Put the frames of each, and say of each what has become of them. The seconds are for
        all of them."""
        outcomes: list[tuple[int, Exception | None]] = []
        accepted = 0  # of the put whose turn it is
        wait = seconds

        def conversation(target: Target) -> Conversation[None]:
            nonlocal accepted, wait
            while len(outcomes) < len(puts):
                frames = puts[len(outcomes)]
                error: Exception | None = None
                try:
                    while accepted < len(frames):
                        yield from self._put_one(target, frames[accepted], wait)
                        wait = 0.0
                        accepted += 1
                except queue.Full:
                    outcomes.append((accepted, None))
                    # Nobody overtakes those who find no room.
                    outcomes.extend((0, None) for _ in puts[len(outcomes) :])
                    return
                except Exception as exc:
                    if target.is_unknown(exc):
                        raise
                    error = explained(exc)
                outcomes.append((accepted, error))
                accepted = 0

        while len(outcomes) < len(puts):
            try:
                target = await self._object.found()
                await self._object.run(target, conversation, seconds)
            except ObjectGoneError:
                pass
            except ConnectionLostError as exc:
                if exc.outcome_known:
                    outcomes.append((accepted, exc))
                    outcomes.extend((0, _not_sent(exc)) for _ in puts[len(outcomes) :])
                    break
                # It is not known of one of them; those behind it were not sent.
                outcomes.append((accepted, exc))
                accepted = 0
            except Exception as exc:
                outcomes.append((accepted, exc))
                accepted = 0
        return outcomes

    def _put_one(self, target: Target, frame: bytes, seconds: float) -> Conversation[None]:
        try:
            yield from target.put(Frame(frame), seconds)
        except TypeError as exc:
            if target.plain_put or not (yield from learn_to_put(target, exc)):
                raise
            yield from target.put(Frame(frame), seconds)

    # -- receiving ----------------------------------------------------------------------------

    def receive(self, count: int, timeout: float | None) -> Future[list[Received]]:
        return start_detached(lambda: self._receive_in_a_slice(count, timeout))

    async def _receive_in_a_slice(self, count: int, timeout: float | None) -> list[Received]:
        give_up = anyio.current_time() + self._object.patience
        pauses = Pauses()
        while True:
            with self._held.moving:
                kept = [self._hand_out(received) for received in self._keeping.take(count)]
            if kept:
                return kept
            seconds = self._slice if timeout is None else min(timeout, self._slice)
            if (due := self._keeping.next_due) is not None:
                # Somebody's delayed item is due before the slice would end.
                seconds = max(0.0, min(seconds, due - anyio.current_time()))
            try:
                return await self._fetch(count, seconds, give_up)
            except ObjectGoneError:
                pass
            except ConnectionLostError as exc:
                if exc.outcome_known or self._pool.closed or anyio.current_time() >= give_up:
                    raise
                await pauses.sleep(give_up)

    async def _fetch(self, count: int, seconds: float, give_up: float) -> list[Received]:
        target = await self._object.found_by(give_up)
        connection: Connection | None = None
        with anyio.move_on_after(give_up - anyio.current_time()):
            connection = await self._pool.borrow()
        if connection is None:
            raise unanswered(self._object.patience, sent=False)
        before = self._pool.opened
        errand = Errand(connection)
        try:
            with self._held.moving:
                self._keeping.begin(errand)
        except ConnectionLostError:
            self._pool.give_back(connection)
            raise
        handed_out: list[Received] = []

        def settle() -> None:
            handed_out.extend(map(self._hand_out, errand.received))

        getting = self._getting(target, errand, count, seconds)
        try:
            await self._keeping.see_to(errand, getting, seconds, settle)
        except queue.Empty:
            pass
        except Exception as exc:
            # What came before belongs to somebody; the error will meet whoever asks next.
            if not errand.received:
                await self._object.check(target, exc)
                raise
        self._object.known(before)
        if target.plain_get and not errand.received:
            await anyio.sleep(min(seconds, POLL))
        return handed_out

    def _getting(
        self, target: Target, errand: Errand, count: int, seconds: float
    ) -> Conversation[None]:
        if target.plain_get:
            yield from get_what_is_there(target, errand, count)
            return
        reply = yield dump((target.ident, "get", (seconds > 0, seconds), {}))
        while is_value(reply):
            errand.received.append(StockReceived(target, reply))
            if errand.left or len(errand.received) == count:
                return
            reply = yield dump((target.ident, "get", (False,), {}))
        try:
            load_queue_reply(reply)
        except TypeError as exc:
            if not (yield from learn_to_get(target, exc)):
                raise

    def interrupt(self) -> None:
        """The slice that is under way goes on: its thread at the host would take the next item in
        any case. What it brings is kept."""

    def _hand_out(self, received: StockReceived) -> Received:
        """It is the engine's caller's. `moving` is held."""
        received.handle = received.order = next(self._ids)
        received.attempt = 1 + max(received.attempt, self._keeping.undecoded.attempts(received))
        self._held.out[received.handle] = received
        return received

    # -- settling -----------------------------------------------------------------------------

    def settle(
        self, settlements: Sequence[Settlement], channel: str = "settle"
    ) -> Future[list[bool]]:
        return start_detached(lambda: self._settle(settlements))

    async def _settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        answers: list[bool] = []
        done = 0
        for handle, action, delay in settlements:
            with self._held.moving:
                received = self._held.out.pop(handle, None)
                if received is not None and action != "ack":
                    received.attempt -= action == "return"
                    self._keeping.keep(received, delay, rejected=action == "reject")
            # What a host had given out that is not there any more is not to be counted at another.
            settled = received is not None and (action != "ack" or not self._is_gone(received))
            answers.append(settled)
            if received is not None and settled and action == "ack":
                done += 1
                self._keeping.undecoded.forget(received)
        if done:
            target = await self._object.found()
            if "task_done" in target.methods:
                await self.task_done(done)
        return answers

    def _is_gone(self, received: StockReceived) -> bool:
        target = self._held.target
        return target is not None and received.target is not target

    def take(self, received: Sequence[Received], channel: str) -> Future[list[bool]]:
        return filled([one.handle in self._held.out for one in received])

    def handed_out(self, received: Sequence[Received]) -> None:
        for one in received:
            if self._held.out.pop(one.handle, None) is None:
                raise closed()

    def left(self, received: Received) -> None:
        assert isinstance(received, StockReceived)
        self._held.out[received.handle] = received
        if self._held.given_up:
            self._held.leave()

    def restore(self, received: Received, *, rejected: bool = False) -> Future[bool]:
        assert isinstance(received, StockReceived)
        with self._held.moving:
            if self._held.out.pop(received.handle, None) is None:
                return filled(False)
            received.attempt -= not rejected
            self._keeping.keep(received, 0.0, rejected=rejected)
        return filled(True)

    async def aclose(self) -> None:
        with self._held.moving:
            for received in list(self._held.out.values()):
                self._keeping.keep(received, 0.0)
            self._held.out.clear()
        await self._keeping.aclose()

    async def end(self) -> None:
        """Give back the reference that the host counts for this engine, which is used no more."""
        if self._keeping:
            self._held.leave()
        elif not self._held.given_up:
            await self._object.give_up()
            self._held.leave()  # nothing is left

    # -- the rest -----------------------------------------------------------------------------

    async def task_done(self, count: int) -> list[Exception | None]:
        outcomes: list[Exception | None] = []

        def conversation(target: Target) -> Conversation[None]:
            while len(outcomes) < count:
                try:
                    yield from target.call("task_done")
                    outcomes.append(None)
                except ValueError:
                    outcomes.extend(counted(0, count - len(outcomes)))
                except Exception as exc:
                    if target.is_unknown(exc):
                        raise
                    outcomes.append(exc)

        target = await self._object.found()
        if "task_done" not in target.methods:
            raise ConfigurationError("this queue has no task_done(): it is not a joinable one")
        try:
            await self._object.run(target, conversation, 0.0)
        except ObjectGoneError:
            # At the host's next run there are only other items, which others have.
            outcomes.extend(_gone() for _ in range(count - len(outcomes)))
        except ConnectionLostError as exc:
            outcomes.append(exc)
            outcomes.extend(_not_sent(exc) for _ in range(count - len(outcomes)))
        return outcomes

    async def join(self) -> None:
        await self._joins.submit(None)

    def _join(self, joiners: Sequence[None]) -> Future[Sequence[None]]:
        # The standard library has no join with a timeout. It holds a thread at the host until all
        # is done, so there is one for all who wait; those who come later get one after it.
        return start_detached(self._object.join).map(lambda _: joiners)

    async def ask(self, what: Literal["qsize", "empty", "full", "maxsize"]) -> Any:
        answer = await self._object.ask(what, missing=f"this queue's host does not tell its {what}")
        if what == "qsize":
            return answer + len(self._keeping)
        return answer and not self._keeping if what == "empty" else answer

    async def shutdown(self, immediate: bool) -> None:
        await self._object.ask(
            "shutdown",
            immediate,
            missing="this queue's host cannot shut it down: it needs Python 3.13 or a host of "
            "aiomanager's; put a sentinel for each consumer instead",
        )

    async def statistics(self) -> dict[str, Any]:
        return {"qsize": await self.ask("qsize")}

    def _slice_until(self, deadline: float | None) -> float:
        if deadline is None:
            return self._slice
        return max(0.0, min(self._slice, deadline - anyio.current_time()))


def _not_sent(error: ConnectionLostError) -> ConnectionLostError:
    """The error of a call that stands behind one whose connection was lost."""
    return ConnectionLostError(f"this call was not sent, as one before it failed: {error}")


def _gone() -> LeaseLostError:
    return LeaseLostError("the host was restarted, and the item is gone with its queue")
