"""What a forked child does not share with its parent: connections.

Both would write into one stream and read from it, and an end that one of them says is the end of
both. So a child lets go of every connection of its parent's at once, without a word to the other
side: the parent notices nothing, and its host notices the parent's end also where children are
left. What a child uses after that it makes for itself.
"""

from __future__ import annotations

import contextlib
import os
import socket
from weakref import WeakSet

_sockets: WeakSet[socket.socket] = WeakSet()


def belongs_to_this_process(sock: socket.socket) -> None:
    """Let a forked child have no part in a connection. There the socket is closed, so that
    whatever is left of its users can neither send nor shut it down."""
    _sockets.add(sock)


def _let_go() -> None:
    for sock in list(_sockets):
        # Not `close`, which some who hold the socket would take for their own doing.
        descriptor = sock.detach()
        if descriptor != -1:
            with contextlib.suppress(OSError):
                os.close(descriptor)
    _sockets.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
