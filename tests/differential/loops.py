"""Event loops for programs that block: who calls is one task, in one of three arrangements.

`asyncio` and `trio`: one loop for the process, on a thread of its own, and in it a task for each
thread that calls. `asyncio-a-thread`: a loop for each thread that calls. `asyncio-a-call`: a new
loop for each call, which has ended when the call returns.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from multiprocessing import util
from typing import Any

import anyio
from anyio.from_thread import BlockingPortal

Work = Callable[[], Awaitable[Any]]

# Seconds for an event loop to end, whose tasks were cancelled.
END = 5.0
# Seconds after which a call hangs, so that a scenario fails that waits for it.
HANGS = 20.0

_running: dict[tuple[int, str, int], Loop] = {}
_lock = threading.Lock()
_numbers = itertools.count()


class Caller:
    """The task of a thread, which does what the thread asks for, one thing after the other."""

    def __init__(self) -> None:
        self._jobs: deque[tuple[Work, Future[Any]] | None] = deque()
        self._wake = anyio.Event()

    def submit(self, job: tuple[Work, Future[Any]] | None) -> None:
        """In the event loop; None for the end."""
        self._jobs.append(job)
        self._wake.set()

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake = anyio.Event()
            while self._jobs:
                job = self._jobs.popleft()
                if job is None:
                    return
                await _do(*job)
                del job  # and with it what the call was given


async def _do(work: Work, outcome: Future[Any]) -> None:
    try:
        result = await work()
    except Exception as exc:
        outcome.set_exception(exc)
    except BaseException:
        outcome.set_exception(CancelledError())
        raise
    else:
        outcome.set_result(result)


class Loop:
    """An event loop on a thread of its own, where each thread that calls has a task of its own.

    So what belongs to a task, an `RLock` for one, belongs to the thread.
    """

    def __init__(self, backend: str) -> None:
        self._callers: dict[int, Caller] = {}
        self._ready: Future[BlockingPortal] = Future()
        self._thread = threading.Thread(
            target=anyio.run,
            args=(self._serve,),
            kwargs={"backend": backend},
            name=f"loop {next(_numbers)} ({backend})",
            daemon=True,
        )
        self._thread.start()
        self._portal = self._ready.result(END)
        # Where a process ends that has not stopped it, as a child does.
        self._at_exit = util.Finalize(self, self._end, exitpriority=1000)

    def call(self, work: Work) -> Any:
        """Run a coroutine function in the task of the calling thread."""
        me = threading.get_ident()
        caller = self._callers.get(me)
        if caller is None:
            caller = self._callers[me] = self._portal.call(Caller)
            self._portal.start_task_soon(caller.run)
        outcome: Future[Any] = Future()
        self._portal.start_task_soon(caller.submit, (work, outcome))
        return outcome.result(HANGS)

    def forget(self) -> None:
        """End the task of the calling thread, which ends too."""
        caller = self._callers.pop(threading.get_ident(), None)
        if caller is not None:
            self._portal.start_task_soon(caller.submit, None)

    def stop(self) -> None:
        """Cancel what is under way, and end the loop."""
        self._at_exit.cancel()
        self._end()

    def _end(self) -> None:
        with contextlib.suppress(RuntimeError):  # it has ended by itself
            self._portal.start_task_soon(self._portal.stop, True)
        self._thread.join(END)

    async def _serve(self) -> None:
        async with BlockingPortal() as portal:
            self._ready.set_result(portal)
            await portal.sleep_until_stopped()


def call(arrangement: str, work: Work) -> Any:
    """Run a coroutine function in an event loop of this process, and wait for it."""
    backend, _, each = arrangement.partition("-a-")
    if each == "call":
        return anyio.run(_limited, work, backend=backend)
    return _loop(arrangement, backend, each).call(work)


async def _limited(work: Work) -> Any:
    with anyio.fail_after(HANGS):
        return await work()


def _loop(arrangement: str, backend: str, each: str) -> Loop:
    # What a child has inherited is its parent's: the threads of these loops are not there.
    key = (os.getpid(), arrangement, threading.get_ident() if each == "thread" else 0)
    with _lock:
        loop = _running.get(key)
        if loop is None:
            loop = _running[key] = Loop(backend)
    return loop


def forget_thread() -> None:
    """End the tasks that the calling thread has in loops of this process."""
    for (pid, _, _), loop in list(_running.items()):
        if pid == os.getpid():
            loop.forget()


def stop_all() -> None:
    """End all loops of this process."""
    for key, loop in list(_running.items()):
        del _running[key]
        if key[0] == os.getpid():
            loop.stop()


def _new_lock() -> None:
    global _lock  # noqa: PLW0603 - the parent may have held it
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)
