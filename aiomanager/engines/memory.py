"""A queue in this process, with the semantics of a hosted one: for tests of users' programs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakSet

import anyio

from .._errors import ConfigurationError, ConnectionLostError
from .._hosted import HostedQueue
from .._slots import Slot, filled
from .._tasks import spawn
from .base import QueueEngine, Received, Settlement, count_done


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
        self.clients: WeakSet[MemoryClient] = WeakSet()
        self.is_shut_down = False

    def shutdown(self) -> None:
        """End for all clients; their calls under way raise `ConnectionLostError`."""
        self.is_shut_down = True
        for client in list(self.clients):
            client.close("the host was shut down")

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


class MemoryClient:
    """One manager at a memory host: the owner of what it leases and waits for."""

    def __init__(self, host: MemoryHost) -> None:
        self._host: MemoryHost | None = host
        self._waiting: WeakSet[Slot[Any]] = WeakSet()
        self._why = "this manager is closed"
        host.clients.add(self)

    @property
    def host(self) -> MemoryHost:
        if self._host is None:
            raise ConnectionLostError(self._why)
        return self._host

    def slot(self) -> Slot[Any]:
        """A slot for what the host answers."""
        slot: Slot[Any] = Slot()
        self._waiting.add(slot)
        return slot

    def close(self, why: str = "this manager is closed") -> None:
        """Leave; calls under way raise `ConnectionLostError`."""
        if self._host is None:
            return
        host, self._host, self._why = self._host, None, why
        for slot in list(self._waiting):
            if not slot.filled:
                slot.set(ConnectionLostError(why, outcome_known=False))
        host.owner_lost(self)


class MemoryEngine(QueueEngine):
    """One client's view of a hosted queue in the same process."""

    def __init__(self, client: MemoryClient, name: str) -> None:
        self._client = client
        self._name = name
        self._receiving: object = None
        self._putting: object = None

    @property
    def _hosted(self) -> HostedQueue:
        return self._client.host.queue(self._name)

    def put(
        self, frames: Sequence[bytes], timeout: float | None, channel: str
    ) -> Slot[tuple[int, Exception | None]]:
        slot: Slot[int] = self._client.slot()
        if timeout != 0:
            self._putting = slot
        self._hosted.put(frames, timeout, _reply(slot), owner=self._client, ticket=slot)
        return slot.map(lambda accepted: (accepted, None))

    def interrupt_put(self) -> None:
        self._cancel(self._putting)

    def receive(self, count: int, timeout: float | None) -> Slot[list[Received]]:
        slot: Slot[list[tuple[int, int, bytes]]] = self._client.slot()
        if timeout != 0:
            self._receiving = slot
        self._hosted.receive(count, timeout, _reply(slot), owner=self._client, ticket=slot)
        return slot.map(lambda deliveries: [Received(*delivery) for delivery in deliveries])

    def interrupt(self) -> None:
        self._cancel(self._receiving)

    def settle(
        self, settlements: Sequence[Settlement], channel: str = "settle"
    ) -> Slot[list[bool]]:
        return filled(self._hosted.settle(settlements, owner=self._client))

    def take(self, delivery_ids: Sequence[int], channel: str) -> Slot[list[bool]]:
        return filled(self._hosted.take(delivery_ids, owner=self._client))

    def restore(self, received: Received) -> Slot[None]:
        self._hosted.restore(bytes(received.data), received.attempt)
        return filled(None)

    @property
    def lease_holder(self) -> object:
        return self._client

    @property
    def host(self) -> object:
        return self._client.host

    async def move(self, delivery_id: int, target: str, frame: bytes) -> bool:
        hosted = self._client.host.queue(target)
        return self._hosted.move(delivery_id, hosted, frame, owner=self._client)

    async def task_done(self, count: int) -> int:
        async def count_at_once(done: int) -> None:
            self._hosted.task_done(done)

        return await count_done(count, count_at_once)

    async def join(self) -> None:
        slot: Slot[bool] = self._client.slot()
        self._hosted.join(None, _reply(slot), owner=self._client, ticket=slot)
        try:
            await slot.wait()
        except BaseException:
            self._cancel(slot)
            raise

    async def ask(self, what: str) -> Any:
        value = getattr(self._hosted, what)
        return value() if callable(value) else value

    async def shutdown(self, immediate: bool) -> None:
        self._hosted.shutdown(immediate)

    async def statistics(self) -> dict[str, Any]:
        return self._hosted.statistics()

    async def aclose(self) -> None:
        """Nothing is held here: what is not settled returns when the manager closes."""

    def _cancel(self, ticket: object) -> None:
        # Without a ticket nothing waits; after the end nothing does either.
        if ticket is not None:
            with contextlib.suppress(ConnectionLostError):
                self._hosted.cancel(self._client, ticket)


def _reply(slot: Slot[Any]) -> Callable[[Any], bool]:
    def reply(answer: Any) -> bool:
        slot.set(answer)
        return True

    return reply
