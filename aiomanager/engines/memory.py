"""A queue in this process, with the semantics of a hosted one: for tests of users' programs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any
from weakref import WeakSet, ref

import anyio

from .._broker.outcomes import (
    Accepted,
    Answers,
    Handed,
    Joined,
    Nothing,
    Outcome,
    Refused,
    Returned,
    ShutDown,
)
from .._broker.queue import HostedQueue
from .._concurrency.event_loop import current_loop, has_ended, spawn
from .._concurrency.futures import Future, filled
from .._ground.addresses import Address
from .._ground.errors import ConfigurationError, ConnectionLostError, QueueShutDown
from .._ground.names import not_known
from .base import ALL_COUNTS, Promises, QueueEngine, Received, Settlement, Ticket, counted
from .registry import HostClient


class LoopTimer:
    """A call at a time, on the event loop."""

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self._when = when
        self._callback: Callable[[], None] | None = callback
        self.start()

    def start(self) -> None:
        """Wait, on the running event loop, unless it was called or cancelled."""
        if self._callback is not None:
            self._scope = anyio.CancelScope()
            spawn(self._run)

    def cancel(self) -> None:
        self._callback = None
        self._scope.cancel()

    async def _run(self) -> None:
        with self._scope:
            await anyio.sleep(max(0.0, self._when - monotonic()))
            callback, self._callback = self._callback, None
            if callback is not None:
                callback()


class LoopTimers:
    """A clock, as `HostedQueue` wants it, whose calls come on the running event loop.

    Args:
        afterwards: called after each of them.
    """

    def __init__(self, afterwards: Callable[[], object]) -> None:
        self._afterwards = afterwards
        self._timers: WeakSet[LoopTimer] = WeakSet()

    def time(self) -> float:
        return monotonic()

    def call_at(self, when: float, callback: Callable[[], None]) -> LoopTimer:
        def due() -> None:
            callback()
            self._afterwards()

        timer = LoopTimer(when, due)
        self._timers.add(timer)
        return timer

    def start_again(self) -> None:
        """On another event loop than before, which has ended and its tasks with it."""
        for timer in self._timers:
            timer.start()


class MemoryHost:
    """The queues of one `memory://` address.

    Args:
        queues: name to maxsize. Others come into being when they are asked for, where none is
            given.
    """

    def __init__(self, queues: dict[str, int] | None) -> None:
        self._answers = Answers()
        self._timers = LoopTimers(self.tell_callers)
        self._loop: Callable[[], Any] = lambda: None  # of those who use it
        self._clients: WeakSet[MemoryClient] = WeakSet()
        self._on_demand = queues is None
        self._queues = {
            name: self._hosted(name, maxsize) for name, maxsize in (queues or {}).items()
        }
        self._declared: dict[str, dict[str, Any]] = {}
        self.is_shut_down = False

    def _hosted(self, name: str, maxsize: int = 0, **options: Any) -> HostedQueue:
        return HostedQueue(self._timers, maxsize, name=name, answers=self._answers, **options)

    def tell_callers(self) -> None:
        """Give what the queues have answered to those who wait for it: after each call of one."""
        for caller, outcome in self._answers.drain():
            caller.tell(outcome)

    def shutdown(self) -> None:
        """End for all clients; their calls under way raise `ConnectionLostError`."""
        self.is_shut_down = True
        for client in list(self._clients):
            client.close("the host was shut down")

    def declare(self, name: str, options: Mapping[str, Any]) -> None:
        """Make a queue, unless it is there with the same options."""
        before = self._declared.get(name)
        if before is None and name not in self._queues:
            maxsize, most = options.get("maxsize", 0), options.get("max_deliveries")
            self._queues[name] = self._hosted(
                name,
                maxsize,
                lease_timeout=options.get("lease_timeout"),
                **({} if most is None else {"max_deliveries": most}),
            )
            self._declared[name] = dict(options)
        elif before != options:
            raise ConfigurationError(f"queue {name!r} is here with other options: {before}")

    def queue(self, name: str) -> HostedQueue:
        if name not in self._queues:
            if not self._on_demand:
                raise ConfigurationError(not_known(name, self._queues))
            self._queues[name] = self._hosted(name)
        return self._queues[name]

    def enter(self, client: MemoryClient) -> None:
        """Take in a client of the running event loop; raises `ConfigurationError` where there are
        those of another one, which runs beside it. Where that has ended, they are gone."""
        loop, before = current_loop(), self._loop()
        if before is not loop:
            for other in list(self._clients):
                if before is not None and not has_ended(before):
                    raise ConfigurationError(
                        f"this memory:// host is in use in another event loop ({before}), and "
                        "lives in one at a time; use a host process to share queues between two"
                    )
                other.lose_loop()
            self._loop = ref(loop)
            self._timers.start_again()
        self._clients.add(client)

    def leave(self, client: MemoryClient) -> None:
        """Return what a client has not settled, and end its waits."""
        self._clients.discard(client)
        self.owner_lost(client)

    def owner_lost(self, owner: object) -> None:
        for hosted in self._queues.values():
            hosted.owner_lost(owner)
            hosted.holder_lost(owner)
        self.tell_callers()


# Those with a name, which programs in this process share.
_hosts: dict[str, MemoryHost] = {}


def memory_host(name: str, queues: Mapping[str, int] | None) -> MemoryHost:
    """The host of a name; without a name, a new one."""
    known = None if queues is None else dict(queues)
    if not name:
        return MemoryHost(known)
    if name not in _hosts or _hosts[name].is_shut_down:
        _hosts[name] = MemoryHost(known)
    return _hosts[name]


class MemoryClient:
    """One manager at a memory host: the owner of what it leases and waits for."""

    def __init__(self, host: MemoryHost) -> None:
        host.enter(self)
        self._host: MemoryHost | None = host
        self._waiting: WeakSet[Future[Any]] = WeakSet()
        self._why = "this manager is closed"

    @property
    def host(self) -> MemoryHost:
        if self._host is None:
            raise ConnectionLostError(self._why)
        return self._host

    def future(self) -> Future[Any]:
        """A future for what the host answers."""
        future: Future[Any] = Future()
        self._waiting.add(future)
        return future

    def close(self, why: str = "this manager is closed") -> None:
        """Leave; calls under way raise `ConnectionLostError`."""
        if self._host is None:
            return
        host, self._host, self._why = self._host, None, why
        for future in list(self._waiting):
            if not future.filled:
                future.set_exception(ConnectionLostError(why, outcome_known=False))
        host.leave(self)

    def cut(self) -> None:
        """The host hears of it when somebody comes from another event loop."""

    def lose_loop(self) -> None:
        """The event loop has ended in which everybody waited."""
        for future in self._waiting:
            future.abandoned = True
        if self._host is not None:
            host, self._host = self._host, None
            host.leave(self)


class MemoryHostClient(HostClient):
    """A manager's connection to a memory host.

    Args:
        queues: what the host has, where this makes it; name to maxsize.
    """

    def __init__(self, address: Address, queues: Mapping[str, int] | None) -> None:
        self._address = address
        self._queues = queues
        self._client: MemoryClient | None = None

    async def open(self, unwanted: Callable[[], bool]) -> None:
        self._client = MemoryClient(memory_host(self._address.value, self._queues))
        self.parts = (self._client,)

    @property
    def client(self) -> MemoryClient:
        assert self._client is not None
        return self._client

    def hosts(self, name: str) -> bool:
        return True

    def engine(self, name: str) -> QueueEngine:
        return MemoryEngine(self.client, name)

    async def declare(self, name: str, options: Mapping[str, Any]) -> None:
        self.client.host.declare(name, options)

    async def proxy(self, name: str, args: Sequence[Any], kwds: Mapping[str, Any]) -> Any:
        raise ConfigurationError("memory:// hosts queues and nothing else")

    async def shutdown(self) -> None:
        self.client.host.shutdown()

    async def aclose(self) -> None:
        """The host hears of it by `close`."""


class MemoryEngine(QueueEngine):
    """One client's view of a hosted queue in the same process."""

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

    def __init__(self, client: MemoryClient, name: str) -> None:
        self._client = client
        self._name = name
        self._receiving: object = None
        self._putting: object = None

    @property
    def _hosted(self) -> HostedQueue:
        return self._client.host.queue(self._name)

    def put(
        self, frames: Sequence[bytes], timeout: float | None, ticket: Ticket
    ) -> Future[tuple[int, Exception | None]]:
        future: Future[int] = self._client.future()
        if timeout != 0:
            self._putting = future
        self._hosted.put(frames, timeout, _Call(future), owner=self._client, ticket=future)
        self._tell_callers()
        return future.map(lambda accepted: (accepted, None))

    def interrupt_put(self) -> None:
        self._cancel(self._putting)

    def receive(self, count: int, timeout: float | None) -> Future[list[Received]]:
        future: Future[list[tuple[int, int, bytes]]] = self._client.future()
        if timeout != 0:
            self._receiving = future
        self._hosted.receive(count, timeout, _Call(future), owner=self._client, ticket=future)
        self._tell_callers()
        return future.map(
            lambda deliveries: [Received(number, number, *rest) for number, *rest in deliveries]
        )

    def interrupt(self) -> None:
        self._cancel(self._receiving)

    def settle(
        self, settlements: Sequence[Settlement], channel: str = "settle"
    ) -> Future[list[bool]]:
        settled = self._hosted.settle(settlements, owner=self._client)
        self._tell_callers()
        return filled(settled)

    def take(self, received: Sequence[Received], channel: str) -> Future[list[bool]]:
        ids = [one.handle for one in received]
        taken = self._hosted.take(ids, owner=self._client, holder=self._client)
        self._tell_callers()
        return filled(taken)

    def restore(self, received: Received, *, rejected: bool = False) -> Future[bool]:
        restored = self._hosted.restore(
            received.handle,
            bytes(received.data),
            received.attempt,
            holder=self._client,
            rejected=rejected,
        )
        self._tell_callers()
        return filled(restored)

    @property
    def lease_holder(self) -> object:
        return self._client

    @property
    def host(self) -> object:
        return self._client.host

    async def move(self, received: Received, target: str, frame: bytes) -> bool:
        hosted = self._client.host.queue(target)
        moved = self._hosted.move(received.handle, hosted, frame, owner=self._client)
        self._tell_callers()
        return moved

    async def task_done(self, count: int) -> list[Exception | None]:
        done = self._hosted.task_done_up_to(count, holder=self._client)
        self._tell_callers()
        return counted(done, count)

    async def join(self) -> None:
        future: Future[bool] = self._client.future()
        self._hosted.join(None, _Call(future), owner=self._client, ticket=future)
        self._tell_callers()
        try:
            await future.wait()
        except BaseException:
            self._cancel(future)
            raise

    async def ask(self, what: str) -> Any:
        value = getattr(self._hosted, what)
        return value() if callable(value) else value

    async def shutdown(self, immediate: bool) -> None:
        self._hosted.shutdown(immediate)
        self._tell_callers()

    async def statistics(self) -> dict[str, Any]:
        return self._hosted.statistics()

    async def aclose(self) -> None:
        """Nothing is held here: what is not settled returns when the manager closes."""

    def _cancel(self, ticket: object) -> None:
        # Without a ticket nothing waits; after the end nothing does either.
        if ticket is not None:
            with contextlib.suppress(ConnectionLostError):
                self._hosted.cancel(self._client, ticket)
                self._tell_callers()

    def _tell_callers(self) -> None:
        self._client.host.tell_callers()


class _Call:
    """A call of this engine's: its outcome is its future's. Nobody is gone, in one process."""

    def __init__(self, future: Future[Any]) -> None:
        self._future = future

    def tell(self, outcome: Outcome) -> None:
        match outcome:
            case Handed():
                self._future.set_result(outcome.deliveries)
            case Accepted():
                self._future.set_result(outcome.count)
            case Nothing():
                self._future.set_result([])
            case Joined():
                self._future.set_result(outcome.finished)
            case Returned():
                self._future.set_result(outcome.value)
            case ShutDown():
                self._future.set_exception(QueueShutDown(outcome.message))
            case Refused():
                self._future.set_exception(outcome.error)
