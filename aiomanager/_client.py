"""`connect` and `host`: how a program comes to a manager."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Literal

import anyio

from ._addresses import Address, AddressLike, parse
from ._errors import (
    AioManagerError,
    ConfigurationError,
    ConnectionLostError,
    RemoteError,
)
from ._keys import resolve
from ._links import LinkPool
from ._queue import AsyncQueue
from ._session import Session
from ._streams import StreamLane
from ._tasks import finish
from ._threads import ThreadLane
from .engines.base import QueueEngine
from .engines.hosted import HostedEngine
from .engines.memory import MemoryHost, MemoryEngine
from .engines.stock import StockEngine

logger = logging.getLogger("aiomanager")

Lane = Literal["stream", "thread"]

# The ids of a host of ours begin with this; see `_server`.
QUEUE_PREFIX = "aiomanager-queue:"
CLOSE_TIMEOUT = 5.0

# memory:// hosts with a name, which programs in this process share.
_memory_hosts: dict[str, MemoryHost] = {}


class AsyncManager:
    """A connection to a manager, stock or ours. Made by `connect` and `host`; an async context
    manager, which connects at its start and closes at its end.

    Attributes:
        address: what other processes connect to, as a URL.
        authkey: the key that they need.
    """

    def __init__(
        self,
        address: Address,
        authkey: bytes,
        *,
        wait: float,
        connect_timeout: float,
        call_timeout: float,
        reconnect: float,
        on_reconnect: Callable[[], None] | None,
        wait_slice: float,
        lane: Lane | None,
        queues: Mapping[str, int] | None,
    ) -> None:
        self.authkey = authkey
        self._address = address
        self._wait = wait
        self._wait_slice = wait_slice
        self._memory_queues = queues
        self._memory: MemoryHost | None = None
        self._queues: dict[str, AsyncQueue[Any]] = {}
        self._open = False
        kind = ThreadLane if lane == "thread" or address.kind == "pipe" else StreamLane
        make_link = kind(address, authkey, connect_timeout).open
        self._pool = LinkPool(make_link, call_timeout=call_timeout)
        self._session = Session(
            make_link, call_timeout=call_timeout, reconnect=reconnect, on_reconnect=on_reconnect
        )

    @property
    def address(self) -> str:
        return str(self._address)

    def __repr__(self) -> str:
        return f"<AsyncManager {self.address}>"

    async def __aenter__(self) -> AsyncManager:
        """Connect.

        Raises:
            ConnectionLostError: no host answers at the address (within `wait` seconds).
            AuthenticationError: the host has another key.
        """
        if self._address.kind == "memory":
            self._memory = self._memory_host()
        else:
            await finish(self._reach)
        self._open = True
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Send what is on its way, give back what was received for nobody, and disconnect.
        Deliveries that were not settled go to somebody else."""
        with anyio.CancelScope(shield=True):
            await finish(self._close)

    def queue(self, name: str, *, sentinel: object = None) -> AsyncQueue[Any]:
        """The queue that the host registered under `name`; the same object for the same name.

        Args:
            sentinel: the item that ends iterations over it; `NO_SENTINEL` for none.

        Whether the host has it shows at the first use: `ConfigurationError` where it has not.
        """
        if not self._open:
            raise ConfigurationError("use the manager in `async with`: it is not connected")
        if name not in self._queues:
            self._queues[name] = AsyncQueue(self._engine(name), name, sentinel)
        return self._queues[name]

    async def shutdown(self) -> None:
        """End the host, with all that it hosts."""
        await finish(lambda: self._pool.function("shutdown"))

    # -- inside -------------------------------------------------------------------------------

    def _engine(self, name: str) -> QueueEngine:
        if self._memory is not None:
            return MemoryEngine(self._memory, name, self)
        if self._hosted is None or name not in self._hosted:
            return StockEngine(self._pool, partial(self._create, name), self._wait_slice)
        return HostedEngine(self._session, QUEUE_PREFIX + name)

    def _memory_host(self) -> MemoryHost:
        queues = None if self._memory_queues is None else dict(self._memory_queues)
        name = self._address.value
        if not name:
            return MemoryHost(queues)
        return _memory_hosts.setdefault(name, MemoryHost(queues))

    async def _reach(self) -> None:
        """Find out whether there is a host, and whether it is one of ours."""
        deadline = anyio.current_time() + self._wait
        while True:
            try:
                self._hosted = await self._hosted_queues()
                return
            except ConnectionLostError:
                if anyio.current_time() >= deadline:
                    raise
            await anyio.sleep(0.05)

    async def _hosted_queues(self) -> Sequence[str] | None:
        try:
            return await self._pool.function("queues")  # type: ignore[no-any-return]
        except RemoteError:
            return None  # a stock server has no such function

    async def _create(self, name: str) -> tuple[str, Sequence[str]]:
        try:
            ident, methods = await self._pool.function("create", name)
        except (RemoteError, KeyError) as exc:
            if "KeyError" in repr(exc):
                raise ConfigurationError(
                    f"no queue or object is registered at {self.address} as {name!r}"
                ) from exc
            raise
        return ident, methods

    async def _close(self) -> None:
        self._open = False
        with anyio.move_on_after(CLOSE_TIMEOUT) as scope:
            for queue in self._queues.values():
                try:
                    await queue.aclose()
                except AioManagerError as exc:
                    logger.warning("closing %r: %s", queue, exc)
        if scope.cancelled_caught:
            logger.warning("closing %r: the host did not answer in %s s", self, CLOSE_TIMEOUT)
        if self._memory is not None:
            self._memory.owner_lost(self)
        self._session.close()
        self._pool.close()


def connect(
    address: AddressLike,
    authkey: bytes | str | None = None,
    *,
    wait: float = 0.0,
    connect_timeout: float = 5.0,
    call_timeout: float = 30.0,
    reconnect: float = 30.0,
    on_reconnect: Callable[[], None] | None = None,
    wait_slice: float = 0.5,
    lane: Lane | None = None,
    queues: Mapping[str, int] | None = None,
) -> AsyncManager:
    """A manager at an address, to be used in `async with`.

    Args:
        address: a `(host, port)` pair, a socket path, `tcp://host:port`, `unix:///path`, or
            `memory://`, which hosts its queues in this process.
        authkey: bytes or str; left out, `$AIOMANAGER_AUTHKEY`, else the current process's.
        wait: seconds to wait for a host that is still starting.
        connect_timeout: seconds to connect and to authenticate, for each connection.
        call_timeout: seconds for the host's answer to a call that does not wait for anything.
        reconnect: seconds that the host may be away before calls raise `ConnectionLostError`.
        on_reconnect: called when a lost connection to a host of ours was made again.
        wait_slice: seconds that one blocking call may wait at a stock host. If this process is
            killed, at most what arrives within one slice is lost there.
        lane: "stream", the event loop's own sockets, or "thread", blocking calls on worker
            threads; left out, "stream" where the address is a socket.
        queues: for `memory://`: the name of each queue and its maxsize. Left out, any name is
            good, and unbounded.

    Raises:
        ConfigurationError: an argument cannot work.
    """
    if lane not in (None, "stream", "thread"):
        raise ConfigurationError(f"lane is {lane!r}; give 'stream' or 'thread'")
    where = parse(address)
    if queues is not None and where.kind != "memory":
        raise ConfigurationError("queues= is for memory:// alone: a host decides what it hosts")
    key = b"" if where.kind == "memory" else resolve(authkey)
    return AsyncManager(
        where,
        key,
        wait=wait,
        connect_timeout=connect_timeout,
        call_timeout=call_timeout,
        reconnect=reconnect,
        on_reconnect=on_reconnect,
        wait_slice=wait_slice,
        lane=lane,
        queues=queues,
    )
