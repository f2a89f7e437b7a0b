"""Puts between their callers and the engine."""

from __future__ import annotations

import contextlib
import itertools
import uuid
from collections import deque
from collections.abc import Sequence
from functools import partial

import anyio

from .._concurrency.batching import Batcher
from .._concurrency.event_loop import spawn
from .._concurrency.futures import Failure, Future, filled
from .._ground.errors import ConnectionLostError, QueueFull, unanswered
from ..engines.base import ANSWER_GRACE, BATCH_BYTES, QueueEngine, Ticket

# What one batch holds at most, beside its bytes: a caller waits for the whole batch that its item
# travels in.
BATCH_ITEMS = 1024


class _Blocked:
    """A put that found the queue full and waits for room."""

    def __init__(self, frames: Sequence[bytes], deadline: float | None) -> None:
        self.frames = frames
        self.deadline = deadline
        self.at_host = anyio.Event()
        self.future: Future[int] = Future()


# Frames on their way to the host: with when their time is up, and whether they wait for room.
_Put = tuple[Sequence[bytes], float | None, bool]

# How many frames of a put were appended, or what it waits for, or an error.
_Outcome = int | _Blocked | Failure


class Sender:
    """Everything that waits goes as one batch; what does not fit waits for room, in order, one
    put at the host at a time."""

    def __init__(self, engine: QueueEngine) -> None:
        self._engine = engine
        self._batcher: Batcher[_Put, int | _Blocked] = Batcher(
            self._send,
            limit=BATCH_ITEMS,
            size=_size,
            size_limit=BATCH_BYTES,
            revocable=True,
            patience=engine.patience,
        )
        self._producer = uuid.uuid4().hex
        self._numbers = itertools.count(1)
        self._blocked: deque[_Blocked] = deque()
        self._waiting = False
        self._at_host: _Blocked | None = None  # the one whose wait is there
        self._closing = False
        self._nobody_waits: anyio.Event | None = None  # there while somebody waits for that

    async def put(self, frames: Sequence[bytes], timeout: float | None) -> None:
        """Put frames in order; raises `QueueFull` where not all found room in time.

        With a timeout it ends by `ANSWER_GRACE` after that, also where the host does not answer.
        What it raises says by `accepted` how many frames were put, where that is known.
        """
        deadline = None if timeout is None else anyio.current_time() + timeout
        putting = self._batcher.submit_soon((frames, deadline, timeout != 0), self._leave)
        if timeout is None:  # a scope costs as much as all the rest
            outcome = await putting.wait()
            if outcome != len(frames):
                await self._put_rest(frames, outcome)
            return
        with anyio.move_on_after(timeout + ANSWER_GRACE):
            outcome = await putting.wait()
            if outcome != len(frames):
                await self._put_rest(frames, outcome)
            return
        raise unanswered(timeout + ANSWER_GRACE, sent=putting.sent)

    async def drained(self) -> None:
        """Wait until no put is on its way, and give up what waits for room, also at the host."""
        await self._batcher.drained()
        self._closing = True
        while self._blocked:
            blocked = self._blocked.popleft()
            blocked.at_host.set()
            blocked.future.set_exception(_closed())
        if self._waiting:
            # How much of it the host has taken is known when it has answered.
            self._engine.interrupt_put()
            self._nobody_waits = anyio.Event()
            await self._nobody_waits.wait()

    # -- inside -------------------------------------------------------------------------------

    async def _put_rest(self, frames: Sequence[bytes], outcome: int | _Blocked) -> None:
        if isinstance(outcome, int):
            accepted = outcome
        else:
            before = len(frames) - len(outcome.frames)
            try:
                accepted = before + await self._wait_for_room(outcome)
            except Exception as exc:
                say_accepted(exc, before)
                raise
        if accepted < len(frames):
            raise full(len(frames), accepted)

    def _ticket(self, channel: str) -> Ticket:
        return Ticket(self._producer, channel, next(self._numbers))

    def _send(self, puts: Sequence[_Put]) -> Future[list[_Outcome]]:
        # While others wait for room, whoever would wait as well goes behind them.
        behind = self._waiting
        sent = [put for put in puts if not (behind and put[2])]
        if not sent:
            return filled([self._block(frames, deadline) for frames, deadline, _ in puts])
        putting = self._engine.put_each([frames for frames, _, _ in sent], 0, self._ticket("put"))
        return putting.map(partial(self._shares, puts, behind))

    def _shares(
        self,
        puts: Sequence[_Put],
        behind: bool,
        shares: Sequence[tuple[int, Exception | None]] | None,
    ) -> list[_Outcome]:
        """What has come of each of the puts, of which those that were sent have a share."""
        if shares is None and not behind:
            return [len(frames) for frames, _, _ in puts]  # as nearly always
        if shares is None:
            shares = [(len(put[0]), None) for put in puts if not put[2]]
        mine = iter(shares)
        outcomes: list[_Outcome] = []
        for frames, deadline, waits in puts:
            if behind and waits:
                outcomes.append(self._block(frames, deadline))
                continue
            accepted, error = next(mine)
            if accepted == len(frames):
                outcomes.append(accepted)
            elif error is not None:
                say_accepted(error, accepted)
                outcomes.append(Failure(error))
            else:
                outcomes.append(self._block(frames[accepted:], deadline) if waits else accepted)
        return outcomes

    def _block(self, frames: Sequence[bytes], deadline: float | None) -> _Blocked:
        # Here and not by whoever waits, as the order in which tasks wake is the event loop's.
        blocked = _Blocked(frames, deadline)
        self._blocked.append(blocked)
        if not self._waiting:
            self._waiting = True
            spawn(self._wait_at_host)
        return blocked

    async def _wait_for_room(self, blocked: _Blocked) -> int:
        try:
            with anyio.move_on_after(_remaining(blocked.deadline)):
                await blocked.at_host.wait()
            if not blocked.at_host.is_set():
                return 0
            # From here on the host watches the time: it alone knows whether there was room.
            return await blocked.future.wait()
        finally:
            self._leave(blocked)

    def _leave(self, blocked: _Blocked | int) -> None:
        if isinstance(blocked, int) or blocked.future.filled:
            return
        if blocked.at_host.is_set():
            self._engine.interrupt_put()
        else:
            with contextlib.suppress(ValueError):
                self._blocked.remove(blocked)

    async def _wait_at_host(self) -> None:
        try:
            while self._blocked:
                self._at_host = blocked = self._blocked.popleft()
                blocked.at_host.set()
                await self._put_waiting(blocked)
        finally:
            self._at_host = None
            self._waiting = False
            if self._nobody_waits is not None:
                self._nobody_waits.set()

    async def _put_waiting(self, blocked: _Blocked) -> None:
        accepted = 0
        error: Exception | None = None
        while error is None and accepted < len(blocked.frames):
            try:
                putting = self._engine.put(
                    blocked.frames[accepted:],
                    _remaining(blocked.deadline),
                    self._ticket("blocked put"),
                )
                count, error = await putting.wait()
            except Exception as exc:
                count, error = 0, exc
            accepted += count
            # A wait at the host also ends, with what it has, where its connection does.
            in_time = blocked.deadline is None or anyio.current_time() < blocked.deadline
            if blocked.future.abandoned or blocked.future.filled or not in_time:
                break
            if self._closing and error is None and accepted < len(blocked.frames):
                error = _closed()
        if error is None:
            blocked.future.set_result(accepted)
        else:
            say_accepted(error, accepted)
            blocked.future.set_exception(error)


def _closed() -> ConnectionLostError:
    return ConnectionLostError("this manager was closed while the put waited for room")


def say_accepted(error: Exception, count: int) -> None:
    """Let an error of a put of several items say how many more of them were put than it says."""
    with contextlib.suppress(AttributeError, TypeError):  # an exception that takes no attribute
        error.accepted = getattr(error, "accepted", 0) + count  # type: ignore[attr-defined]


def _remaining(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.001, deadline - anyio.current_time())


def first_batch(frames: Sequence[bytes]) -> Sequence[bytes]:
    """As many of the frames as one batch holds."""
    size = 0
    for end, frame in enumerate(frames[:BATCH_ITEMS], 1):
        size += len(frame)
        if size >= BATCH_BYTES:
            return frames[:end]
    return frames[:BATCH_ITEMS]


def _size(put: _Put) -> int:
    frames = put[0]
    return len(frames[0]) if len(frames) == 1 else sum(map(len, frames))


def full(count: int, accepted: int) -> QueueFull:
    """The error of a put of `count` items of which there was room for `accepted`."""
    if count == 1:
        return QueueFull("the queue is full")
    error = QueueFull(f"the queue is full; the first {accepted} of {count} items were put")
    error.accepted = accepted
    return error
