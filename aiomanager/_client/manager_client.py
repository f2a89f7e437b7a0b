"""The client of a manager's host: one of ours, or one of the standard library's."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing import managers
from typing import Any

import anyio

from .._ground.addresses import Address
from .._ground.errors import AioManagerError, ConfigurationError, ConnectionLostError, RemoteError
from .._proxies.base import AsyncProxy
from .._proxies.host_connections import host_of
from .._proxies.references import Reference
from .._proxies.wrap import create, passed_on, unknown_name
from .._transport.pool import ConnectionPool
from .._transport.session import Session
from .._transport.stream import StreamTransport
from .._transport.thread import ThreadTransport
from .._wire.hello import Hello, check_version, features_of
from .._wire.messages import QUEUE_PREFIX, STOCK_METHODS
from .._wire.replies import NotThereError
from ..engines.base import QueueEngine
from ..engines.hosted import HostedEngine
from ..engines.registry import HostClient
from ..engines.stock.engine import StockEngine
from ..engines.stock.leftovers import Target
from .options import ConnectOptions

# Seconds between two looks at whether a host is there.
LOOK_AGAIN = 0.05


class ManagerClient(HostClient):
    """Speaks the manager protocol. Which of the two kinds of hosts it has met it knows from the
    hello, which a host of the standard library's does not say."""

    def __init__(self, address: Address, authkey: bytes, options: ConnectOptions) -> None:
        self._address = address
        self._authkey = authkey
        self._options = options
        self._hello: Hello | None = None  # what a host of ours has said
        self._found: dict[str, Reference] = {}  # queues of a stock host, once used
        self._stock_engines: list[StockEngine] = []
        self._threads = options.transport == "thread" or address.kind == "pipe"
        to_host = address, authkey, options.connect_timeout
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
        self.parts = self._session, self._pool

    async def open(self, unwanted: Callable[[], bool]) -> None:
        deadline = anyio.current_time() + self._options.wait
        while True:
            try:
                self._hello = await self._meet()
                break
            except ConnectionLostError:
                if unwanted() or anyio.current_time() >= deadline:
                    raise
            await anyio.sleep(LOOK_AGAIN)
        if self._hello is not None:
            self.queue_names = list(self._hello["queues"])
        # Not before: a proxy in an item is tried with the key of the last host.
        options = self._options
        self._host = host_of(
            self._address,
            self._authkey,
            wait_slice=options.wait_slice,
            connect_timeout=options.connect_timeout,
            call_timeout=options.call_timeout,
            reconnect=options.reconnect,
        )

    async def _meet(self) -> Hello | None:
        """Find out whether there is a host, and whether it is one of ours."""
        hello = await self._pool.hello(names=True)
        if hello is not None:
            return hello
        try:
            answer: Any = await self._pool.function_once("queues")
        except RemoteError as exc:
            if "unsupported pickle protocol" in str(exc):
                raise ConfigurationError(
                    f"the host at {self._address} runs on Python 2, which does not read what is "
                    "written here; run it on Python 3.6 or later"
                ) from exc
            return None  # a stock server has no such function
        if type(answer) is tuple and list(map(type, answer)) == [list, int]:
            check_version(1, self._address)
        return None  # it has a function of its own of that name

    def hosts(self, name: str) -> bool:
        # Others may have been declared since. What is registered is an object, which may be a
        # queue of the standard library's.
        return self._hello is not None and (
            name in self._hello["queues"] or name not in self._hello["objects"]
        )

    def engine(self, name: str) -> QueueEngine:
        if self._hello is not None and self.hosts(name):
            limit = int(self._hello["limits"]["message"])
            return HostedEngine(self._session, QUEUE_PREFIX + name, limit, threads=self._threads)
        engine = StockEngine(
            self._pool,
            partial(self._create, name),
            self._options.wait_slice,
            self._host.transport(),
        )
        self._stock_engines.append(engine)
        return engine

    async def declare(self, name: str, options: Mapping[str, Any]) -> None:
        if self._hello is None:
            raise ConfigurationError(
                f"the host at {self._address} is one of the standard library's, which makes no "
                "queues at run time: register them there"
            )
        if "declare" not in features_of(self._hello):
            raise ConfigurationError(f"the host at {self._address} makes no queues at run time")
        await self._session.request("", "declare", name, dict(options))

    async def proxy(self, name: str, args: Sequence[Any], kwds: Mapping[str, Any]) -> Any:
        return await create(self._host, name, args, kwds)

    def pickled(self, name: str, sentinel: object, prefetch: int, *, for_hosts: bool) -> Any:
        if self.hosts(name):
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

    def methods(self, name: str) -> Any:
        return AsyncProxy(self._found[name]) if name in self._found else None

    async def _create(self, name: str, gone: Target | None = None) -> Target:
        if gone is not None and name in self._found:
            self._found.pop(name).forget()  # with the run of the host that counted it
        try:
            ident, methods = await self._pool.function("create", name)
        except NotThereError as exc:
            raise unknown_name(exc, name, self._address) from exc
        if not {"put", "get"} <= set(methods):
            return Target(ident, methods)  # which nobody can use
        token = managers.Token(name, self._address.value, ident)
        # The host counts a reference, which is given up when this closes.
        reference = self._found[name] = Reference(self._host, token, methods)
        reference.counted()
        return Target(ident, methods, reference)

    async def shutdown(self) -> None:
        await self._pool.function("shutdown")

    async def aclose(self) -> None:
        async with anyio.create_task_group() as group:
            for engine in self._stock_engines:
                group.start_soon(engine.end)
        found, self._found = self._found, {}
        async with anyio.create_task_group() as group:
            for reference in found.values():
                group.start_soon(_give_up, reference)
        if self._hello is not None:
            await self._session.aclose()


async def _give_up(reference: Reference) -> None:
    with contextlib.suppress(AioManagerError):  # the host is gone, and the object with it
        await reference.give_up()
