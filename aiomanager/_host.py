"""`QueueManager`: a `BaseManager` whose server hosts queues that lose nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import managers, parent_process
from typing import Any

from ._errors import AioManagerError, ConfigurationError
from ._keys import require_strong, resolve
from ._listening import Address, describe
from ._reactor import logger
from ._server import STOCK_METHODS, HostRegistry, HostSettings, QueueServer

_LOOPBACK = ("127.", "localhost", "::1")

QueueProxy = managers.MakeProxyType("QueueProxy", STOCK_METHODS)  # type: ignore[attr-defined]


class QueueManager(managers.BaseManager):
    """A manager, as in `multiprocessing`, that hosts named queues.

    Clients that know only the standard library register the name and call it, as with any
    manager; `aiomanager.connect` gives asyncio and trio programs the whole of `AsyncQueue`.
    Other objects can be registered beside the queues with `register`.

    Args:
        address: a `(host, port)` pair, the path of a unix socket, or None for a private one.
        authkey: bytes or str; left out, `$AIOMANAGER_AUTHKEY`, else this process's own key.
        queues: the name of each queue and its maxsize, 0 for unbounded.
        lease_timeout: seconds after which an item that a live client of ours has received and not
            settled goes to somebody else; None, the default, for never.
        handshake_timeout: seconds for a new connection to authenticate.
        allow_short_key: accept an authkey of less than 16 bytes.
        ctx: a multiprocessing context or the name of a start method, for `start`.

    Raises:
        ConfigurationError: an argument cannot work.
    """

    _Server = QueueServer

    def __init__(
        self,
        address: Address | None = None,
        authkey: bytes | str | None = None,
        *,
        queues: Mapping[str, int] | None = None,
        lease_timeout: float | None = None,
        handshake_timeout: float = 10.0,
        allow_short_key: bool = False,
        ctx: Any = None,
        shutdown_timeout: float = 5.0,
    ) -> None:
        key = resolve(authkey)
        if authkey is not None and not allow_short_key:
            require_strong(key)
        if isinstance(ctx, str):
            import multiprocessing

            ctx = multiprocessing.get_context(ctx)
        super().__init__(
            os.fspath(address) if isinstance(address, os.PathLike) else address, key, ctx=ctx
        )
        self._shutdown_timeout = shutdown_timeout
        settings = HostSettings(
            queues=check_queues(queues or {}),
            lease_timeout=lease_timeout,
            handshake_timeout=handshake_timeout,
        )
        types = dict(self._registry)
        for name in settings.queues:
            if name in types:
                raise ConfigurationError(f"{name!r} is registered already as something else")
            types[name] = (None, STOCK_METHODS, None, QueueProxy)
        # On this manager, not on the class: another manager of the class may host other queues.
        self._registry = HostRegistry(types, settings)

    def get_server(self) -> QueueServer:
        """Return the server object, which listens already and serves in `serve_forever`."""
        _warn_if_exposed(self._address)
        server = QueueServer(self._registry, self._address, self._authkey, "pickle")
        self._address = server.address
        return server

    def start(
        self, initializer: Callable[..., object] | None = None, initargs: tuple[Any, ...] = ()
    ) -> None:
        """Serve in a child process, under any start method. It ends with `shutdown`, with this
        manager, and with this process, also where that is killed.

        Raises:
            ConfigurationError: the address cannot be listened on.
        """
        _warn_if_exposed(self._address)
        super().start(initializer, initargs)
        if isinstance(self._address, AioManagerError):
            error, self._address = self._address, None
            self._process.join()
            raise error

    def serve_forever(self) -> None:
        """Serve in this process, until SIGINT, SIGTERM or a client's `shutdown`; then let replies
        out, remove the socket's file and return.

        Called on another than the main thread, it leaves the signals alone.
        """
        server = self.get_server()
        logger.info("serving on %s", describe(server.address))
        with stopped_by_signals(server):
            server.serve_forever()

    def get_queue(self, name: str) -> Any:
        """A blocking proxy of the queue, for this process: what a client gets from a registered
        name."""
        if name not in self._registry:
            raise ConfigurationError(f"no queue {name!r} here; there is: {sorted(self._registry)}")
        token, exposed = self._create(name)
        return QueueProxy(token, self._serializer, manager=self, authkey=self._authkey)

    @classmethod
    def _run_server(
        cls,
        registry: HostRegistry,
        address: Address | None,
        authkey: bytes,
        serializer: str,
        writer: Any,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        """The child process of `start`."""
        # Ctrl-C reaches the whole group of processes; the one that started the host ends it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if initializer is not None:
            initializer(*initargs)
        try:
            server = QueueServer(registry, address, authkey, serializer)
        except AioManagerError as exc:
            writer.send(exc)
            writer.close()
            return
        writer.send(server.address)
        writer.close()
        threading.Thread(target=_stop_with_parent, args=(server,), daemon=True).start()
        with stopped_by_signals(server):
            server.serve_forever()


def _stop_with_parent(server: QueueServer) -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        server.stop()


@contextlib.contextmanager
def stopped_by_signals(server: QueueServer) -> Iterator[None]:
    """Let SIGINT (unless it is ignored) and SIGTERM end the server while in the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            previous[number] = signal.signal(number, lambda *_: server.stop())
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def check_queues(queues: Mapping[str, int]) -> dict[str, int]:
    """The queues to host, as a dict; refuses names and sizes that cannot work."""
    for name, maxsize in queues.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise ConfigurationError(
                f"{name!r} cannot name a queue: clients call it as a method, so it must be an "
                "identifier"
            )
        if not isinstance(maxsize, int):
            raise ConfigurationError(f"the maxsize of {name!r} is {maxsize!r}; give an int")
    return dict(queues)


def _warn_if_exposed(address: Any) -> None:
    if isinstance(address, tuple) and not str(address[0]).startswith(_LOOPBACK):
        logger.warning(
            "%s can be reached from other machines. The authkey keeps strangers out and nothing "
            "else: what travels is neither encrypted nor signed, and whoever has the key runs code "
            "in this host. Use it inside a private network or a tunnel.",
            describe(address),
        )
