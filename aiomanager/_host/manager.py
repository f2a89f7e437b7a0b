"""`QueueManager`: a `BaseManager` whose server hosts queues that lose nothing."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from multiprocessing import managers
from typing import TYPE_CHECKING, Any

from .._ground.addresses import AddressLike, ServerAddress, parse, url_of
from .._ground.authkeys import require_strong, resolve
from .._ground.errors import AioManagerError, ConfigurationError
from .._ground.sockets import raise_descriptor_limit
from .._wire.messages import STOCK_METHODS
from .lifecycle import EarlyStop, stop_with_parent, stopped_by_signals
from .reactor import logger
from .server import QueueServer
from .settings import HostRegistry, HostSettings, check_queues

_LOOPBACK = ("127.", "localhost", "::1")


class QueueProxy(managers.BaseProxy):
    """The methods and attributes of `queue.Queue`, over a connection to the host."""

    __module__ = "aiomanager"  # it travels: a proxy is pickled with its class

    _exposed_ = STOCK_METHODS

    if TYPE_CHECKING:
        # Typeshed knows no result.
        def _callmethod(self, methodname: str, args: Any = (), kwds: Any = ...) -> Any: ...

    def put(self, item: object, block: bool = True, timeout: float | None = None) -> None:
        """As `queue.Queue.put`."""
        # The host recognizes the plain form, and need not unpickle the item.
        plain = block and timeout is None
        self._callmethod("put", (item,) if plain else (item, block, timeout))

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """As `queue.Queue.get`."""
        return self._callmethod("get", (block, timeout))

    def put_nowait(self, item: object) -> None:
        """As `queue.Queue.put_nowait`."""
        self._callmethod("put_nowait", (item,))

    def get_nowait(self) -> Any:
        """As `queue.Queue.get_nowait`."""
        return self._callmethod("get_nowait")

    def task_done(self) -> None:
        """As `queue.Queue.task_done`, for items that were got."""
        self._callmethod("task_done")

    def join(self) -> None:
        """As `queue.Queue.join`."""
        self._callmethod("join")

    def qsize(self) -> int:
        """As `queue.Queue.qsize`."""
        return int(self._callmethod("qsize"))

    def empty(self) -> bool:
        """As `queue.Queue.empty`."""
        return bool(self._callmethod("empty"))

    def full(self) -> bool:
        """As `queue.Queue.full`."""
        return bool(self._callmethod("full"))

    def shutdown(self, immediate: bool = False) -> None:
        """As `queue.Queue.shutdown` of Python 3.13, on every Python. Older clients get
        `queue.Full` and `queue.Empty` where newer ones get `queue.ShutDown`."""
        self._callmethod("shutdown", (immediate,))

    @property
    def maxsize(self) -> int:
        """How many items may wait, 0 for any number."""
        return int(self._callmethod("__getattribute__", ("maxsize",)))

    @property
    def is_shutdown(self) -> bool:
        """Whether the queue was shut down."""
        return bool(self._callmethod("__getattribute__", ("is_shutdown",)))

    @property
    def unfinished_tasks(self) -> int:
        """Items that `join` waits for."""
        return int(self._callmethod("__getattribute__", ("unfinished_tasks",)))


class QueueManager(managers.BaseManager):
    """A manager, as in `multiprocessing`, that hosts named queues.

    Clients that know only the standard library register the name and call it, as with any
    manager; `aiomanager.connect` gives asyncio and trio programs the whole of `AsyncQueue`.
    Other objects can be registered beside the queues with `register`.

    Args:
        address: a `(host, port)` pair, the path of a unix socket, `tcp://host:port` or `host:port`
            (port 0: any that is free), `unix:///path`, `unix://%00name` for an abstract name of
            Linux, or None for a private socket.
        authkey: bytes or str; left out, `$AIOMANAGER_AUTHKEY`, else this process's own key.
        queues: the name of each queue and its maxsize, 0 for unbounded.
        lease_timeout: seconds after which an item that a live client of ours has received and not
            settled goes to somebody else; None, the default, for never.
        dead_letter: the name of the queue, one of `queues`, for items that were handed out
            `max_deliveries` times to clients that were lost with them or could not unpickle them;
            without one they are handed out for ever.
        max_deliveries: see `dead_letter`.
        max_unsettled: items of a queue that a client of ours may have received and not settled; it
            is handed no more until it settles some. What it took by `get` does not count.
        max_unsettled_bytes: bytes of them, but for the item that takes it over.
        dead_after: seconds that a TCP connection may be dead without a word before its client
            counts as gone.
        handshake_timeout: seconds for a new connection to authenticate.
        message_limit: bytes of the largest message; a client that announces a longer one is cut
            off. None for 4 GiB.
        allow_shutdown: whether a client may shut the host down.
        busy_poll: seconds. Where the host had to wait for less than that the last time, it looks
            for more for as long before it sleeps, as long as nobody else wants the processor. It
            saves clients that make one call after the other the time that it takes to wake the
            host. 0 for never.
        allow_short_key: accept an authkey of less than 16 bytes.
        ctx: a multiprocessing context or the name of a start method, for `start`.
        shutdown_timeout: seconds for the process of `start` to end before it is terminated.

    Raises:
        ConfigurationError: an argument cannot work.
    """

    _Server = QueueServer

    if TYPE_CHECKING:
        # Typeshed leaves these out.
        _registry: Any
        _address: Any
        _authkey: bytes
        _serializer: str
        _state: Any
        _process: Any

        def _create(self, typeid: str, /) -> tuple[managers.Token, tuple[str, ...]]: ...

    def __init__(
        self,
        address: AddressLike | None = None,
        authkey: bytes | str | None = None,
        *,
        queues: Mapping[str, int] | None = None,
        lease_timeout: float | None = None,
        dead_letter: str | None = None,
        max_deliveries: int = 20,
        max_unsettled: int = 10_000,
        max_unsettled_bytes: int = 256 * 1024**2,
        dead_after: float = 25.0,
        handshake_timeout: float = 10.0,
        message_limit: int | None = None,
        allow_shutdown: bool = True,
        busy_poll: float = 0.0002,
        allow_short_key: bool = False,
        ctx: Any = None,
        shutdown_timeout: float = 5.0,
    ) -> None:
        key = resolve(authkey)
        if not allow_short_key:
            require_strong(key)
        settings = HostSettings(
            queues=check_queues(queues or {}),
            lease_timeout=lease_timeout,
            dead_letter=dead_letter,
            max_deliveries=max_deliveries,
            max_unsettled=max_unsettled,
            max_unsettled_bytes=max_unsettled_bytes,
            dead_after=dead_after,
            handshake_timeout=handshake_timeout,
            allow_shutdown=allow_shutdown,
            busy_poll=busy_poll,
            **({} if message_limit is None else {"message_limit": message_limit}),
        )
        super().__init__(
            _without_scheme(address),
            key,
            ctx=multiprocessing.get_context(ctx) if isinstance(ctx, str) else ctx,
            shutdown_timeout=shutdown_timeout,
        )
        self._settings = settings
        self._register()

    def _register(self) -> None:
        """Take what is registered on the class by now, on this manager: another manager of the
        class may host other queues."""
        types = dict(type(self)._registry)
        for name in self._settings.queues:
            if name in types:
                raise ConfigurationError(f"{name!r} is registered already as something else")
            types[name] = (None, STOCK_METHODS, None, QueueProxy)
        self._registry = HostRegistry(types, self._settings)

    if not TYPE_CHECKING:  # which would take any name for an attribute

        def __getattr__(self, name: str) -> Callable[[], QueueProxy]:
            """A queue's name is a method that returns its proxy, as one that is registered."""
            if name in getattr(self.__dict__.get("_settings"), "queues", ()):
                return partial(self.get_queue, name)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def get_server(self) -> QueueServer:
        """Return the server object, which listens already and serves in `serve_forever`.

        Raises:
            ConfigurationError: the address cannot be listened on.
        """
        if self._state.value != self._state.INITIAL:
            raise multiprocessing.ProcessError("this manager is started, connected or shut down")
        _warn_if_exposed(self._address)
        self._register()
        server = QueueServer(self._registry, self._address, self._authkey)
        self._address = server.address
        return server

    def start(
        self, initializer: Callable[..., object] | None = None, initargs: Iterable[Any] = ()
    ) -> None:
        """Serve in a child process, under any start method. It ends with `shutdown`, with this
        manager, and with this process, also where that is killed.

        Raises:
            ConfigurationError: the address cannot be listened on.
        """
        _warn_if_exposed(self._address)
        self._register()
        super().start(initializer, initargs)
        if isinstance(self._address, AioManagerError):
            error, self._address = self._address, None
            self.shutdown()  # nothing is running, and nothing can be started any more
            raise error

    def serve_forever(self) -> None:
        """Serve in this process, until SIGINT, SIGTERM or a client's `shutdown`; then let calls
        under way finish, remove the socket's file and return.

        Called on another than the main thread, it leaves the signals alone.

        Raises:
            ConfigurationError: the address cannot be listened on.
        """
        with contextlib.ExitStack() as stack:
            stop = EarlyStop()
            stack.enter_context(stopped_by_signals(stop))
            server = self.get_server()
            stack.callback(server.close)
            stop.attach(server.stop)
            server.serve_forever()

    def get_queue(self, name: str) -> QueueProxy:
        """A blocking proxy of a queue, for this process: what a client gets from a registered
        name."""
        if name not in self._registry:
            raise ConfigurationError(f"no queue {name!r} here; there is: {sorted(self._registry)}")
        token, _ = self._create(name)
        return QueueProxy(token, self._serializer, manager=self, authkey=self._authkey)

    @staticmethod
    def _finalize_manager(process: Any, *args: Any) -> None:
        """`shutdown`, for a host in a child process. SIGTERM ends it as gracefully as a client's
        shutdown does, and is not refused where that is."""
        if os.name == "posix" and process.is_alive():
            process.terminate()
        stock: Any = managers.BaseManager
        stock._finalize_manager(process, *args)  # noqa: SLF001 - the rest is its own

    @classmethod
    def _run_server(
        cls,
        registry: HostRegistry,
        address: ServerAddress | None,
        authkey: bytes,
        serializer: str,
        writer: Any,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
    ) -> None:
        """The child process of `start`."""
        # Ctrl-C reaches the whole group of processes; the one that started the host ends it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # A fork of a process with an event loop would wake that loop with its own signals.
        signal.set_wakeup_fd(-1)
        raise_descriptor_limit()
        with contextlib.ExitStack() as stack:
            stop = EarlyStop()
            stack.enter_context(stopped_by_signals(stop))
            if initializer is not None:
                initializer(*initargs)
            try:
                server = QueueServer(registry, address, authkey, serializer)
            except AioManagerError as exc:
                writer.send(exc)
                writer.close()
                return
            stack.callback(server.close)
            # Objects here may hold proxies of others and of queues here, which take this key.
            multiprocessing.current_process().authkey = authkey
            writer.send(server.address)
            writer.close()
            stop_with_parent(server.reactor, server.stop)
            stop.attach(server.stop)
            server.serve_forever()


def _without_scheme(address: AddressLike | None) -> Any:
    """What `BaseManager` takes."""
    if not isinstance(address, (str, bytes, os.PathLike)):
        return address
    where = parse(address, listening=True)
    if where.kind == "memory":
        raise ConfigurationError(f"a host cannot listen on {where}, which is inside one process")
    return where.value


def _warn_if_exposed(address: Any) -> None:
    if isinstance(address, (tuple, list)) and not str(address[0]).startswith(_LOOPBACK):
        logger.warning(
            "%s can be reached from other machines. The authkey keeps strangers out and nothing "
            "else: what travels is not encrypted, and not sealed where a client is one of the "
            "standard library's; and whoever has the key runs code in this host. Use it inside a "
            "private network or a tunnel.",
            url_of((address[0], address[1])),
        )
