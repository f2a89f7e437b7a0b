"""A queue in this process, with the semantics of a hosted one: for tests of users' programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import anyio

from .._errors import ConfigurationError
from .._hosted import HostedQueue
from .._tasks import Slot, spawn
from .base import QueueEngine, Received, Settlement


class LoopTimer:
    """A call at a time, on the event loop."""

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self._when = when
        self._callback = callback
        self._scope = anyio.CancelScope()
        spawn(self._run)

    def cancel(self) -> None:
        self._scope.cancel()

    async def _run(self) -> None:
        with self._scope:
            await anyio.sleep_until(self._when)
            self._callback()


class LoopTimers:
    """The event loop's clock, as `HostedQueue` wants it."""

    def time(self) -> float:
        return anyio.current_time()

    def call_at(self, when: float, callback: Callable[[], None]) -> LoopTimer:
        return LoopTimer(when, callback)


class MemoryEngine(QueueEngine):
    """One client's view of a hosted queue in the same process.

    Args:
        owner: whose leases these are.
    """

    def __init__(self, memory: MemoryHost, name: str, owner: object) -> None:
        self._memory = memory
        self._hosted = memory.queue(name)
        self._owner = owner
        self._receiving: object = None
        self._putting: object = None

    async def put(
        self, frames: Sequence[bytes], timeout: float | None, channel: str
    ) -> tuple[int, Exception | None]:
        slot: Slot[int] = Slot()
        if timeout != 0:
            self._putting = slot
        self._hosted.put(frames, timeout, _reply(slot), owner=self._owner, ticket=slot)
        return await slot.wait(), None

    def interrupt_put(self) -> None:
        self._hosted.cancel(self._owner, self._putting)

    async def receive(self, count: int, timeout: float | None) -> list[Received]:
        slot: Slot[list[tuple[int, int, bytes]]] = Slot()
        if timeout != 0:
            self._receiving = slot
        self._hosted.receive(count, timeout, _reply(slot), owner=self._owner, ticket=slot)
        return [Received(*delivery) for delivery in await slot.wait()]

    def interrupt(self) -> None:
        self._hosted.cancel(self._owner, self._receiving)

    async def settle(
        self, settlements: Sequence[Settlement], channel: str = "settle"
    ) -> list[bool]:
        return self._hosted.settle(settlements, owner=self._owner)

    async def restore(self, received: Received) -> None:
        self._hosted.restore(bytes(received.data), received.attempt)

    @property
    def host(self) -> object:
        return self._memory

    async def move(self, delivery_id: int, target: str, frame: bytes) -> bool:
        return self._hosted.move(delivery_id, self._memory.queue(target), frame, owner=self._owner)

    async def task_done(self, count: int) -> None:
        self._hosted.task_done(count)

    async def join(self) -> None:
        slot: Slot[bool] = Slot()
        self._hosted.join(None, _reply(slot), owner=self._owner)
        await slot.wait()

    async def ask(self, what: str) -> Any:
        value = getattr(self._hosted, what)
        return value() if callable(value) else value

    async def shutdown(self, immediate: bool) -> None:
        self._hosted.shutdown(immediate)

    async def statistics(self) -> dict[str, Any]:
        return self._hosted.statistics()

    async def aclose(self) -> None:
        """Nothing is held here: what is not settled returns when the manager closes."""


class MemoryHost:
    """The queues of one `memory://` address.

    Args:
        queues: name to maxsize. Others come into being when they are asked for, where none is
            given.
    """

    def __init__(self, queues: dict[str, int] | None) -> None:
        self._timers = LoopTimers()
        self._on_demand = queues is None
        self._queues = {
            name: HostedQueue(self._timers, maxsize) for name, maxsize in (queues or {}).items()
        }

    def queue(self, name: str) -> HostedQueue:
        if name not in self._queues:
            if not self._on_demand:
                known = ", ".join(sorted(self._queues)) or "nothing"
                raise ConfigurationError(
                    f"no queue or object is registered here as {name!r}; there is: {known}"
                )
            self._queues[name] = HostedQueue(self._timers)
        return self._queues[name]

    def owner_lost(self, owner: object) -> None:
        for hosted in self._queues.values():
            hosted.owner_lost(owner)


def _reply(slot: Slot[Any]) -> Callable[[Any], bool]:
    def reply(answer: Any) -> bool:
        if isinstance(answer, Exception):
            slot.fail(answer)
        else:
            slot.set(answer)
        return True

    return reply
