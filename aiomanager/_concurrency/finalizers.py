"""Work that is left when nobody is there to wait for it: what finalizers have to tell a host, for
one. Blocking jobs are done by a thread, one after the other, which ends with the last."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from multiprocessing import util
from typing import Any, Protocol
from weakref import WeakSet

from .event_loop import spawn

logger = logging.getLogger("aiomanager")

# Seconds that the end of the interpreter waits for what has not been done yet.
EXIT_GRACE = 2.0

# What anyio calls those that it makes for asyncio.
_ANYIO_THREAD = "AnyIO worker thread"

_jobs: deque[Callable[[], object]] = deque()
_last_jobs: list[Callable[[], object]] = []
_to_cut: WeakSet[Connections] = WeakSet()
_working = threading.Lock()  # held by the thread, as long as there is one


def afterwards(job: Callable[[], object]) -> None:
    """Do a job soon, on another thread; where the interpreter ends, now. Callable from anywhere,
    finalizers included; it waits for nothing. What the job raises is logged."""
    if util.is_exiting():
        _do(job)
        return
    _jobs.append(job)
    if _working.acquire(blocking=False):
        try:
            threading.Thread(target=_work, name="aiomanager-afterwards", daemon=True).start()
        except RuntimeError:  # no thread to be had any more
            _work()


def on_behalf_of_nobody(work: Callable[[], Awaitable[object]]) -> None:
    """Start a task of the event loop for somebody who has left. What it raises is logged."""

    async def run() -> None:
        try:
            await work()
        except Exception as exc:
            logger.debug("left undone: %s", exc)

    with contextlib.suppress(RuntimeError):  # the event loop is gone
        spawn(run)


class Connections(Protocol):
    """A pool of connections, or a session."""

    def cut(self) -> None:
        """Close all connections; threads that wait for something there are woken."""


def cut_at_exit(connections: Connections) -> None:
    """Let no thread that waits for a host keep the interpreter from ending, where an event loop
    was left without cancelling its tasks."""
    _to_cut.add(connections)


def at_exit(job: Callable[[], object]) -> None:
    """Do a job when the interpreter ends, before connections are cut and references given up.

    It is done twice: when the main thread has ended, and again when all threads have that the
    interpreter waits for. What it raises is logged.
    """
    _last_jobs.append(job)


def _work() -> None:
    while True:
        while _jobs:
            _do(_jobs.popleft())
        _working.release()
        # Another may have come while the lock was still held.
        if not _jobs or not _working.acquire(blocking=False):
            return


def _do(job: Callable[[], object]) -> None:
    try:
        job()
    except Exception as exc:
        logger.debug("left undone: %r: %s", job, exc)


def _do_last_jobs() -> None:
    for job in _last_jobs:
        _do(job)


def _end() -> None:
    _do_last_jobs()
    for connections in list(_to_cut):
        with contextlib.suppress(Exception):
            connections.cut()
    with contextlib.suppress(Exception):  # of threads that only look like anyio's
        _end_threads_of_ended_loops()


def _end_threads_of_ended_loops() -> None:
    """Anyio's threads end with the first task of their event loop. Where that has not ended, or
    had before they were started, and nobody runs the loop any more, they would wait for work for
    ever, and the interpreter for them."""
    threads: list[Any] = threading.enumerate()
    for thread in threads:
        # To stop one twice raises, where it is still at work.
        if thread.name == _ANYIO_THREAD and not (thread.stopping or thread.loop.is_running()):
            thread.stop()


def _finish_at_exit() -> None:
    if _working.acquire(timeout=EXIT_GRACE):
        _working.release()


def _start_anew() -> None:
    """In a forked child: its parent's jobs and connections are its parent's, and the thread is not
    here."""
    global _working, _to_cut  # noqa: PLW0603
    _jobs.clear()
    _to_cut = WeakSet()
    _working = threading.Lock()


# What `atexit` runs comes too late, when the interpreter has waited for all threads. This is how
# `concurrent.futures` does it.
getattr(threading, "_register_atexit", lambda _: None)(_end)


def _register(_: object = None) -> None:
    # With multiprocessing's own finalizers, and before those that give references up (10) or stop
    # a manager.
    util.Finalize(None, _do_last_jobs, exitpriority=30)
    util.Finalize(None, _finish_at_exit, exitpriority=20)


_register()
# A child of multiprocessing's forgets the finalizers of its parent.
util.register_after_fork(_register, _register)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
