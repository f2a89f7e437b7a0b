"""The host's server: connections in, requests to queues and objects, replies out.

It stands in for `multiprocessing.managers.Server` and speaks its protocol, with one thread for all
connections instead of one for each.
"""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from multiprocessing import managers
from traceback import format_exc
from typing import Any

from .._broker.outcomes import Answers
from .._broker.queue import HostedQueue
from .._ground.addresses import ServerAddress, url_of
from .._ground.buffers import Buffer
from .._ground.sockets import configure
from .._wire.hello import OLD_CLIENT_PREFIX, VERSION, Hello, pack_hello, versions_differ
from .._wire.messages import QUEUE_PREFIX, STOCK_METHODS, Answer, dump
from .._wire.passthrough import put_in
from .._wire.requests import is_request, read_request, request_id_of
from .._wire.restricted_pickle import NotPlainError, encode_any, encode_plain, load_plain
from .connection import Peer
from .lifecycle import server_of_this_process, stopped_by_signals
from .listener import Listener
from .memory_reserve import Reserve
from .object_threads import Request, Worker
from .own_clients import OwnClients
from .queues import HostQueues
from .reactor import Reactor, logger
from .settings import HostSettings
from .stock_queue import PUTS, StockFace, plain_arguments, with_frame

# Requests of stock clients that are longer than this, and not the put of an item and nothing else,
# are read on a thread of their connection's own.
INLINE_LIMIT = 64 * 1024
ACCEPTS_PER_TURN = 64
ACCEPT_PAUSE = 0.1  # seconds until accepting is tried again after it failed
STOP_POLL = 0.01


_PLACEHOLDER: Any = (None, STOCK_METHODS, None)


class QueueServer(managers.Server):
    """A server of hosted queues and of whatever else is registered.

    Once stopped it cannot serve again.

    Args:
        registry: the registered types; a `HostRegistry` brings the settings too.
        address: a (host, port) pair, the path of a unix socket, or None for a private one.
        authkey: what clients must know.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """

    # The functions that `_function` may run; the others are for `_answered` alone.
    public = ["create", "get_methods", "debug_info", "number_of_objects", "incref", "decref"]  # noqa: RUF012

    def __init__(
        self,
        registry: Mapping[str, Any],
        address: ServerAddress | None,
        authkey: bytes,
        serializer: str = "pickle",
    ) -> None:
        self._listener = Listener(address)
        self.address = self._listener.address
        self.registry = dict(registry)
        self.authkey = bytes(authkey)
        self.settings: HostSettings = getattr(registry, "settings", None) or HostSettings()
        self.reactor = Reactor(self.settings.busy_poll, self._tell_callers)
        self._answers = Answers()
        self._reserve = Reserve()
        self.queues = HostQueues(
            self.settings,
            self.reactor,
            self._answers,
            self._reserve,
            self._registered,
            self._new_queue,
        )
        self._stock: dict[str, StockFace] = {}
        self._own = OwnClients(self.reactor, self.queues)
        self.mutex = threading.Lock()
        # What the standard library's methods work on. Queues are there in name only, for proxies
        # of queues that are stored in other objects.
        self.id_to_obj: Any = {"0": _PLACEHOLDER}
        self.id_to_refcount: dict[str, int] = {}
        self.queues.start()
        self.id_to_local_proxy_obj: dict[str, Any] = {}
        self.stop_event = threading.Event()
        self._peers: dict[Peer, Worker | None] = {}
        self._newcomers: dict[Peer, None] = {}  # not authenticated yet, oldest first
        self._clients, self._client_of = self._own.clients, self._own.client_of
        self._at_workers = 0  # requests that threads are working on
        self._stopping = False

    def _new_queue(self, name: str, queue: HostedQueue) -> None:
        ident = QUEUE_PREFIX + name
        self._stock[ident] = StockFace(queue)
        self._own.new_queue(ident, queue)
        with self.mutex:
            self.id_to_obj[ident] = _PLACEHOLDER
            self.id_to_refcount[ident] = 1

    def _registered(self) -> Iterator[str]:
        """The names of what is registered and is no queue."""
        return (name for name in self.registry if name not in self.settings.queues)

    # -- life ---------------------------------------------------------------------------------

    def serve_forever(self) -> None:
        """Serve until `stop`, or SIGINT or SIGTERM where this is the main thread; then let calls
        under way finish, close everything and return."""
        logger.info("serving on %s", url_of(self._listener.address))
        self._listener.sock.setblocking(False)
        self.reactor.watch(self._listener.sock, selectors.EVENT_READ, self._accept)
        try:
            with stopped_by_signals(self.stop), server_of_this_process(self):
                self.reactor.run()
        finally:
            self.close()

    def stop(self) -> None:
        """End `serve_forever`; callable from any thread and from a signal handler."""
        self.reactor.call_soon(self._stop)

    def close(self) -> None:
        """Cut all connections and remove the socket's file."""
        if self.stop_event.is_set():
            return
        self.stop_event.set()
        self._stop_listening()
        for peer, worker in list(self._peers.items()):
            peer.close()
            if worker is not None:
                worker.end()
        self._peers.clear()
        self.reactor.close()

    def _stop(self) -> None:
        if self._stopping:
            return
        self._stopping = True
        self._stop_listening()
        for peer in self._client_of:
            peer.send(dump(("#STOPPING", None, None)))
        for name, hosted in self.queues.items():
            if hosted.unfinished:
                logger.warning("queue %r ends with %d items unfinished", name, hosted.unfinished)
        self._stop_when_idle(self.reactor.time() + self.settings.grace)

    def _stop_listening(self) -> None:
        self.reactor.unwatch(self._listener.sock)
        self._listener.close()

    def _stop_when_idle(self, deadline: float) -> None:
        soon = self.reactor.time() + STOP_POLL
        idle = not self._at_workers and all(peer.idle for peer in self._peers)
        if idle or soon > deadline:
            self.reactor.stop()
        else:
            self.reactor.call_at(soon, lambda: self._stop_when_idle(deadline))

    # -- connections --------------------------------------------------------------------------

    def _accept(self, events: int) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                sock, _ = self._listener.sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except (OSError, MemoryError) as exc:
                # Out of descriptors: what is there goes on, and newcomers wait in the backlog
                # until something has closed. Trying again at once would only burn the processor.
                self.reactor.warn("cannot accept a connection, trying again soon: %s", exc)
                for _ in range(len(self._newcomers) // 2 + 1):
                    self._cut_oldest_newcomer()
                self.reactor.unwatch(self._listener.sock)
                self.reactor.call_at(self.reactor.time() + ACCEPT_PAUSE, self._accept_again)
                return
            self._welcome(sock)

    def _accept_again(self) -> None:
        if not self._stopping:
            self.reactor.watch(self._listener.sock, selectors.EVENT_READ, self._accept)

    def _welcome(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        configure(sock, self.settings.dead_after)
        peer = Peer(
            self.reactor,
            sock,
            authkey=self.authkey,
            message_limit=self.settings.message_limit,
            handshake_timeout=self.settings.handshake_timeout,
            on_authenticated=lambda peer: self._newcomers.pop(peer, None),
            on_hello=self._hello,
            on_message=self._message,
            on_shed=self._shed,
            on_lost=self._lost,
            on_starved=self._starved,
        )
        self._peers[peer] = None
        self._newcomers[peer] = None
        if len(self._newcomers) > self.settings.unauthenticated_limit:
            self._cut_oldest_newcomer()

    def _starved(self) -> None:
        """Memory is short: cut off who holds the most of it, or everybody would suffer."""
        self._reserve.spend()
        greediest = max(self._peers, key=lambda peer: peer.held)
        if greediest.held:
            self.reactor.warn("a client was cut off: its message took the last of the memory")
            greediest.close()

    def _cut_oldest_newcomer(self) -> None:
        if self._newcomers:
            oldest = next(iter(self._newcomers))
            del self._newcomers[oldest]
            self.reactor.warn("%s was refused: others wait, and it did not authenticate", oldest)
            oldest.close()

    def _lost(self, peer: Peer) -> None:
        self._newcomers.pop(peer, None)
        worker = self._peers.pop(peer, None)
        if worker is not None:
            worker.end()
        for hosted in peer.queues:
            if returned := hosted.owner_lost(peer):
                self.reactor.warn(
                    "a client is gone; %d items of queue %r that it had not settled go to others",
                    returned, hosted.name,
                )  # fmt: skip
        self._own.left(peer)

    # -- requests -----------------------------------------------------------------------------

    def _hello(self, peer: Peer, hello: Hello) -> list[Buffer]:
        """What a peer of ours says first, and is answered. Where it is of another version, it
        learns of it by the answer, and goes."""
        said: dict[str, Any] = {"limits": {"message": self.settings.message_limit}}
        if hello["version"] == VERSION:
            said |= self._own.greet(peer, hello, self._lost)
            if hello.get("names"):
                said |= {"queues": sorted(self.queues), "objects": sorted(self._registered())}
        else:
            self.reactor.warn("%s speaks version %s, this host %s", peer, hello["version"], VERSION)
        return pack_hello(**said)

    def _message(self, peer: Peer, message: Buffer) -> None:
        try:
            if is_request(message):
                self._own.answer(peer, read_request(message))
            elif (put := put_in(message, self._stock)) is not None:
                self._stock[put[0]].call(peer, "put", (put[1],), {})
            elif len(message) <= INLINE_LIMIT:
                self._stock_request(peer, load_plain(message), message)
            else:
                self._to_worker(peer, message)
        except NotPlainError:
            if not peer.too_old(message):
                self._to_worker(peer, message)
        except MemoryError:
            raise  # the peer's, who knows what to do
        except Exception:
            peer.send(dump(("#TRACEBACK", format_exc())))
        finally:
            self._tell_callers()

    def _tell_callers(self) -> None:
        """Send what the queues have answered: after each message, each call of the reactor's and
        each of its times, as nothing else reaches a queue."""
        self._answers.tell(self._not_told)

    def _not_told(self, error: Exception) -> None:
        # It is no fault of his whose message this comes of.
        self.reactor.failed("an answer could not be sent", error)

    def _shed(self, peer: Peer, head: bytes) -> None:
        """There was no memory for a message: say so to whoever can be told."""
        error = "#ERROR", MemoryError("the host has no memory for a message of this size")
        self.reactor.warn("there was no memory for a message of %s", peer)
        if is_request(head):
            peer.send(dump((*error, request_id_of(head))))
        elif peer in self._client_of:
            peer.close()  # the answer to a pickle needs an id that is in it
        else:
            peer.send(dump(error))

    def _stock_request(self, peer: Peer, request: tuple[Any, ...], message: Buffer) -> None:
        ident, method, args, kwds = request
        face = self._stock.get(ident)
        if face is not None:
            if method in PUTS:
                args, kwds = with_frame(args, kwds, encode_plain)
            face.call(peer, method, args, kwds)
        elif ident is not None or not (peer.too_old(message) or self._answered(peer, method, args)):
            self._to_worker(peer, message)

    # -- the functions of the server itself ---------------------------------------------------

    def _answered(self, peer: Peer, method: str, args: tuple[Any, ...]) -> bool:
        """Answer a function that concerns queues or the host; False for all others."""
        first = args[0] if args else None
        answer: Answer = ("#RETURN", None)
        match method:
            case "accept_connection" | "dummy":
                if isinstance(first, str) and first.startswith(OLD_CLIENT_PREFIX):
                    answer = ("#ERROR", versions_differ("the host", VERSION, 1))
            case "queues":  # not of the standard library: so a client of version 1 knew a host
                answer = ("#ERROR", versions_differ("the host", VERSION, 1))
            case "create" if not isinstance(first, str):
                return False
            case "create" if first in self.queues:
                answer = ("#RETURN", (f"{QUEUE_PREFIX}{first}", STOCK_METHODS))
            case "create" if first not in self.registry:
                answer = ("#ERROR", self.queues.unknown(str(first)))
            case "incref" | "decref" if isinstance(first, str) and first in self._stock:
                pass
            case "shutdown" if self.settings.allow_shutdown:
                self.stop()
            case "shutdown":
                answer = ("#ERROR", PermissionError("this host is not shut down by its clients"))
            case _:
                return False
        peer.send(dump(answer))
        return True

    # -- objects other than queues ------------------------------------------------------------

    def _to_worker(self, peer: Peer, message: Buffer) -> None:
        if peer.closed:
            return
        worker = self._peers.get(peer)
        if worker is None:
            try:
                worker = self._peers[peer] = Worker(
                    f"aiomanager-objects-{len(self._peers)}",
                    self.serve_client,
                    lambda reply: self._from_worker(lambda: peer.send([reply])),
                    partial(self._divert, peer),
                    lambda: self.reactor.call_soon(peer.close),
                )
            except RuntimeError as exc:  # no thread to be had
                peer.send(dump(("#TRACEBACK", f"RuntimeError: the host is overloaded: {exc}")))
                return
        self._at_workers += 1
        worker.submit(message)

    def _from_worker(self, callback: Callable[[], object]) -> None:
        """On a worker's thread, once for each request: what is to happen on the reactor's."""

        def on_reactor() -> None:
            self._at_workers -= 1
            callback()

        self.reactor.call_soon(on_reactor)

    def _divert(self, peer: Peer, request: Request) -> bool:
        """On a worker's thread: what is for a queue, or for the server itself, is not for it."""
        ident, method, args, kwds = request
        face = self._stock.get(ident)
        if face is not None:
            if method in PUTS:
                args, kwds = with_frame(args, kwds, encode_any)
            others = args[1:] if method in PUTS and args else args
            if not plain_arguments(others, {k: v for k, v in kwds.items() if k != "item"}):
                raise TypeError(f"the arguments of {method!r} are plain data, but for an item")
            self._from_worker(lambda: face.call(peer, method, args, kwds))
        elif ident is None:
            self._from_worker(self._ask_server(peer, method, args, kwds))
        else:
            return False
        return True

    def _ask_server(
        self, peer: Peer, method: str, args: tuple[Any, ...], kwds: dict[str, Any]
    ) -> Callable[[], object]:
        first = args[0] if args else None
        if method == "create" and type(first) is not str:
            raise TypeError("what is created has a name")
        if method == "create" and first in self.queues:
            return lambda: self._answered(peer, method, (first,))
        reply = dump(self._function(method, args, kwds))
        return lambda: peer.send(reply)

    def _function(self, method: str, args: tuple[Any, ...], kwds: dict[str, Any]) -> Answer:
        try:
            if method not in self.public:
                raise AttributeError(f"{method!r} is not a function of a manager's server")
            return "#RETURN", getattr(self, method)(None, *args, **kwds)
        except Exception:
            return "#TRACEBACK", format_exc()
