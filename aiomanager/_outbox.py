"""Puts between their callers and the engine."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import anyio

from ._errors import QueueFull
from ._tasks import Batcher, Slot, spawn
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


class Outbox:
    """Everything that waits goes as one batch; what does not fit waits for room, in order, one
    put at the host at a time."""

    def __init__(self, engine: QueueEngine) -> None:
        self._engine = engine
        self._batcher: Batcher[Sequence[bytes], int] = Batcher(
            self._send, limit=BATCH_ITEMS, size=_size, size_limit=BATCH_BYTES
        )
        self._blocked: deque[_Blocked] = deque()
        self._waiting = False

    async def put(self, frames: Sequence[bytes], timeout: float | None) -> None:
        """Put frames in order; raises `QueueFull` where not all found room in time."""
        deadline = None if timeout is None else anyio.current_time() + timeout
        accepted = 0
        if timeout == 0 or not self._waiting:  # else others came first
            accepted = await self._batcher.submit(frames)
        if accepted < len(frames) and timeout != 0:
            accepted += await self._wait_for_room(frames[accepted:], deadline)
        if accepted < len(frames):
            raise full(len(frames), accepted)

    async def drained(self) -> None:
        """Wait until no put is on its way."""
        await self._batcher.drained()

    # -- inside -------------------------------------------------------------------------------

    def _send(self, entries: Sequence[Sequence[bytes]]) -> Slot[list[int | Exception]]:
        frames = [frame for entry in entries for frame in entry]

        def share(outcome: tuple[int, Exception | None]) -> list[int | Exception]:
            accepted, error = outcome
            outcomes: list[int | Exception] = []
            for entry in entries:
                mine = min(accepted, len(entry))
                accepted -= mine
                outcomes.append(mine if mine == len(entry) or error is None else error)
            return outcomes

        return self._engine.put(frames, 0, "put").map(share)

    async def _wait_for_room(self, frames: Sequence[bytes], deadline: float | None) -> int:
        blocked = _Blocked(frames, deadline)
        self._blocked.append(blocked)
        if not self._waiting:
            self._waiting = True
            spawn(self._wait_at_host)
        try:
            with anyio.move_on_after(_remaining(deadline)):
                await blocked.at_host.wait()
            if not blocked.at_host.is_set():
                return 0
            # From here on the host watches the time: it alone knows whether there was room.
            return await blocked.slot.wait()
        finally:
            if not blocked.at_host.is_set():
                self._blocked.remove(blocked)
            elif not blocked.slot.filled:
                self._engine.interrupt_put()

    async def _wait_at_host(self) -> None:
        while self._blocked:
            blocked = self._blocked.popleft()
            blocked.at_host.set()
            try:
                putting = self._engine.put(
                    blocked.frames, _remaining(blocked.deadline), "blocked put"
                )
                accepted, error = await putting.wait()
            except Exception as exc:
                accepted, error = 0, exc
            if error is None:
                blocked.slot.set(accepted)
            else:
                blocked.slot.fail(error)
        self._waiting = False


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


def _size(entry: Sequence[bytes]) -> int:
    return sum(map(len, entry))


def full(count: int, accepted: int) -> QueueFull:
    """The error of a put of `count` items of which there was room for `accepted`."""
    if count == 1:
        return QueueFull("the queue is full")
    error = QueueFull(f"the queue is full; the first {accepted} of {count} items were put")
    error.accepted = accepted
    return error
