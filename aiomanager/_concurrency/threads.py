"""Outcomes from other threads: an engine whose client library blocks, or has a thread of its own,
brings them to the event loop with one hop for all that come meanwhile.

A hop wakes the event loop by a byte through a socket, which costs as much as ten items; a thread
that answers a batch of a thousand would spend its time on nothing else.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from .event_loop import for_other_threads
from .futures import Future

logger = logging.getLogger("aiomanager")

T = TypeVar("T")

# Seconds that a thread waits for more to do before it ends. To start one costs a tenth of a
# millisecond; to keep one for ever costs whoever forgets to end it.
LINGER = 0.1


class Handover:
    """The way from other threads to the event loop in which this was made. Used by an engine: any
    thread fills its futures here, in order, and wakes the loop once for all that it had filled
    before the loop came to look.

    Where the loop has ended, nothing is raised; what is handed over is dropped, and the answer is
    False. True is no promise, as the loop may end before it looks: an item is safe only when
    somebody has settled or taken it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: deque[Callable[[], object]] = deque()
        self._on_its_way = False  # the loop was woken, and has not looked yet
        self._wake = for_other_threads(self._look)

    def set_result(self, future: Future[T], value: T) -> bool:
        """Fill a future with a value."""
        return self.call(partial(future.set_result, value))

    def set_exception(self, future: Future[Any], error: Exception) -> bool:
        """Fill a future with an error."""
        return self.call(partial(future.set_exception, error))

    def call(self, callback: Callable[[], object]) -> bool:
        """Call back on the event loop, after all that was handed over before."""
        with self._lock:
            self._calls.append(callback)
            if self._on_its_way:
                return True
            self._on_its_way = True
        if self._wake():
            return True
        with self._lock:
            self._calls.clear()
            self._on_its_way = False
        return False

    def _look(self) -> None:
        with self._lock:
            # What comes from here on wakes the loop anew: nothing is left behind.
            calls, self._calls = self._calls, deque()
            self._on_its_way = False
        for callback in calls:
            try:
                callback()
            except Exception:  # none of the others' business
                logger.exception("a callback of aiomanager failed")


class OwnThread:
    """A thread that runs blocking calls, one after the other, for the event loop in which this was
    made. Used by an engine whose client library blocks: its calls hold up nobody on the loop, and
    take nothing of anyio's thread limiter, which is the user's.

    The thread is there while there is something to do, and for `LINGER` seconds after that: nobody
    has to end it, and it keeps no process from ending.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._handover = Handover()
        self._lock = threading.Lock()
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._running = False

    def run(self, work: Callable[[], T]) -> Future[T]:
        """Run blocking work on the thread; it begins when what was given before has ended. The
        future has what it returns or raises."""
        future: Future[T] = Future()
        with self._lock:
            if not self._running:
                # What this raises, where no thread can be had, is the caller's outcome.
                threading.Thread(target=self._work, name=self._name, daemon=True).start()
                self._running = True
            self._jobs.put((future, work))
        return future

    def _work(self) -> None:
        while True:
            try:
                future, work = self._jobs.get(timeout=LINGER)
            except Empty:
                with self._lock:
                    if self._jobs.empty():  # or else one came just now
                        self._running = False
                        return
                continue
            try:
                value = work()
            except Exception as exc:
                self._handover.set_exception(future, exc)
            else:
                self._handover.set_result(future, value)
            del future, work  # what they hold is not this thread's while it waits
