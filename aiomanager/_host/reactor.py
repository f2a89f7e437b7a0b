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
import math
import os
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable

from .readiness import Ready, new_selector

logger = logging.getLogger("aiomanager.host")

# What a peer can cause as often as he likes is logged this often for each kind, and then counted
# only. A failure comes with its traceback once, and in one line after that.
WARNINGS = 10
WARNINGS_PERIOD = 60.0  # seconds
KINDS = 100  # so many kinds are counted apart; they are texts of the host's own

# Where more than a few sockets are ready at once, others have their turn after so many seconds.
FEW = 8
TURN = 0.002

# Seconds. A selector does not take a time that is too far away, and infinity is.
LONGEST_PAUSE = 3600.0

# Lets whoever else wants the processor have it.
_give_way: Callable[[], object] = getattr(os, "sched_yield", lambda: time.sleep(0))

# So many cancelled times may lie in the heap for nothing, or as many as there are others.
CANCELLED = 64


class ReactorTimer:
    """A call at a time, until it is cancelled."""

    __slots__ = ("_on_cancel", "callback")

    def __init__(self, callback: Callable[[], None], on_cancel: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback
        self._on_cancel = on_cancel

    def cancel(self) -> None:
        """Let the call not happen; after it has, nothing."""
        if self.callback is not None:
            self.callback = None
            self._on_cancel()


class _Limited:
    """How often something of one kind was logged since a time, and how often it was not."""

    __slots__ = ("count", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.count = 0


class Reactor:
    """A selector with a clock. Only `call_soon` may be called from another thread.

    Args:
        busy_poll: seconds. Where it had to wait for less than that the last time, it looks for more
            for as long before it sleeps: to fall asleep and to be woken takes longer than to serve
            a request.
        afterwards: called after each call and each time that was due, for what they have left to
            do; what a socket calls sees to that itself.
    """

    def __init__(
        self, busy_poll: float = 0.0, afterwards: Callable[[], object] = lambda: None
    ) -> None:
        self._busy_poll = busy_poll
        self._afterwards = afterwards
        self._selector = new_selector()
        self._callbacks: dict[object, Callable[[int], object]] = {}  # by what is watched
        self._timers: list[tuple[float, int, ReactorTimer]] = []
        self._cancelled = 0
        self._numbers = itertools.count()
        self._calls: deque[Callable[[], None]] = deque()
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._wake_receiver.setblocking(False)
        self._wake_sender.setblocking(False)
        self._stopping = False
        self._limited: dict[str, _Limited] = {}
        self.watch(self._wake_receiver, selectors.EVENT_READ, self._woken)

    def time(self) -> float:
        """Seconds of the monotonic clock: what happens to the wall clock moves no deadline."""
        return time.monotonic()

    def call_at(self, when: float, callback: Callable[[], None]) -> ReactorTimer:
        """Call back once it is that time; raises ValueError for what is no time."""
        if math.isnan(when):
            raise ValueError("NaN is no time")  # and would leave the heap without an order
        timer = ReactorTimer(callback, self._timer_cancelled)
        heapq.heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Run the callback on the reactor's thread; callable from any thread and from a signal
        handler."""
        self._calls.append(callback)
        # A full buffer means that the reactor will wake anyway; a closed one, that it is over.
        with contextlib.suppress(OSError):
            self._wake_sender.send(b"\0")

    def watch(
        self, sock: socket.socket | int, events: int, callback: Callable[[int], object]
    ) -> None:
        """Call back with the events that are ready; replaces what was watched for."""
        try:
            self._selector.modify(sock, events)
        except KeyError:
            self._selector.register(sock, events)
        self._callbacks[sock] = callback

    def unwatch(self, sock: socket.socket | int) -> None:
        """Call back no more; a socket that is not watched may be given."""
        self._callbacks.pop(sock, None)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(sock)

    def warn(self, message: str, *args: object) -> None:
        """Log a warning whose cause is a peer's, so that no peer can fill the log."""
        if self._may_log(message):
            logger.warning(message, *args)

    def failed(self, message: str, error: Exception) -> None:
        """Log an error, its cause a peer's perhaps, if there is memory enough for that: with its
        traceback where it is the first of its kind for a while."""
        with contextlib.suppress(MemoryError):
            if nth := self._may_log(message):
                if nth == 1:
                    logger.error(message, exc_info=error)
                else:
                    logger.error("%s: %s", message, f"{type(error).__name__}: {error}"[:200])

    def _may_log(self, kind: str) -> int:
        """Which of its kind this is since a while, from 1 on; 0 where there were too many."""
        now = self.time()
        limited = self._limited.get(kind)
        if limited is None:
            if len(self._limited) >= KINDS:
                return 0
            limited = self._limited[kind] = _Limited(now)
        elif now >= limited.since + WARNINGS_PERIOD:
            self._say_left_out(kind, limited)
            limited.since, limited.count = now, 0
        limited.count += 1
        if limited.count == WARNINGS + 1:
            # Also where none of the kind comes after these.
            self.call_at(limited.since + WARNINGS_PERIOD, lambda: self._say_left_out(kind, limited))
        return limited.count if limited.count <= WARNINGS else 0

    @staticmethod
    def _say_left_out(kind: str, limited: _Limited) -> None:
        if limited.count > WARNINGS:
            logger.warning("%d more warnings were left out: %s", limited.count - WARNINGS, kind)
            limited.count = WARNINGS

    def stop(self) -> None:
        """Let `run` return after the callbacks that are under way."""
        self._stopping = True

    def run(self) -> None:
        """Serve until `stop`."""
        pause = self._fire()
        waited = math.inf
        while not self._stopping:
            start = time.monotonic()
            quick = waited < self._busy_poll
            ready = self._poll(pause) if quick else self._selector.select(pause)
            waited = time.monotonic() - start
            self._serve(ready)
            self._run_calls()
            pause = self._fire()

    def close(self) -> None:
        """Release the selector; `call_soon` is ignored from then on."""
        self._selector.close()
        self._wake_receiver.close()
        self._wake_sender.close()

    # -- inside -------------------------------------------------------------------------------

    def _serve(self, ready: list[Ready]) -> None:
        end = math.inf
        if len(ready) > FEW:
            # What is left after a turn is ready still the next time, with whoever has come since.
            end = time.monotonic() + TURN
        for watched, events in ready:
            callback = self._callbacks.get(watched)
            if callback is None:
                continue  # unwatched meanwhile, by what came before in this turn
            try:
                callback(events)
            except Exception as exc:
                # One bad peer must not end the host for all the others.
                self.failed("a callback of the host failed; the host goes on", exc)
            # Before the next event: that a peer is gone comes before what was asked after it.
            self._run_calls()
            if end < time.monotonic():
                break

    def _poll(self, pause: float | None) -> list[Ready]:
        """As `select`, but awake at first."""
        start = now = time.monotonic()
        longest = self._busy_poll if pause is None else min(self._busy_poll, pause)
        while now < start + longest:
            if ready := self._selector.select(0):
                return ready
            _give_way()
            now = time.monotonic()
        return self._selector.select(None if pause is None else pause - (now - start))

    def _fire(self) -> float | None:
        """Call what is due; return the seconds until there is something to do again."""
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            callback, timer.callback = timer.callback, None
            if callback is None:
                self._cancelled -= 1
            else:
                self._guard(callback)
        if self._calls:
            return 0
        return min(self._timers[0][0] - now, LONGEST_PAUSE) if self._timers else None

    def _timer_cancelled(self) -> None:
        # Most times here are deadlines, which are nearly always cancelled: they must not pile up
        # until they are due.
        self._cancelled += 1
        if self._cancelled > max(CANCELLED, len(self._timers) // 2):
            self._timers = [entry for entry in self._timers if entry[2].callback is not None]
            heapq.heapify(self._timers)
            self._cancelled = 0

    def _run_calls(self) -> None:
        while self._calls:
            self._guard(self._calls.popleft())

    def _guard(self, callback: Callable[[], None]) -> None:
        try:
            try:
                callback()
            finally:
                self._afterwards()
        except Exception as exc:
            self.failed("a callback of the host failed; the host goes on", exc)

    def _woken(self, events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wake_receiver.recv(4096):
                pass
