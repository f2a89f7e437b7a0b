"""`AsyncManager`: a connection to a manager, and the queues that are reached by it."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import EllipsisType, TracebackType
from typing import Any, NoReturn, Self
from weakref import ref

import anyio

from .._concurrency.event_loop import call_in, current_loop, has_ended, spawn
from .._concurrency.futures import run_to_completion
from .._ground.addresses import Address, parse
from .._ground.errors import AioManagerError, ConfigurationError
from .._ground.names import check_name
from .._proxies.base import AsyncProxy
from .._proxies.item_codec import ITEM_CODEC
from .._queue.prefetching import PREFETCH
from .._queue.queue import AsyncQueue, check_options
from ..engines.base import QueueEngine
from ..engines.registry import HostClient, client_of
from .host_process import HostProcess
from .hosted_objects import HostedObjects
from .options import ConnectOptions

logger = logging.getLogger("aiomanager")

CLOSE_TIMEOUT = 5.0


class AsyncManager(HostedObjects):
    """A connection to a manager, stock or ours. Made by `connect` and `host`; an async context
    manager, which connects at its start and closes at its end, and can be entered again after that.

    It belongs to the process and to the event loop in which it was entered, with all its queues:
    elsewhere they raise `ConfigurationError`, and nothing happens to it.

    Attributes:
        address: what other processes connect to, as a URL.
        authkey: the key that they need.
    """

    def __init__(
        self,
        address: Address | HostProcess,
        authkey: bytes,
        options: ConnectOptions,
    ) -> None:
        self.authkey = authkey
        self._process = address if isinstance(address, HostProcess) else None
        self._address = None if isinstance(address, HostProcess) else address
        self._options = options
        self._client: HostClient | None = None  # while it is connected
        self._queues: dict[str, AsyncQueue[Any, Any]] = {}
        self._open = False
        self._process_id = os.getpid()
        self._loop: Callable[[], Any] = lambda: None  # in which it was entered
        self._unwanted = False  # whoever wanted to connect has left
        self._given_up: anyio.Event  # what that had begun has ended, too

    @property
    def address(self) -> str:
        if self._address is None:
            raise ConfigurationError("the host has no address yet: use `async with host(...)`")
        return str(self._address)

    def __repr__(self) -> str:
        return f"<AsyncManager {self._address or 'not started'}>"

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            ConnectionLostError: no host answers at the address (within `wait` seconds).
            AuthenticationError: the host has another key.

        Cancelled, it leaves at once, or as soon as the host that it was starting has ended.
        """
        if self._open:
            self._check_open()
            raise ConfigurationError(f"{self!r} is in use already; make another with connect()")
        if self._unwanted and self._process_id == os.getpid():
            # Who wanted to connect before has left, and what that has begun ends by itself.
            if self._loop() is current_loop():
                await self._given_up.wait()
            if self._client is not None:
                self._client.cut()  # where the event loop of then ended first
        self._process_id, self._loop = os.getpid(), ref(current_loop())
        self._unwanted, self._given_up = False, anyio.Event()
        self._queues = {}
        begun = anyio.Event()
        try:
            await run_to_completion(lambda: self._begin(begun))
        except BaseException:
            self._unwanted, self._open = True, False
            if self._process is None:
                spawn(lambda: self._give_up(begun))
            else:
                self._process.wake()
                with anyio.CancelScope(shield=True):
                    await run_to_completion(lambda: self._give_up(begun))
            raise
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
        Deliveries that were not settled go to somebody else. In a forked child it does nothing."""
        if self._process_id != os.getpid():
            return  # the parent's connection, which it still uses
        if self._open:
            self._check_open()
        with anyio.CancelScope(shield=True):
            await run_to_completion(self._close)

    def _queue(
        self, name: str, sentinel: Any, prefetch: int | EllipsisType
    ) -> AsyncQueue[Any, Any]:
        self._check_open()
        if name not in self._queues:
            check_name(name)
            options = (
                None if sentinel is ... else sentinel,
                PREFETCH if prefetch is ... else prefetch,
            )
            self._queues[name] = AsyncQueue(
                partial(self._engine_here, self._queues, name),
                name,
                *options,
                reduce=partial(self._passed_on, name, *options),
                methods=None if self._connected.hosts(name) else partial(self._methods_of, name),
                codec=ITEM_CODEC,
            )
            return self._queues[name]
        check_options(self._queues[name], sentinel, prefetch)
        return self._queues[name]

    async def _declare(self, name: str, options: Mapping[str, Any]) -> None:
        self._check_open()
        client = self._connected
        await run_to_completion(lambda: client.declare(name, options))

    async def _proxy(self, name: str, args: Sequence[Any], kwds: Mapping[str, Any]) -> Any:
        self._check_open()
        client = self._connected
        if name in (client.queue_names or ()):
            return self.queue(name)
        return await run_to_completion(lambda: client.proxy(name, args, kwds))

    @property
    def host_pid(self) -> int | None:
        """The process id of the host that `host()` started; None where this only connected."""
        return None if self._process is None else self._process.pid

    @property
    def queue_names(self) -> Sequence[str] | None:
        """The queues that a host of ours had when this connected; None where the host, a stock one
        or `memory://`, does not tell."""
        return None if self._client is None else self._client.queue_names

    async def shutdown(self) -> None:
        """End the host, with all that it hosts. Calls of its clients that wait, whatever process
        they are in, raise `ConnectionLostError`."""
        self._check_open()
        await run_to_completion(self._connected.shutdown)

    # -- inside -------------------------------------------------------------------------------

    async def _begin(self, begun: anyio.Event) -> None:
        try:
            if self._process is not None:
                self._address = parse(await self._process.start())
            assert self._address is not None
            self._client = client_of(self._address, self.authkey, self._options)
            await self._client.open(lambda: self._unwanted)
            self._open = not self._unwanted
        finally:
            begun.set()

    async def _give_up(self, begun: anyio.Event) -> None:
        given_up = self._given_up
        await begun.wait()
        try:
            await self._close()
        finally:
            given_up.set()

    @property
    def _connected(self) -> HostClient:
        assert self._client is not None
        return self._client

    def _check_open(self) -> None:
        if self._process_id != os.getpid():
            raise ConfigurationError(
                f"{self!r} belongs to process {self._process_id}, which it was entered in, and not "
                f"to this one; connect here: {self._how_to_connect()}"
            )
        if not self._open:
            raise ConfigurationError("use the manager in `async with`: it is not connected")
        loop = self._loop()
        if loop is not current_loop():
            raise ConfigurationError(
                f"{self!r} belongs to the event loop that it was entered in "
                f"({'which has ended' if loop is None else repr(loop)}), and not to the one that "
                f"runs here; connect in this one, too: {self._how_to_connect()}"
            )

    def _how_to_connect(self) -> str:
        return f"aiomanager.connect({str(self._address or '...')!r}, authkey)"

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled: a connection cannot be passed on."""
        raise ConfigurationError(
            f"{self!r} cannot be passed to another process; pass its address and its authkey, and "
            f"connect there: {self._how_to_connect()}. A queue of it can be passed on."
        )

    def __del__(self) -> None:
        # On any thread, and in any process.
        if not (self._open or self._unwanted) or self._process_id != os.getpid():
            return
        was_open, self._open, self._unwanted = self._open, False, False
        loop = self._loop()
        if self._process is not None:
            self._process.wake()
        for part in self._client.parts if self._client is not None else ():
            if loop is not None and not has_ended(loop):
                call_in(loop, part.close)
            else:
                part.cut()
        if was_open:
            # Last, as where warnings are errors nothing comes after it.
            warnings.warn(f"{self!r} was left open", ResourceWarning, source=self, stacklevel=2)

    def _passed_on(self, name: str, sentinel: object, prefetch: int, for_hosts: bool) -> Any:
        """How a queue pickles for another process."""
        return self._connected.pickled(name, sentinel, prefetch, for_hosts=for_hosts)

    def _engine_here(self, queues: object, name: str) -> QueueEngine:
        """The engine of a queue for the running event loop, which is to be this manager's."""
        self._check_open()
        if queues is not self._queues:
            raise ConfigurationError(
                f"{self!r} was closed and entered again since; get the queue from it again"
            )
        return self._connected.engine(name)

    async def _methods_of(self, name: str) -> AsyncProxy:
        self._check_open()
        found = self._connected.methods(name)
        if found is None:
            await self.queue(name).qsize()  # finds it, or says what is wrong
            found = self._connected.methods(name)
        assert isinstance(found, AsyncProxy)
        return found

    async def _close(self) -> None:
        client = self._client
        with anyio.move_on_after(CLOSE_TIMEOUT) as scope:
            async with anyio.create_task_group() as group:
                for queue in self._queues.values():
                    group.start_soon(_close_queue, queue)
            if client is not None:
                await client.aclose()
        if scope.cancelled_caught:
            logger.warning("closing %r: the host did not answer in %s s", self, CLOSE_TIMEOUT)
        self._open = self._unwanted = False
        if client is not None:
            client.close()
        if self._process is not None:
            await self._process.end()


async def _close_queue(queue: AsyncQueue[Any, Any]) -> None:
    try:
        await queue.aclose()
    except AioManagerError as exc:
        logger.warning("closing %r: %s", queue, exc)
