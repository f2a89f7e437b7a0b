"""The clients of ours at a host: who they are, and what they ask for."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from .._broker.queue import HostedQueue
from .._ground.errors import ConnectionLostError
from .._wire.hello import Hello
from .._wire.messages import QUEUE_PREFIX, Answer, dump
from .._wire.requests import Request
from .client_sessions import Client, Clients
from .connection import Peer
from .own_queue import OwnFace, Send
from .queues import HostQueues
from .reactor import Reactor

# Characters of the name that a client gives itself.
NAME_LIMIT = 64


class OwnClients:
    """Answers the requests of aiomanager's own clients, each once however often it is sent.

    Args:
        queues: those of the host.
    """

    def __init__(self, reactor: Reactor, queues: HostQueues) -> None:
        self.clients = Clients(reactor, self._forgotten)
        self.client_of: dict[Peer, tuple[str, Client]] = {}
        self._reactor = reactor
        self._queues = queues
        self._run = random.getrandbits(62)  # no secret: names this run to those who come back
        self._faces: dict[str, OwnFace] = {}

    def new_queue(self, ident: str, queue: HostedQueue) -> None:
        """There is one more queue, of this id."""
        self._faces[ident] = OwnFace(queue, self._run, self._queues.find)

    def greet(self, peer: Peer, hello: Hello, lost: Callable[[Peer], None]) -> dict[str, Any]:
        """A peer of ours says hello; returns what it is told of this run of the host. Raises
        ValueError where the hello says what makes no sense.

        Args:
            lost: is told of a connection that is closed here.
        """
        name = hello.get("client")
        if name is None:
            return {"run": self._run}
        if not isinstance(name, str) or not 0 < len(name) <= NAME_LIMIT:
            raise ValueError(f"{name!r} is no name of a client")
        returns_within = hello.get("returns_within")
        if not isinstance(returns_within, (int, float)) or not returns_within >= 0:
            raise ValueError(f"{returns_within!r} seconds are no time")
        client = self._introduce(peer, name, lost)
        client.hello(hello.get("run") == self._run, returns_within)
        return {"run": self._run, "kept": client.kept}

    def _introduce(self, peer: Peer, name: str, lost: Callable[[Peer], None]) -> Client:
        """A client of ours has connected. What an older connection of its left behind ends first:
        the client has given it up, even if this side has not heard of that yet."""
        client = self.clients.introduce(name)
        if client.peer is not None:
            older, client.peer = client.peer, None
            older.close()
            lost(older)
        client.peer = peer
        self.client_of[peer] = (name, client)
        return client

    def left(self, peer: Peer) -> None:
        """A connection has ended; its client may come back."""
        name, client = self.client_of.pop(peer, ("", None))  # nothing where it said goodbye
        if client is not None and client.peer is peer:
            self.clients.left(name)

    def answer(self, peer: Peer, request: Request) -> None:
        """Answer a request, now or when there is something to answer. Raises PermissionError for
        those who have not said who they are."""
        known = self.client_of.get(peer)
        if known is None:
            raise PermissionError("a request with an id is for those who have said who they are")
        client = known[1]

        def send(answer: Answer) -> bool:
            try:
                parts = dump((*answer, request.request_id))
            except MemoryError:
                peer.starve()
                return False
            return peer.send(parts)

        def run(send: Send) -> None:
            try:
                face = self._faces.get(request.ident)
                if face is not None:
                    face.call(peer, client, request, send)
                elif request.method == "ping":
                    send(("#RETURN", None))
                elif request.method == "declare":
                    self._queues.declare(*request.args)
                    send(("#RETURN", None))
                elif request.method == "goodbye":
                    self._goodbye(peer)
                    send(("#RETURN", None))
                else:
                    raise self._queues.unknown(request.ident.removeprefix(QUEUE_PREFIX))
            except Exception as exc:
                send(("#ERROR", exc))

        if not request.number:
            run(send)
            return
        channel = request.ident, request.channel
        try:
            client.once(channel, request.number, run, send, again=request.again)
        except (RuntimeError, ConnectionLostError) as exc:
            send(("#ERROR", exc))

    def _goodbye(self, peer: Peer) -> None:
        """A client of ours does not come back, and will not read what it has not read yet."""
        name, client = self.client_of.pop(peer)
        self.clients.forget(name)
        for hosted in client.queues:
            hosted.holder_lost(client, said_so=True)

    def _forgotten(self, client: Client) -> None:
        for hosted in client.queues:
            if returned := hosted.holder_lost(client):
                self._reactor.warn(
                    "a client did not come back; %d items of queue %r, of which it may not have "
                    "known that they were its own, go to others",
                    returned, hosted.name,
                )  # fmt: skip
