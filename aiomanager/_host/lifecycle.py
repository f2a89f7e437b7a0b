"""What makes a host's process end: signals, and the end of the process that started it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import selectors
import signal
import sys
import threading
from collections.abc import Callable, Generator
from multiprocessing.process import BaseProcess
from typing import Any

from .reactor import Reactor

POLL = 1.0  # seconds


@contextlib.contextmanager
def stopped_by_signals(stop: Callable[[], object]) -> Generator[None]:
    """Let SIGINT (unless it is ignored) and SIGTERM call `stop` while in the block.

    On another than the main thread the signals are left alone.
    """
    previous = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                previous[number] = signal.signal(number, lambda *_: stop())
    try:
        yield
    finally:
        for number, handler in previous.items():
            if handler is not None:  # None: it was not Python that had set it
                signal.signal(number, handler)


# Of each that serves in this process, the one that was there before it.
_before: dict[object, object] = {}


@contextlib.contextmanager
def server_of_this_process(server: object) -> Generator[None]:
    """Be the server by which a proxy knows that its object is in this process, while in the block.
    There is one at a time; the one that was there before, on another thread, comes back."""
    process: Any = multiprocessing.current_process()
    _before[server] = getattr(process, "_manager_server", None)
    process._manager_server = server
    try:
        yield
    finally:
        before = _before.pop(server)
        if process._manager_server is server:
            process._manager_server = before
        for later, other in list(_before.items()):
            if other is server:  # which is not to come back where that one ends
                _before[later] = before


class EarlyStop:
    """Stops what is still to come: a signal may arrive before there is a server to stop."""

    def __init__(self) -> None:
        self._stop: Callable[[], object] | None = None
        self._called = False

    def __call__(self) -> None:
        """Stop it now, or as soon as it is there."""
        self._called = True
        if self._stop is not None:
            self._stop()

    def attach(self, stop: Callable[[], object]) -> None:
        """It is there: this is what stops it."""
        self._stop = stop
        if self._called:
            stop()


def stop_with_parent(reactor: Reactor, stop: Callable[[], object]) -> None:
    """Call `stop` when the process that started this one by multiprocessing has ended, however it
    did."""
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        # Under `forkserver` this is not the process whose child this one is.
        stop_with_process(reactor, stop, parent.pid)
        threading.Thread(target=lambda: _join(parent, stop), daemon=True).start()


def stop_with_process(reactor: Reactor, stop: Callable[[], object], pid: int) -> None:
    """Call `stop` when a process has ended. Pipes from it do not always tell, as others that it
    forked may hold them open."""
    if sys.platform == "linux":
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            stop()
            return
        except OSError:
            pass  # an old or an unusual kernel
        else:
            reactor.watch(pidfd, selectors.EVENT_READ, lambda _: _gone(reactor, stop, pidfd))
            return
    if os.name == "posix":
        _poll(reactor, stop, pid, os.getppid())


def _gone(reactor: Reactor, stop: Callable[[], object], pidfd: int) -> None:
    reactor.unwatch(pidfd)
    os.close(pidfd)
    stop()


def _poll(reactor: Reactor, stop: Callable[[], object], pid: int, parent: int) -> None:
    gone = os.getppid() != parent  # also where it is gone and nobody has waited for it
    try:
        os.kill(pid, 0)
    except OSError:
        gone = True
    if gone:
        stop()
    else:
        reactor.call_at(reactor.time() + POLL, lambda: _poll(reactor, stop, pid, parent))


def _join(parent: BaseProcess, stop: Callable[[], object]) -> None:
    parent.join()
    stop()
