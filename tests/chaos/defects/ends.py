"""Mistakes that show where a process ends: what it does to others' connections."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.defects.table import Defect, Patch, enter

DEFECTS: dict[str, Defect] = {}
defect = enter(DEFECTS)


@defect
def children_cut_connections() -> Sequence[Patch]:
    """A forked child shuts down what it has inherited, and so its parent's."""
    fork = os.fork

    def fork_and_cut() -> int:
        inherited = _connections()
        pid = fork()
        for sock in inherited:
            if pid == 0:
                _shut_down(sock)
            sock.close()
        return pid

    return [(os, "fork", fork_and_cut)]


def _connections() -> list[socket.socket]:
    """Every socket of this process that is connected to something with an address, once more."""
    found = []
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            sock = socket.socket(fileno=os.dup(int(path.name)))
            if sock.getpeername():
                found.append(sock)
            else:
                sock.close()
    return found


def _shut_down(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
