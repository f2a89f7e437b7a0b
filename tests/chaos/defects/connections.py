"""Mistakes in the host's care of its connections, and of itself."""

from __future__ import annotations

import itertools
import math
import os
import threading
from collections.abc import Sequence
from typing import Any

from aiomanager._host import manager
from aiomanager._host.connection import Peer
from aiomanager._host.listener import Listener
from aiomanager._host.server import QueueServer
from aiomanager._wire import endpoint, handshake
from tests.chaos.defects.table import Defect, Patch, enter, nothing

DEFECTS: dict[str, Defect] = {}
defect = enter(DEFECTS)


def _peers_with(**others: Any) -> Sequence[Patch]:
    init = Peer.__init__

    def init_with(*args: Any, **options: Any) -> None:
        init(*args, **{**options, **others})

    return [(Peer, "__init__", init_with)]


@defect
def no_handshake_deadline() -> Sequence[Patch]:
    """A stranger may be silent for ever."""
    return _peers_with(handshake_timeout=math.inf)


@defect
def no_message_limit() -> Sequence[Patch]:
    """A message may be as long as it says."""
    return _peers_with(message_limit=2**62)


@defect
def no_handshake_limit() -> Sequence[Patch]:
    """A stranger may send as much as anybody."""
    return [(endpoint, "HANDSHAKE_LIMIT", 2**40)]


@defect
def any_key() -> Sequence[Patch]:
    """Whoever answers is let in."""

    def let_in(key: bytes, challenge: bytes, response: bytes, roles: Any, beside: bytes) -> Any:
        return roles[-1]

    return [(handshake, "_verify", let_in)]


@defect
def no_unauthenticated_limit() -> Sequence[Patch]:
    """No stranger is pushed out by those who come after."""
    return [(QueueServer, "_cut_oldest_newcomer", nothing)]


@defect
def deaf_after_exhaustion() -> Sequence[Patch]:
    """A host that could not accept never tries again."""
    return [(QueueServer, "_accept_again", nothing)]


@defect
def stops_at_once() -> Sequence[Patch]:
    """A host that is told to stop lets nothing finish."""

    def stop(server: QueueServer, deadline: float) -> None:
        server.reactor.stop()

    return [(QueueServer, "_stop_when_idle", stop)]


@defect
def descriptors_kept() -> Sequence[Patch]:
    """A connection that is closed keeps its descriptor."""
    close = Peer.close
    kept: list[int] = []

    def close_but(peer: Peer, **options: Any) -> None:
        if not peer.closed:
            kept.append(os.dup(peer._sock.fileno()))
        close(peer, **options)

    return [(Peer, "close", close_but)]


@defect
def threads_kept() -> Sequence[Patch]:
    """A connection has a thread, which does not end with it."""
    welcome = QueueServer._welcome
    numbers = itertools.count()

    def welcome_with_thread(server: QueueServer, sock: Any) -> None:
        threading.Thread(
            target=threading.Event().wait, name=f"kept-{next(numbers)}", daemon=True
        ).start()
        welcome(server, sock)

    return [(QueueServer, "_welcome", welcome_with_thread)]


@defect
def socket_file_kept() -> Sequence[Patch]:
    """A host that ends leaves its socket's file."""
    return [(Listener, "close", lambda listener: listener.sock.close())]


@defect
def orphaned() -> Sequence[Patch]:
    """A host does not notice that its parent is gone."""
    return [(manager, "stop_with_parent", nothing)]
