"""Puts between their callers and the engine."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import partial

import anyio

from ._batches import Batcher
from ._errors import ConnectionLostError, QueueFull
from ._slots import Slot, filled
from ._tasks import spawn
from .engines.base import BATCH_BYTES, QueueEngine

# What one batch holds at most, beside its bytes: a caller waits for the whole batch that its item
# travels in.
BATCH_ITEMS = 1024


class _Blocked:
    """A put that found the queue full and waits for room."""

    def __init__(self, frames: Sequence[bytes], deadline: float | None) -> None:
        self.frames = frames
        self.deadline = deadline
        self.at_host = anyio.Event()
        self.slot: Slot[int] = Slot()


# Frames on their way to the host: with when their time is up, and whether they wait for room.
_Put = tuple[Sequence[bytes], float | None, bool]


class Outbox:
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
        )
        self._blocked: deque[_Blocked] = deque()
        self._waiting = False
        self._at_host: _Blocked | None = None  # the one whose wait is there

    async def put(self, frames: Sequence[bytes], timeout: float | None) -> None:
        """Put frames in order; raises `QueueFull` where not all found room in time."""
        deadline = None if timeout is None else anyio.current_time() + timeout
        put = frames, deadline, timeout != 0
        outcome = await self._batcher.submit_soon(put, self._leave).wait()
        if isinstance(outcome, _Blocked):
            accepted = len(frames) - len(outcome.frames) + await self._wait_for_room(outcome)
        else:
            accepted = outcome
        if accepted < len(frames):
            raise full(len(frames), accepted)

    async def drained(self) -> None:
        """Wait until no put is on its way, and give up what waits for room, also at the host."""
        await self._batcher.drained()
        error = ConnectionLostError("this manager is closed")
        waiting = [*self._blocked, *([self._at_host] if self._at_host is not None else [])]
        self._blocked.clear()
        for blocked in waiting:
            blocked.at_host.set()
            blocked.slot.set(error)
        if self._at_host is not None:
            self._engine.interrupt_put()

    # -- inside -------------------------------------------------------------------------------

    def _send(self, puts: Sequence[_Put]) -> Slot[list[int | _Blocked | Exception]]:
        # While others wait for room, whoever would wait as well goes behind them.
        behind = self._waiting
        frames = [frame for put in puts if not (behind and put[2]) for frame in put[0]]
        if not frames:
            return filled(self._shares(puts, behind, 0, (0, None)))
        shares = partial(self._shares, puts, behind, len(frames))
        return self._engine.put(frames, 0, "put").map(shares)

    def _shares(
        self, puts: Sequence[_Put], behind: bool, sent: int, put: tuple[int, Exception | None]
    ) -> list[int | _Blocked | Exception]:
        """What each of the puts has of what the host has taken of all that was sent."""
        accepted, error = put
        if accepted == sent and not behind:
            return [len(frames) for frames, _, _ in puts]  # as nearly always
        outcomes: list[int | _Blocked | Exception] = []
        for frames, deadline, waits in puts:
            if behind and waits:
                outcomes.append(self._block(frames, deadline))
                continue
            mine = min(accepted, len(frames))
            accepted -= mine
            if mine == len(frames):
                outcomes.append(mine)
            elif error is not None:
                outcomes.append(error)
            else:
                outcomes.append(self._block(frames[mine:], deadline) if waits else mine)
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
            return await blocked.slot.wait()
        finally:
            self._leave(blocked)

    def _leave(self, blocked: _Blocked | int) -> None:
        if isinstance(blocked, int) or blocked.slot.filled:
            return
        if blocked.at_host.is_set():
            self._engine.interrupt_put()
        else:
            self._blocked.remove(blocked)

    async def _wait_at_host(self) -> None:
        while self._blocked:
            self._at_host = blocked = self._blocked.popleft()
            blocked.at_host.set()
            try:
                accepted, error = await self._put_waiting(blocked)
            except Exception as exc:
                accepted, error = 0, exc
            if not blocked.slot.filled:
                blocked.slot.set(accepted if error is None else error)
        self._at_host = None
        self._waiting = False

    async def _put_waiting(self, blocked: _Blocked) -> tuple[int, Exception | None]:
        accepted = 0
        while True:
            putting = self._engine.put(
                blocked.frames[accepted:], _remaining(blocked.deadline), "blocked put"
            )
            count, error = await putting.wait()
            accepted += count
            if error is not None or accepted == len(blocked.frames):
                return accepted, error
            # A wait at the host also ends, with what it has, where its connection does.
            in_time = blocked.deadline is None or anyio.current_time() < blocked.deadline
            if blocked.slot.abandoned or blocked.slot.filled or not in_time:
                return accepted, None


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
