"""What makes a host's process end: signals, and the end of the process that started it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator

from ._reactor import Reactor

PARENT_POLL = 1.0  # seconds


@contextlib.contextmanager
def stopped_by_signals(stop: Callable[[], object]) -> Iterator[None]:
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
    """Call `stop` when the process that started this one by multiprocessing has ended."""
    threading.Thread(target=_wait_for_parent, args=(stop,), daemon=True).start()
    watch_parent_id(reactor, stop, os.getppid())


def watch_parent_id(reactor: Reactor, stop: Callable[[], object], parent: int) -> None:
    """Call `stop` once this process has another parent than it had. Pipes from the parent do not
    always tell, as others that it forked may hold them open."""
    if os.getppid() != parent:
        stop()
    else:
        reactor.call_at(
            reactor.time() + PARENT_POLL, lambda: watch_parent_id(reactor, stop, parent)
        )


def _wait_for_parent(stop: Callable[[], object]) -> None:
    # Sees also the end of a parent that had this process started by another, as `forkserver` does.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        stop()
