"""Mistakes that show where a process ends: what it does to others' connections, and when it closes
its own."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Sequence
from multiprocessing import process, util
from typing import Any

from tests.chaos.defects.table import Defect, Patch, enter

DEFECTS: dict[str, Defect] = {}
defect = enter(DEFECTS)


@defect
def children_cut_connections() -> Sequence[Patch]:
    """A forked child that ends shuts down what it has inherited, and so its parent's."""
    private: Any = util
    end = private._exit_function

    def cut_and_end() -> None:
        if process.parent_process() is not None:
            _shut_down_connections()
        end()

    return [(util, "_exit_function", cut_and_end)]


@defect
def cut_off_before_returns() -> Sequence[Patch]:
    """An interpreter that ends closes its connections first, and then has none for what is to go
    back."""
    private: Any = threading
    shutdown = private._shutdown

    def cut_and_shut_down() -> None:
        _shut_down_connections()
        shutdown()

    return [(threading, "_shutdown", cut_and_shut_down)]


def _shut_down_connections() -> None:
    """Shut down every socket of this process that is connected to something with an address."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(name))) as sock:
            if sock.getpeername():
                sock.shutdown(socket.SHUT_RDWR)
