"""`AsyncManager`: a connection to a manager, and the queues that are reached by it."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing import managers
from types import EllipsisType, TracebackType
from typing import Any, NoReturn, Self
from weakref import ref

import anyio

from .._concurrency.event_loop import call_in, current_loop, has_ended, spawn
from .._concurrency.futures import run_to_completion
from .._ground.addresses import Address, parse
from .._ground.errors import AioManagerError, ConfigurationError, ConnectionLostError, RemoteError
from .._host.faces import STOCK_METHODS
from .._proxies.base import AsyncProxy
from .._proxies.host_connections import host_of
from .._proxies.item_codec import ItemCodec
from .._proxies.references import Reference
from .._proxies.wrap import create, passed_on, unknown_name
from .._queue.prefetching import PREFETCH
from .._queue.queue import AsyncQueue, check_options
from .._transport.pool import ConnectionPool
from .._transport.session import Session
from .._transport.stream import StreamTransport
from .._transport.thread import ThreadTransport
from .._wire.framing import MESSAGE_LIMIT
from .._wire.hello import check_version
from .._wire.messages import QUEUE_PREFIX
from .._wire.replies import NotThereError
from ..engines.base import QueueEngine
from ..engines.hosted import HostedEngine
from ..engines.memory import MemoryClient, MemoryEngine, memory_host
from ..engines.stock.engine import StockEngine
from ..engines.stock.leftovers import Target
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
        *,
        memory_queues: Mapping[str, int] | None = None,
    ) -> None:
        self.authkey = authkey
        self._process = address if isinstance(address, HostProcess) else None
        self._address = None if isinstance(address, HostProcess) else address
        self._options = options
        self._memory_queues = memory_queues
        self._memory: MemoryClient | None = None
        self._hosted: Sequence[str] | None = None  # the queues of a host of ours
        self._found: dict[str, Reference] = {}  # those of a stock host, once used
        self._stock_engines: list[StockEngine] = []
        self._message_limit = MESSAGE_LIMIT
        self._queues: dict[str, AsyncQueue[Any, Any]] = {}
        self._open = False
        self._process_id = os.getpid()
        self._loop: Callable[[], Any] = lambda: None  # in which it was entered
        self._unwanted = False  # whoever wanted to connect has left
        self._given_up: anyio.Event  # what that had begun has ended, too
        self._closing = contextlib.ExitStack()
        self._left = contextlib.ExitStack()  # what is to be done where its event loop has ended

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
            self._left.close()  # where the event loop of then ended first
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
            options = (
                None if sentinel is ... else sentinel,
                PREFETCH if prefetch is ... else prefetch,
            )
            self._queues[name] = AsyncQueue(
                partial(self._engine_here, self._queues, name),
                name,
                *options,
                reduce=partial(self._passed_on, name, *options),
                methods=None if self._hosts(name) else partial(self._methods_of, name),
                codec=ItemCodec(),
            )
            return self._queues[name]
        check_options(self._queues[name], sentinel, prefetch)
        return self._queues[name]

    async def _proxy(self, name: str, args: Sequence[Any], kwds: Mapping[str, Any]) -> Any:
        self._check_open()
        if self._memory is not None or self._address is None:
            raise ConfigurationError("memory:// hosts queues and nothing else")
        if self._hosted is not None and name in self._hosted:
            return self.queue(name)
        return await run_to_completion(lambda: create(self._host, name, args, kwds))

    @property
    def host_pid(self) -> int | None:
        """The process id of the host that `host()` started; None where this only connected."""
        return None if self._process is None else self._process.pid

    @property
    def queue_names(self) -> Sequence[str] | None:
        """The queues that a host of ours had when this connected; None where the host, a stock one
        or `memory://`, does not tell."""
        return self._hosted

    async def shutdown(self) -> None:
        """End the host, with all that it hosts. Calls of its clients that wait, whatever process
        they are in, raise `ConnectionLostError`."""
        self._check_open()
        if self._memory is not None:
            self._memory.host.shutdown()
            return
        await run_to_completion(lambda: self._pool.function("shutdown"))

    # -- inside -------------------------------------------------------------------------------

    async def _begin(self, begun: anyio.Event) -> None:
        try:
            if self._process is not None:
                self._address = parse(await self._process.start())
            assert self._address is not None
            if self._address.kind == "memory":
                self._memory = MemoryClient(memory_host(self._address.value, self._memory_queues))
                self._closing.callback(self._memory.close)
            else:
                self._prepare(self._address)
                await self._reach()
                # Not before: a proxy in an item is tried with the key of the last home.
                options = self._options
                self._host = host_of(
                    self._address,
                    self.authkey,
                    wait_slice=options.wait_slice,
                    connect_timeout=options.connect_timeout,
                    call_timeout=options.call_timeout,
                    reconnect=options.reconnect,
                )
            self._open = not self._unwanted
            self._found = {}
        finally:
            begun.set()

    async def _give_up(self, begun: anyio.Event) -> None:
        given_up = self._given_up
        await begun.wait()
        try:
            await self._close()
        finally:
            given_up.set()

    def _prepare(self, address: Address) -> None:
        options = self._options
        self._threads = options.transport == "thread" or address.kind == "pipe"
        to_host = address, self.authkey, options.connect_timeout
        blocking = ThreadTransport(*to_host)
        transport = blocking if self._threads else StreamTransport(*to_host)
        self._pool = ConnectionPool(
            transport.open, call_timeout=options.call_timeout, reconnect=options.reconnect
        )
        self._session = Session(
            transport.open,
            blocking.converse_now,
            call_timeout=options.call_timeout,
            reconnect=options.reconnect,
            on_reconnect=options.on_reconnect,
        )
        self._closing.callback(self._pool.close)
        self._closing.callback(self._session.close)
        self._left.callback(self._pool.cut)
        self._left.callback(self._session.cut)

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
        if loop is not None and not has_ended(loop):
            call_in(loop, self._closing.pop_all().close)
        else:
            self._left.close()
        if was_open:
            # Last, as where warnings are errors nothing comes after it.
            warnings.warn(f"{self!r} was left open", ResourceWarning, source=self, stacklevel=2)

    def _passed_on(self, name: str, sentinel: object, prefetch: int, for_hosts: bool) -> Any:
        """How a queue pickles for another process."""
        if self._memory is not None or self._address is None:
            raise ConfigurationError(
                f"queue {name!r} is in the memory of this process and cannot be passed to another"
            )
        if self._hosted is not None and name in self._hosted:
            token = managers.Token(name, self._address.value, QUEUE_PREFIX + name)
            reference = Reference(self._host, token, STOCK_METHODS, counted=False)
        elif name in self._found:
            reference = self._found[name]
        else:
            raise ConfigurationError(
                f"queue {name!r} is not known yet; use it once, `await queue.qsize()` say, before "
                "it is passed on"
            )
        return passed_on(reference, sentinel, prefetch, for_hosts)

    def _engine_here(self, queues: object, name: str) -> QueueEngine:
        """The engine of a queue for the running event loop, which is to be this manager's."""
        self._check_open()
        if queues is not self._queues:
            raise ConfigurationError(
                f"{self!r} was closed and entered again since; get the queue from it again"
            )
        return self._engine(name)

    def _engine(self, name: str) -> QueueEngine:
        if self._memory is not None:
            return MemoryEngine(self._memory, name)
        if self._hosted is None or name not in self._hosted:
            engine = StockEngine(
                self._pool,
                partial(self._create, name),
                self._options.wait_slice,
                self._host.transport(),
            )
            self._stock_engines.append(engine)
            return engine
        return HostedEngine(
            self._session, QUEUE_PREFIX + name, self._message_limit, threads=self._threads
        )

    async def _reach(self) -> None:
        """Find out whether there is a host, and whether it is one of ours."""
        deadline = anyio.current_time() + self._options.wait
        while True:
            try:
                self._hosted = await self._hosted_queues()
                return
            except ConnectionLostError:
                if self._unwanted or anyio.current_time() >= deadline:
                    raise
            await anyio.sleep(0.05)

    async def _hosted_queues(self) -> Sequence[str] | None:
        hello = await self._pool.hello(names=True)
        if hello is not None:
            self._message_limit = int(hello["limits"]["message"])
            return list(hello["queues"])
        try:
            answer: Any = await self._pool.function_once("queues")
        except RemoteError as exc:
            if "unsupported pickle protocol" in str(exc):
                raise ConfigurationError(
                    f"the host at {self.address} runs on Python 2, which does not read what is "
                    "written here; run it on Python 3.6 or later"
                ) from exc
            return None  # a stock server has no such function
        if type(answer) is tuple and list(map(type, answer)) == [list, int]:
            check_version(1, self.address)
        return None  # it has a function of its own of that name

    def _hosts(self, name: str) -> bool:
        return self._memory is not None or (self._hosted is not None and name in self._hosted)

    async def _create(self, name: str, gone: Target | None = None) -> Target:
        if gone is not None and name in self._found:
            self._found.pop(name).forget()  # with the run of the host that counted it
        try:
            ident, methods = await self._pool.function("create", name)
        except NotThereError as exc:
            raise unknown_name(exc, name, self.address) from exc
        assert self._address is not None
        if not {"put", "get"} <= set(methods):
            return Target(ident, methods)  # which nobody can use
        token = managers.Token(name, self._address.value, ident)
        # The host counts a reference, which is given up when this closes.
        reference = self._found[name] = Reference(self._host, token, methods)
        reference.counted()
        return Target(ident, methods, reference)

    async def _methods_of(self, name: str) -> AsyncProxy:
        self._check_open()
        if name not in self._found:
            await self.queue(name).qsize()  # finds it, or says what is wrong
        return AsyncProxy(self._found[name])

    async def _close(self) -> None:
        with anyio.move_on_after(CLOSE_TIMEOUT) as scope:
            async with anyio.create_task_group() as group:
                for queue in self._queues.values():
                    group.start_soon(_close_queue, queue)
            async with anyio.create_task_group() as group:
                for engine in self._stock_engines:
                    group.start_soon(engine.end)
            found, self._found = self._found, {}
            async with anyio.create_task_group() as group:
                for reference in found.values():
                    group.start_soon(_give_up, reference)
            if self._memory is None and self._hosted is not None:
                await self._session.aclose()
        if scope.cancelled_caught:
            logger.warning("closing %r: the host did not answer in %s s", self, CLOSE_TIMEOUT)
        self._open = self._unwanted = False
        self._stock_engines.clear()
        self._left.pop_all()
        self._closing.close()
        if self._process is not None:
            await self._process.end()


async def _give_up(reference: Reference) -> None:
    with contextlib.suppress(AioManagerError):  # the host is gone, and the object with it
        await reference.give_up()


async def _close_queue(queue: AsyncQueue[Any, Any]) -> None:
    try:
        await queue.aclose()
    except AioManagerError as exc:
        logger.warning("closing %r: %s", queue, exc)
