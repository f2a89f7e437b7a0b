"""The host's server: connections in, requests to queues and objects, replies out.

It stands in for `multiprocessing.managers.Server` and speaks its protocol, with one thread for all
connections instead of one for each.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import selectors
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import managers, process
from traceback import format_exc
from typing import Any

from ._faces import STOCK_METHODS, Answer, OwnFace, StockFace, item_of
from ._frames import Frame, encode
from ._hosted import HostedQueue
from ._listening import Address, listen, unlink
from ._peers import Peer
from ._reactor import Reactor, logger
from ._wire import MESSAGE_LIMIT, Buffer, dump, load
from ._workers import Request, Worker

# The id of a hosted queue in the manager protocol is its name, so that it is the same after a
# restart of the host, and a client sees by it that the host is one of ours.
QUEUE_PREFIX = "aiomanager-queue:"
# A client of ours says who it is in the name that the protocol gives to each connection.
CLIENT_PREFIX = "aiomanager-client:"

# Requests longer than this are unpickled on a thread of their connection's own, unless they are
# from a client of ours, whose requests hold nothing but plain data.
INLINE_LIMIT = 64 * 1024
# How long the answers of a client that is gone are kept for its return, in seconds.
ANSWERS_KEPT = 600.0
ACCEPTS_PER_TURN = 64


@dataclass(frozen=True)
class HostSettings:
    """What a host is told beside its address and its key.

    Attributes:
        queues: the name of each queue and its maxsize, 0 for unbounded.
        lease_timeout: seconds until a delivery that is not settled goes to somebody else although
            its receiver is alive; None for never.
        handshake_timeout: seconds for a new connection to authenticate.
        message_limit: bytes of the largest message.
        unauthenticated_limit: connections that have not authenticated yet; with one more, the
            oldest of them is cut.
        grace: seconds for a stopping host to let replies out.
    """

    queues: Mapping[str, int] = field(default_factory=dict)
    lease_timeout: float | None = None
    handshake_timeout: float = 10.0
    message_limit: int = MESSAGE_LIMIT
    unauthenticated_limit: int = 1024
    grace: float = 1.0


class HostRegistry(dict[str, Any]):
    """What `BaseManager` hands to its server: the registered types, and here also the settings."""

    def __init__(self, types: Mapping[str, Any], settings: HostSettings) -> None:
        super().__init__(types)
        self.settings = settings

    def __reduce__(self) -> tuple[Any, ...]:
        return HostRegistry, (dict(self), self.settings)


class _NotPlain(Exception):
    """A pickle names classes or functions, so that loading it may run a user's code."""


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise _NotPlain


@dataclass
class _Client:
    """What the host remembers of a client of ours: its connection, and for each channel the last
    numbered request with its answer, given again where the request is repeated."""

    peer: Peer | None = None
    answers: dict[Any, tuple[int, Answer | None]] = field(default_factory=dict)


class QueueServer(managers.Server):  # type: ignore[misc]  # typeshed hides its attributes
    """A server of hosted queues and of whatever else is registered."""

    def __init__(
        self, registry: Mapping[str, Any], address: Address | None, authkey: bytes, serializer: str
    ) -> None:
        settings = getattr(registry, "settings", None) or HostSettings()
        self.registry = registry
        self.authkey = process.AuthenticationString(authkey)
        self.settings: HostSettings = settings
        self.reactor = Reactor()
        self.queues = {
            QUEUE_PREFIX + name: HostedQueue(
                self.reactor, maxsize, lease_timeout=settings.lease_timeout
            )
            for name, maxsize in settings.queues.items()
        }
        self.id_to_obj: dict[str, Any] = {"0": (None, ())}
        self.id_to_refcount: dict[str, int] = {}
        self.id_to_local_proxy_obj: dict[str, Any] = {}
        self.mutex = threading.Lock()
        self.stop_event = threading.Event()
        self._listener, self.address = listen(address)
        self._peers: dict[Peer, Worker | None] = {}
        self._newcomers: dict[Peer, None] = {}  # not authenticated yet, oldest first
        self._clients: dict[str, _Client] = {}
        self._client_of: dict[Peer, str] = {}

    # -- life ---------------------------------------------------------------------------------

    def serve_forever(self) -> None:
        """Serve until `stop`, then let replies out, close everything and return."""
        process.current_process()._manager_server = self  # type: ignore[attr-defined]
        self._listener.setblocking(False)
        self.reactor.watch(self._listener, selectors.EVENT_READ, self._accept)
        try:
            self.reactor.run()
        finally:
            self._close()

    def stop(self) -> None:
        """End `serve_forever`; callable from any thread and from a signal handler."""
        self.reactor.call_soon(self._stop)

    def _stop(self) -> None:
        if self.stop_event.is_set():
            return
        self.stop_event.set()
        self._close_listener()
        deadline = time.monotonic() + self.settings.grace

        def when_idle() -> None:
            if all(peer.idle for peer in self._peers) or time.monotonic() > deadline:
                self.reactor.stop()
            else:
                self.reactor.call_at(time.monotonic() + 0.01, when_idle)

        when_idle()

    def _close_listener(self) -> None:
        self.reactor.unwatch(self._listener)
        self._listener.close()
        unlink(self.address)

    def _close(self) -> None:
        self.stop_event.set()
        self._close_listener()
        for peer, worker in list(self._peers.items()):
            peer.close()
            if worker is not None:
                worker.end()
        self.reactor.close()

    # -- connections --------------------------------------------------------------------------

    def _accept(self, events: int) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                sock, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as exc:
                # Out of descriptors: what is there goes on, and newcomers wait in the backlog
                # until something has closed. Trying again at once would only burn the processor.
                logger.warning("cannot accept a connection, trying again in 0.1 s: %s", exc)
                self.reactor.unwatch(self._listener)
                self.reactor.call_at(self.reactor.time() + 0.1, self._accept_again)
                return
            self._welcome(sock)

    def _accept_again(self) -> None:
        if not self.stop_event.is_set():
            self.reactor.watch(self._listener, selectors.EVENT_READ, self._accept)

    def _welcome(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        configure(sock)
        peer = Peer(
            self.reactor,
            sock,
            authkey=bytes(self.authkey),
            message_limit=self.settings.message_limit,
            handshake_timeout=self.settings.handshake_timeout,
            on_authenticated=lambda peer: self._newcomers.pop(peer, None),
            on_message=self._message,
            on_lost=self._lost,
        )
        self._peers[peer] = None
        self._newcomers[peer] = None
        if len(self._newcomers) > self.settings.unauthenticated_limit:
            oldest = next(iter(self._newcomers))
            del self._newcomers[oldest]
            logger.warning("too many connections that do not authenticate; the oldest was cut")
            oldest.close()

    def _lost(self, peer: Peer) -> None:
        self._newcomers.pop(peer, None)
        worker = self._peers.pop(peer, None)
        if worker is not None:
            worker.end()
        for hosted in self.queues.values():
            hosted.owner_lost(peer)
        client_id = self._client_of.pop(peer, None)
        client = self._clients.get(client_id) if client_id else None
        if client is not None and client.peer is peer:
            client.peer = None
            self.reactor.call_at(
                self.reactor.time() + ANSWERS_KEPT, lambda: self._forget(client_id, client)
            )

    def _forget(self, client_id: str | None, client: _Client) -> None:
        if client.peer is None and self._clients.get(client_id or "") is client:
            del self._clients[client_id or ""]

    # -- requests -----------------------------------------------------------------------------

    def _message(self, peer: Peer, message: Buffer) -> None:
        try:
            if len(message) > INLINE_LIMIT and peer not in self._client_of:
                raise _NotPlain
            request = self._load(peer, message)
        except _NotPlain:
            self._to_worker(peer, message)
        except Exception:
            self._answer(peer, ("#TRACEBACK", format_exc()))
        else:
            self._request(peer, request, message)

    def _load(self, peer: Peer, message: Buffer) -> tuple[Any, ...]:
        if peer in self._client_of:
            return load(message)  # type: ignore[no-any-return]
        return _PlainUnpickler(io.BytesIO(message)).load()  # type: ignore[no-any-return]

    def _request(self, peer: Peer, request: tuple[Any, ...], message: Buffer) -> None:
        ident, method, args, kwds = request[:4]
        if len(request) > 4:
            self._own_request(peer, ident, method, args, kwds, request[4])
        elif ident in self.queues:
            if method in ("put", "put_nowait"):
                args, kwds = _with_frame(method, args, kwds)
            self._stock_request(peer, ident, method, args, kwds)
        elif not peer.accepted and self._serve_function(peer, method, args):
            pass
        else:
            self._to_worker(peer, message)

    def _stock_request(
        self, peer: Peer, ident: str, method: str, args: tuple[Any, ...], kwds: dict[str, Any]
    ) -> None:
        try:
            if method in self.fallback_mapping:
                self._answer(peer, ("#RETURN", f"<hosted queue {ident[len(QUEUE_PREFIX) :]!r}>"))
            else:
                StockFace(self.queues[ident]).call(
                    peer, method, args, kwds, partial(self._answer, peer)
                )
        except AttributeError:
            self._answer(peer, ("#TRACEBACK", format_exc()))
        except Exception as exc:
            self._answer(peer, ("#ERROR", exc))

    def _own_request(
        self,
        peer: Peer,
        ident: str,
        method: str,
        args: tuple[Any, ...],
        kwds: dict[str, Any],
        request_id: int,
    ) -> None:
        def send(answer: Answer) -> bool:
            return peer.send(dump((*answer, request_id)))

        client = self._clients[self._client_of[peer]]
        if "channel" in kwds:
            # Numbered: run once, and give the same answer again to whoever repeats it.
            channel, number = (ident, kwds["channel"]), kwds["number"]
            known = client.answers.get(channel)
            if known is not None and known[0] == number and known[1] is not None:
                send(known[1])
                return
            client.answers[channel] = (number, None)
            transmit = send

            def send(answer: Answer) -> bool:
                client.answers[channel] = (number, answer)
                return transmit(answer)

        try:
            if ident not in self.queues:
                raise KeyError(self._unknown(ident[len(QUEUE_PREFIX) :]))
            if method == "move":
                delivery_id, target, data = args
                if QUEUE_PREFIX + target not in self.queues:
                    raise KeyError(self._unknown(target))
                moved = self.queues[ident].move(
                    delivery_id, self.queues[QUEUE_PREFIX + target], data, owner=peer
                )
                send(("#RETURN", moved))
            else:
                OwnFace(self.queues[ident]).call(peer, request_id, method, args, send)
        except Exception as exc:
            send(("#ERROR", exc))

    def _answer(self, peer: Peer, answer: Answer) -> bool:
        return peer.send(dump(answer))

    def _unknown(self, name: str) -> str:
        known = ", ".join(sorted(name for name in self.registry)) or "nothing"
        return f"no queue or object is registered here as {name!r}; there is: {known}"

    # -- the functions of the server itself ---------------------------------------------------

    def _serve_function(self, peer: Peer, method: str, args: tuple[Any, ...]) -> bool:
        """Answer the functions that concern queues or the host; False for all others."""
        ident = args[0] if args else None
        answer: Any = None
        match method:
            case "accept_connection":
                peer.accepted = True
                if isinstance(ident, str) and ident.startswith(CLIENT_PREFIX):
                    self._introduce(peer, ident)
            case "dummy":
                pass
            case "queues":  # not of the standard library: by it a client knows a host of ours
                answer = sorted(self.settings.queues)
            case "create" if ident not in self.registry:
                self._answer(peer, ("#ERROR", KeyError(self._unknown(str(ident)))))
                return True
            case "create" if QUEUE_PREFIX + str(ident) in self.queues:
                answer = (QUEUE_PREFIX + str(ident), STOCK_METHODS)
            case "incref" | "decref" if ident in self.queues:
                pass
            case "shutdown":
                self._answer(peer, ("#RETURN", None))
                self._stop()
                return True
            case _:
                return False
        self._answer(peer, ("#RETURN", answer))
        return True

    def _introduce(self, peer: Peer, client_id: str) -> None:
        """A client of ours has connected. What an older connection of its left behind ends first:
        the client has given it up, even if this side has not heard of that yet."""
        client = self._clients.setdefault(client_id, _Client())
        if client.peer is not None:
            older = client.peer
            older.close()
            self._lost(older)
        client.peer = peer
        self._client_of[peer] = client_id

    # -- objects other than queues ------------------------------------------------------------

    def _to_worker(self, peer: Peer, message: Buffer) -> None:
        worker = self._peers.get(peer)
        if worker is None:
            if peer.closed:
                return

            def send(reply: Buffer) -> None:
                self.reactor.call_soon(lambda: peer.send([reply]))

            try:
                worker = Worker(
                    f"aiomanager-objects-{len(self._peers)}",
                    self._serve_objects,
                    send,
                    partial(self._divert, peer),
                )
            except RuntimeError as exc:  # no thread to be had
                self._answer(peer, ("#TRACEBACK", f"RuntimeError: the host is overloaded: {exc}"))
                return
            self._peers[peer] = worker
        worker.submit(message)

    def _serve_objects(self, worker: Worker) -> None:
        with contextlib.suppress(SystemExit):  # how serve_client ends
            self.serve_client(worker)

    def _divert(self, peer: Peer, request: Request) -> bool:
        """On a worker's thread: what is for a queue, or for the server itself, goes back."""
        ident, method, args, kwds = request
        if ident in self.queues:
            if method in ("put", "put_nowait"):
                args, kwds = _with_frame(method, args, kwds)
            self.reactor.call_soon(lambda: self._stock_request(peer, ident, method, args, kwds))
            return True
        if ident is not None:
            return False
        self._run_function(peer, method, args, kwds)
        return True

    def _run_function(
        self, peer: Peer, method: str, args: tuple[Any, ...], kwds: dict[str, Any]
    ) -> None:
        answer: Answer
        try:
            if method == "get_methods" and args and args[0].id in self.queues:
                answer = ("#RETURN", STOCK_METHODS)
            elif method in self.public:
                answer = ("#RETURN", getattr(self, method)(None, *args, **kwds))
            else:
                raise AttributeError(f"{method!r} is not a function of a manager's server")
        except Exception:
            answer = ("#TRACEBACK", format_exc())
        self.reactor.call_soon(lambda: self._answer(peer, answer))


def _with_frame(
    method: str, args: tuple[Any, ...], kwds: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A stock client's put with the item as a frame. Where the arguments do not fit, they stay as
    they are, and the call itself will say what is wrong."""
    try:
        bound = item_of(method, args, kwds)
    except TypeError:
        return args, kwds
    bound.arguments["item"] = Frame(encode(bound.arguments["item"]))
    return bound.args, bound.kwargs


def configure(sock: socket.socket) -> None:
    """Make a TCP connection answer at once, and find out when its peer is gone without a word."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Together under 30 s: the first probe after 10 s of silence, then three of 5 s each; and as
    # long for what was sent and not acknowledged. Not every platform has every option.
    for name, value in (
        ("TCP_KEEPIDLE", 10), ("TCP_KEEPALIVE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", 25_000),
    ):  # fmt: skip
        option = getattr(socket, name, None)
        if option is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
