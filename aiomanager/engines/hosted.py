"""A queue of a host of ours: batches, leases, and requests that may be repeated."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from typing import Any

from .._concurrency.event_loop import call_later
from .._concurrency.futures import Future
from .._ground.buffers import Buffer
from .._ground.errors import (
    AioManagerError,
    ConfigurationError,
    ConnectionLostError,
    LeaseLostError,
)
from .._transport.session import Session
from .._wire.framing import MESSAGE_LIMIT
from .._wire.messages import NOT_HERE
from .._wire.requests import pack_ids, pack_settlements
from .base import (
    ALL_COUNTS,
    BATCH_BYTES,
    Promises,
    QueueEngine,
    Received,
    Settlement,
    Ticket,
    counted,
)

# Seconds after which the host is told that the answer of a take was read, where nothing that is
# asked of it meanwhile has said so. A process that is killed before that, or while nobody can tell
# the host, has taken nothing: the item is handed out again.
TOLD_WITHIN = 0.005


class Reads:
    """The channels of one queue where the answer of a take has come, and the host does not know
    that it has: until it does, it keeps the items for this process to ask again, and hands them
    out again where this process does not come back."""

    def __init__(self, session: Session, ident: str, channels: set[str]) -> None:
        self._session = session
        self._ident = ident
        self._channels = channels
        self._waiting = False

    def add(self, channel: str) -> None:
        """The answer of a take has come in a channel."""
        self._channels.add(channel)
        if not self._waiting:
            self._waiting = True
            call_later(TOLD_WITHIN, self._tell_now)

    def pop(self) -> tuple[str, ...]:
        """What a request is to say."""
        if not self._channels:
            return ()
        channels = tuple(sorted(self._channels))
        self._channels.clear()
        return channels

    def tell(self) -> Future[Any] | None:
        """Say so with a request of its own, if there is something to say."""
        if not self._channels:
            return None
        return self._session.ask(self._ident, "read", self.pop())[1]

    def _tell_now(self) -> None:
        self._waiting = False
        self.tell()


class HostedEngine(QueueEngine):
    """Talks to one hosted queue.

    Args:
        ident: the queue's id at the host.
        message_limit: bytes of the largest message that the host takes.
        threads: a message of the session goes through a thread, which costs more than all else.
    """

    promises = Promises(
        durable=False,
        redelivered="first",
        lease="connection",
        fencing=True,
        bound="waiting",
        fair=True,
        atomic_move=True,
        put_once=True,
        shutdown=True,
        counts=ALL_COUNTS,
    )

    def __init__(
        self,
        session: Session,
        ident: str,
        message_limit: int = MESSAGE_LIMIT,
        *,
        threads: bool = False,
    ) -> None:
        self.messages_are_cheap = not threads
        self.patience = session.patience
        # A frame may share its message with a batch of small ones.
        self.frame_limit = message_limit - 2 * BATCH_BYTES
        self._session = session
        self._ident = ident
        self._numbers = itertools.count(1)
        # The ids of the last requests that may wait at the host. To cancel one that has been
        # answered changes nothing.
        self._putting: int | None = None
        self._receiving: int | None = None
        self._held = session.farewell.queue(ident)
        self._reads = Reads(session, ident, self._held.untold)

    def put(
        self, frames: Sequence[bytes], timeout: float | None, ticket: Ticket
    ) -> Future[tuple[int, Exception | None]]:
        waits = timeout != 0
        # The session stands for the producer.
        request_id, future = self._session.ask(
            self._ident, "put", timeout, frames=frames, numbered=ticket[1:], waits=waits
        )
        if waits:
            self._putting = request_id
        return future.map(lambda accepted: (accepted, None), _explained)

    def interrupt_put(self) -> None:
        self._cancel(self._putting)

    def receive(self, count: int, timeout: float | None) -> Future[list[Received]]:
        waits = timeout != 0
        read = self._reads.pop()
        args = (count, timeout, read) if read else (count, timeout)
        request_id, future = self._session.ask(self._ident, "receive", *args, waits=waits)
        if waits:
            self._receiving = request_id
        return future.map(_received, _explained)

    def interrupt(self) -> None:
        self._cancel(self._receiving)

    def settle(
        self, settlements: Sequence[Settlement], channel: str = "settle"
    ) -> Future[list[bool]]:
        return self._change(channel, "settle", frames=[pack_settlements(settlements)])[1]

    def take(self, received: Sequence[Received], channel: str) -> Future[list[bool]]:
        held = self._held
        ids = [one.handle for one in received]
        future = self._change(channel, "take", frames=[pack_ids(ids)])[1]

        def taken(answers: list[bool]) -> list[bool]:
            held.reads[channel] = ids[-1]
            self._reads.add(channel)
            for one, is_ours in zip(received, answers, strict=True):
                if is_ours:
                    held.taken[one.handle] = one, False
            self._count(self._session.host_run, sum(answers))
            return answers

        return held.until_answered(future).map(taken)

    def handed_out(self, received: Sequence[Received]) -> None:
        taken = self._held.taken
        for one in received:
            if taken.pop(one.handle, None) is None:
                raise ConnectionLostError("this item went back, as the event loop was given up")

    def left(self, received: Received) -> None:
        self._held.taken.setdefault(received.handle, (received, False))

    def restore(self, received: Received, *, rejected: bool = False) -> Future[bool]:
        taken = self._held.taken
        if rejected:
            taken[received.handle] = received, True

        def restored(was_ours: bool) -> bool:
            taken.pop(received.handle, None)
            return was_ours

        args = (received.handle, received.attempt, rejected)
        _, future = self._change("restore", "restore", *args, frames=[received.data])
        if self._held.undone:
            self._held.undone[-1][1] -= 1  # what is restored was taken last
            if not self._held.undone[-1][1]:
                self._held.undone.pop()
        return future.map(restored)

    @property
    def lease_holder(self) -> object:
        return self._session.connection or self._session

    @property
    def host(self) -> object:
        return self._session

    async def move(self, received: Received, target: str, frame: bytes) -> bool:
        _, future = self._change("move", "move", received.handle, target, frames=[frame])
        moved: bool = await future.map(bool, _explained).wait()
        return moved

    async def task_done(self, count: int) -> list[Exception | None]:
        self._session.check_open()
        outcomes: list[Exception | None] = []
        while self._held.undone and len(outcomes) < count:
            run, taken = self._held.undone[0]
            asked = min(taken, count - len(outcomes))
            self._held.undone[0][1] -= asked
            if taken == asked:
                self._held.undone.popleft()
            args = (asked, run, self._reads.pop())
            try:
                future = self._change("task_done", "task_done", *args)[1]
                done = await self._held.until_answered(future).wait()
            except Exception:
                self._count(run, asked, first=True)  # as it was, for whoever tries it again
                raise
            lost = [_lost() for _ in range(asked - done)]
            outcomes += [*[None] * done, *lost]
        return [*outcomes, *counted(0, count - len(outcomes))]

    def _count(self, run: object, count: int, *, first: bool = False) -> None:
        """Count items that were taken in a run of the host."""
        end = 0 if first else -1
        if self._held.undone and self._held.undone[end][0] == run:
            self._held.undone[end][1] += count
        elif count:
            (self._held.undone.appendleft if first else self._held.undone.append)([run, count])

    async def join(self) -> None:
        request_id, future = self._session.ask(self._ident, "join", waits=True)
        try:
            await future.map(bool, _explained).wait()
        except BaseException:
            self._cancel(request_id)
            raise

    async def ask(self, what: str) -> Any:
        return await self._look(what)

    async def shutdown(self, immediate: bool) -> None:
        await self._look("shutdown", immediate)

    async def statistics(self) -> dict[str, Any]:
        counts: dict[str, Any] = await self._look("statistics")
        return counts

    async def aclose(self) -> None:
        """Tell the host what was read; what is not settled returns when the session's connection
        closes."""
        told = self._reads.tell()
        if told is not None:
            with contextlib.suppress(AioManagerError):
                await told.wait()

    def _change(
        self,
        channel: str,
        method: str,
        *args: Any,
        frames: Sequence[Buffer] = (),
        waits: bool = False,
    ) -> tuple[int, Future[Any]]:
        """Ask for a change. The host remembers one answer for each channel: that of the call
        before, which is over when the next one comes."""
        numbered = (channel, next(self._numbers))
        return self._session.ask(
            self._ident, method, *args, frames=frames, numbered=numbered, waits=waits
        )

    async def _look(self, method: str, *args: Any) -> Any:
        _, future = self._session.ask(self._ident, method, *args)
        return await future.map(lambda answer: answer, _explained).wait()

    def _cancel(self, request_id: int | None) -> None:
        if request_id is not None:
            self._session.ask(self._ident, "cancel", request_id)


def _lost() -> LeaseLostError:
    return LeaseLostError(
        "this item is not this process's any more: its host was started again since it was taken, "
        "or this process was away for longer than its host remembers it"
    )


def _received(deliveries: list[tuple[int, int, bytes]]) -> list[Received]:
    return [Received(number, number, attempt, data) for number, attempt, data in deliveries]


def _explained(error: Exception) -> Exception:
    """A host says by its error where it has no such queue; the user asked for the wrong name."""
    return ConfigurationError(error.args[0]) if hasattr(error, NOT_HERE) else error
