"""The host's server: connections in, requests to queues and objects, replies out.

It stands in for `multiprocessing.managers.Server` and speaks its protocol, with one thread for all
connections instead of one for each.
"""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Callable, Mapping
from functools import partial
from multiprocessing import current_process, managers
from traceback import format_exc
from typing import Any

from ._backlog import Item
from ._clients import Client, Clients
from ._ending import stopped_by_signals
from ._faces import PUTS, STOCK_METHODS, Answer, OwnFace, Send, StockFace, with_frame
from ._frames import encode
from ._hosted import HostedQueue
from ._letters import given_up
from ._listening import Address, Listener, configure, describe
from ._peers import Peer
from ._plain import NotPlainError, encode_any, encode_plain, load_plain
from ._reactor import Reactor, logger
from ._settings import HostSettings
from ._splice import put_in
from ._wire import CLIENT_PREFIX, QUEUE_PREFIX, Buffer, dump, not_here
from ._workers import Request, Worker

# Requests longer than this that have to be unpickled are so on a thread of their connection's own,
# unless they are from a client of ours, whose large items travel beside the pickle.
INLINE_LIMIT = 64 * 1024
ACCEPTS_PER_TURN = 64
ACCEPT_PAUSE = 0.1  # seconds until accepting is tried again after it failed
STOP_POLL = 0.01


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
        address: Address | None,
        authkey: bytes,
        serializer: str = "pickle",
    ) -> None:
        self._listener = Listener(address)
        self.address = self._listener.address
        self.registry = dict(registry)
        self.authkey = bytes(authkey)
        self.settings: HostSettings = getattr(registry, "settings", None) or HostSettings()
        self.reactor = Reactor(self.settings.busy_poll)
        self.queues = {
            name: HostedQueue(
                self.reactor,
                maxsize,
                lease_timeout=self.settings.lease_timeout,
                name=name,
                max_deliveries=self.settings.max_deliveries,
                bury=self._burial(name),
            )
            for name, maxsize in self.settings.queues.items()
        }
        self._stock = {QUEUE_PREFIX + name: StockFace(q) for name, q in self.queues.items()}
        self._own = {QUEUE_PREFIX + name: OwnFace(q, self._find) for name, q in self.queues.items()}
        # What the standard library's methods work on. Queues are there in name only, for proxies
        # of queues that are stored in other objects.
        placeholder: Any = (None, STOCK_METHODS, None)
        self.id_to_obj: Any = {"0": placeholder, **dict.fromkeys(self._stock, placeholder)}
        self.id_to_refcount = dict.fromkeys(self._stock, 1)
        self.id_to_local_proxy_obj: dict[str, Any] = {}
        self.mutex = threading.Lock()
        self.stop_event = threading.Event()
        self._peers: dict[Peer, Worker | None] = {}
        self._newcomers: dict[Peer, None] = {}  # not authenticated yet, oldest first
        self._clients = Clients(self.reactor)
        self._client_of: dict[Peer, tuple[str, Client]] = {}
        self._at_workers = 0  # requests that threads are working on
        self._stopping = False

    def _burial(self, name: str) -> Callable[[Item], None] | None:
        """What the queue `name` does with an item that it gives up."""
        target = self.settings.dead_letter
        if target is None or target == name:
            return None

        def bury(item: Item) -> None:
            letter = given_up(item, name)
            self.reactor.warn("an item of queue %r goes to %r: %s", name, target, letter.reason)
            self.queues[target].add(encode(letter))

        return bury

    # -- life ---------------------------------------------------------------------------------

    def serve_forever(self) -> None:
        """Serve until `stop`, or SIGINT or SIGTERM where this is the main thread; then let calls
        under way finish, close everything and return."""
        this_process: Any = current_process()
        this_process._manager_server = self  # by it a proxy knows that its object is here
        logger.info("serving on %s", describe(self._listener.address))
        self._listener.sock.setblocking(False)
        self.reactor.watch(self._listener.sock, selectors.EVENT_READ, self._accept)
        try:
            with stopped_by_signals(self.stop):
                self.reactor.run()
        finally:
            this_process._manager_server = None
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
            except OSError as exc:
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
            on_message=self._message,
            on_lost=self._lost,
            on_starved=self._starved,
        )
        self._peers[peer] = None
        self._newcomers[peer] = None
        if len(self._newcomers) > self.settings.unauthenticated_limit:
            self._cut_oldest_newcomer()

    def _starved(self) -> None:
        """Memory is short: cut off who holds the most of it, or everybody would suffer."""
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
        for name, hosted in self.queues.items():
            if returned := hosted.owner_lost(peer):
                self.reactor.warn(
                    "a client is gone; %d items of queue %r that it had not settled go to others",
                    returned, name,
                )  # fmt: skip
        client_name, client = self._client_of.pop(peer, ("", None))
        if client is not None and client.peer is peer:
            self._clients.left(client_name)

    # -- requests -----------------------------------------------------------------------------

    def _message(self, peer: Peer, message: Buffer) -> None:
        known = self._client_of.get(peer)
        try:
            if known is not None:
                request = load_plain(message)
                if len(request) == 5:
                    self._own_request(peer, known[1], request)
                else:
                    self._stock_request(peer, request, message)
            elif (put := put_in(message, self._stock)) is not None:
                self._stock[put[0]].call(peer, "put", (put[1],), {})
            elif len(message) <= INLINE_LIMIT:
                self._stock_request(peer, load_plain(message), message)
            else:
                self._to_worker(peer, message)
        except NotPlainError:
            self._to_worker(peer, message)
        except Exception:
            peer.send(dump(("#TRACEBACK", format_exc())))

    def _stock_request(self, peer: Peer, request: tuple[Any, ...], message: Buffer) -> None:
        ident, method, args, kwds = request
        face = self._stock.get(ident)
        if face is not None:
            if method in PUTS:
                args, kwds = with_frame(args, kwds, encode_plain)
            face.call(peer, method, args, kwds)
        elif ident is not None or not self._answered(peer, method, args):
            self._to_worker(peer, message)

    def _own_request(self, peer: Peer, client: Client, request: tuple[Any, ...]) -> None:
        ident, method, args, kwds, request_id = request

        def send(answer: Answer) -> bool:
            return peer.send(dump((*answer, request_id)))

        def run(send: Send) -> None:
            try:
                if method == "ping":
                    send(("#RETURN", None))
                    return
                if ident not in self._own:
                    raise self._unknown(ident.removeprefix(QUEUE_PREFIX))
                self._own[ident].call(peer, request_id, method, args, send)
            except Exception as exc:
                send(("#ERROR", exc))

        if "channel" not in kwds:
            run(send)
            return
        try:
            client.once((ident, kwds["channel"]), kwds["number"], run, send)
        except RuntimeError as exc:
            send(("#ERROR", exc))

    def _find(self, name: str) -> HostedQueue:
        if name not in self.queues:
            raise self._unknown(name)
        return self.queues[name]

    def _unknown(self, name: str) -> KeyError:
        return not_here(name, sorted({*self.registry, *self.queues}))

    # -- the functions of the server itself ---------------------------------------------------

    def _answered(self, peer: Peer, method: str, args: tuple[Any, ...]) -> bool:
        """Answer a function that concerns queues or the host; False for all others."""
        first = args[0] if args else None
        answer: Answer = ("#RETURN", None)
        match method:
            case "accept_connection":
                # Once: a name that a connection had before would be remembered for ever.
                if str(first).startswith(CLIENT_PREFIX) and peer not in self._client_of:
                    self._introduce(peer, str(first))
            case "dummy":
                pass
            case "queues":  # not of the standard library: by it a client knows a host of ours
                answer = ("#RETURN", (sorted(self.queues), self.settings.message_limit))
            case "create" if first in self.queues:
                answer = ("#RETURN", (f"{QUEUE_PREFIX}{first}", STOCK_METHODS))
            case "create" if first not in self.registry:
                answer = ("#ERROR", self._unknown(str(first)))
            case "incref" | "decref" if first in self._stock:
                pass
            case "shutdown" if self.settings.allow_shutdown:
                self.stop()
            case "shutdown":
                answer = ("#ERROR", PermissionError("this host is not shut down by its clients"))
            case _:
                return False
        peer.send(dump(answer))
        return True

    def _introduce(self, peer: Peer, name: str) -> None:
        """A client of ours has connected. What an older connection of its left behind ends first:
        the client has given it up, even if this side has not heard of that yet."""
        client = self._clients.introduce(name)
        if client.peer is not None:
            older, client.peer = client.peer, None
            older.close()
            self._lost(older)
        client.peer = peer
        self._client_of[peer] = (name, client)

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
            self._from_worker(lambda: face.call(peer, method, args, kwds))
        elif ident is None:
            reply = dump(self._function(method, args, kwds))
            self._from_worker(lambda: peer.send(reply))
        else:
            return False
        return True

    def _function(self, method: str, args: tuple[Any, ...], kwds: dict[str, Any]) -> Answer:
        try:
            if method not in self.public:
                raise AttributeError(f"{method!r} is not a function of a manager's server")
            return "#RETURN", getattr(self, method)(None, *args, **kwds)
        except Exception:
            return "#TRACEBACK", format_exc()
