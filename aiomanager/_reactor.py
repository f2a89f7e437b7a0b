"""The host's one thread for input and output: sockets, times, and calls from other threads.

It runs nothing of a user's, so that nothing of a user's can hold it up: what has to be unpickled
with a user's classes, and calls of a user's objects, belong on other threads, which come back by
`call_soon`.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable

logger = logging.getLogger("aiomanager.host")


class ReactorTimer:
    """A call at a time, until it is cancelled."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Reactor:
    """A selector with a clock. Only `call_soon` may be called from another thread."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, ReactorTimer]] = []
        self._numbers = itertools.count()
        self._calls: deque[Callable[[], None]] = deque()
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._wake_receiver.setblocking(False)
        self._wake_sender.setblocking(False)
        self._stopping = False
        self.watch(self._wake_receiver, selectors.EVENT_READ, self._woken)

    def time(self) -> float:
        """Seconds of the monotonic clock: what happens to the wall clock moves no deadline."""
        return time.monotonic()

    def call_at(self, when: float, callback: Callable[[], None]) -> ReactorTimer:
        timer = ReactorTimer(callback)
        heapq.heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Run the callback on the reactor's thread; callable from any thread and from a signal
        handler."""
        self._calls.append(callback)
        # A full buffer means that the reactor will wake anyway; a closed one, that it is over.
        with contextlib.suppress(OSError):
            self._wake_sender.send(b"\0")

    def watch(self, sock: socket.socket, events: int, callback: Callable[[int], None]) -> None:
        """Call back with the events that are ready; replaces what was watched for."""
        try:
            self._selector.modify(sock, events, callback)
        except KeyError:
            self._selector.register(sock, events, callback)

    def unwatch(self, sock: socket.socket) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(sock)

    def stop(self) -> None:
        """Let `run` return after the callbacks that are under way."""
        self._stopping = True

    def run(self) -> None:
        """Serve until `stop`."""
        while not self._stopping:
            for key, events in self._selector.select(self._pause()):
                self._guard(lambda key=key, events=events: key.data(events))
            while self._calls:
                self._guard(self._calls.popleft())
            self._fire()

    def close(self) -> None:
        self._selector.close()
        self._wake_receiver.close()
        self._wake_sender.close()

    def _pause(self) -> float | None:
        if self._calls:
            return 0
        return max(0.0, self._timers[0][0] - self.time()) if self._timers else None

    def _fire(self) -> None:
        now = self.time()
        while self._timers and self._timers[0][0] <= now:
            callback = heapq.heappop(self._timers)[2].callback
            if callback is not None:
                self._guard(callback)

    def _guard(self, callback: Callable[[], None]) -> None:
        # One bad peer must not end the host for all the others.
        try:
            callback()
        except Exception:
            logger.exception("a callback of the host failed; the host goes on")

    def _woken(self, events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wake_receiver.recv(4096):
                pass
