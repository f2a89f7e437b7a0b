"""Tasks and callbacks that belong to the event loop, of asyncio or of Trio, and not to whoever
asked for them."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import os
import socket
import threading
from asyncio import _get_running_loop  # None where there is none, and no exception for that
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary, ref

import anyio
from anyio.lowlevel import current_token

try:
    import sniffio
except ImportError:  # only trio and other libraries need it
    sniffio = None  # type: ignore[assignment]

logger = logging.getLogger("aiomanager")

T = TypeVar("T")

# Whether this is a callback of aiomanager's, or a task that it has started.
_in_callback: contextvars.ContextVar[bool] = contextvars.ContextVar("in_callback", default=False)

# asyncio itself keeps only weak references to its tasks.
_running: set[asyncio.Task[None]] = set()


def spawn(work: Callable[[], Awaitable[None]]) -> None:
    """Start a task that belongs to the event loop and not to the caller. `work` must not raise;
    it is cancelled when the loop ends."""
    loop = _loop()
    if isinstance(loop, asyncio.AbstractEventLoop):
        task = loop.create_task(_as_coroutine(work))
        _running.add(task)
        task.add_done_callback(_running.discard)
    else:
        import trio

        trio.lowlevel.spawn_system_task(_as_coroutine, work)


async def _as_coroutine(work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except Exception:
        # Nobody waits for this task, and trio would end the program for it.
        logger.exception("a background task of aiomanager failed")


def call_soon(callback: Callable[[], object]) -> None:
    """Call back in the next turn of the event loop, when the tasks that are ready now have run."""
    loop = _loop()
    if isinstance(loop, asyncio.AbstractEventLoop):
        loop.call_soon(_guarded, callback, context=_context_of_callbacks())
    else:
        # What comes soon there comes among the tasks that are ready, in no order: ask once more.
        loop.run_sync_soon(_call_soon_on_trio, loop, callback)


def _call_soon_on_trio(token: Any, callback: Callable[[], object]) -> bool:
    import trio

    try:
        token.run_sync_soon(_guarded, callback)
    except trio.RunFinishedError:
        return False  # nobody is there any more
    return True


def for_other_threads(callback: Callable[[], object]) -> Callable[[], bool]:
    """What any thread may call to have `callback` called by this event loop, if it still runs. It
    returns False where the loop has ended."""
    loop = _loop()
    if isinstance(loop, asyncio.AbstractEventLoop):
        context = _context_of_callbacks()

        def call() -> bool:
            try:
                loop.call_soon_threadsafe(_guarded, callback, context=context)
            except RuntimeError:  # the loop is closed
                return False
            return True

        return call
    return lambda: _call_soon_on_trio(loop, callback)


def call_later(seconds: float, callback: Callable[[], object]) -> None:
    """Call back after so many seconds, if the event loop still runs then."""
    loop = _loop()
    if isinstance(loop, asyncio.AbstractEventLoop):
        loop.call_later(seconds, _guarded, callback, context=_context_of_callbacks())
        return

    async def wait() -> None:
        await anyio.sleep(seconds)
        callback()

    spawn(wait)


def _guarded(callback: Callable[[], object]) -> None:
    try:
        callback()
    except Exception:
        logger.exception("a callback of aiomanager failed")  # trio would end the program


def call_when_readable(sock: socket.socket, callback: Callable[[], object]) -> Callable[[], object]:
    """Call back whenever the socket can be read, until the function that is returned is called,
    which is to be done before the socket is closed."""
    loop = _loop()
    if isinstance(loop, asyncio.AbstractEventLoop):
        # The event loop's own way costs one turn of it; a task that waits costs three.
        with contextlib.suppress(NotImplementedError):
            _context_of_callbacks().run(loop.add_reader, sock, callback)
            return lambda: loop.is_closed() or loop.remove_reader(sock)
    scope = anyio.CancelScope()

    async def wait() -> None:
        with scope, contextlib.suppress(anyio.ClosedResourceError):
            while not scope.cancel_called:  # the callback may have closed the socket
                await anyio.wait_readable(sock)
                callback()

    spawn(wait)
    return scope.cancel


def _context_of_callbacks() -> contextvars.Context:
    """Where callbacks of asyncio can use anyio. They run in no task, and where sniffio is installed
    anyio asks it, which knows asyncio by the current task or by this variable."""
    context = contextvars.copy_context()
    if not _in_callback.get():
        context.run(_in_callback.set, True)
        if sniffio is not None:
            context.run(sniffio.current_async_library_cvar.set, "asyncio")
    return context


def _loop() -> Any:
    """The event loop of asyncio, or the token of Trio."""
    # What anyio asks takes several times as long, and this is asked for every message.
    if _in_callback.get() or on_asyncio():
        try:
            return asyncio.get_running_loop()
        except RuntimeError:
            pass  # in a thread that has its context from a callback
    return current_token().native_token


def on_asyncio() -> bool:
    """Whether this task is asyncio's. In trio's guest mode asyncio runs too, but no task of its
    own at this moment."""
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False


def current_task() -> Any:
    """The task that runs, of asyncio or of Trio. Not its id, which is another task's soon after
    it has ended."""
    if on_asyncio():
        return asyncio.current_task()
    import trio

    return trio.lowlevel.current_task()


def current_loop() -> Any:
    """The event loop of asyncio that runs here, or the token of Trio's run; RuntimeError where
    there is neither."""
    return _get_running_loop() or current_token().native_token


def has_ended(loop: Any) -> bool:
    """Whether an event loop will never run again."""
    if isinstance(loop, asyncio.AbstractEventLoop):
        return loop.is_closed()
    import trio

    try:
        loop.run_sync_soon(_nothing)
    except trio.RunFinishedError:
        return True
    return False


def _nothing() -> None:
    pass


def is_running(loop: Any) -> bool:
    """Whether an event loop runs at this moment, on whatever thread."""
    if isinstance(loop, asyncio.AbstractEventLoop):
        return loop.is_running()
    return not has_ended(loop)


def on_loop_end(callback: Callable[[], object]) -> Callable[[], object]:
    """Have `callback` called when the running event loop ends, after all its tasks have, and
    return what calls that off, from any thread.

    An asynchronous generator is what both libraries bring to an end there; a task would be
    cancelled together with those that still have something to tidy up. One that is closed with no
    `shutdown_asyncgens` before ends without a call.
    """
    callbacks = [callback]
    endings: list[AsyncGenerator[None, None]] = []
    endings.append(_until_the_end(callbacks, endings))
    with contextlib.suppress(StopIteration):
        endings[0].__anext__().send(None)

    def call_off() -> None:
        if callbacks:  # or else it is ending already
            callbacks.clear()
            with contextlib.suppress(StopIteration):
                endings[0].aclose().send(None)

    return call_off


async def _until_the_end(
    callbacks: list[Callable[[], object]], endings: list[AsyncGenerator[None, None]]
) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        # It refers to its event loop, which whoever may call it off is not to keep.
        endings.clear()
        while callbacks:
            callbacks.pop()()


def call_in(loop: Any, callback: Callable[[], object]) -> None:
    """Call back on an event loop, soon. Callable from any thread and from finalizers, which may
    run on any thread and at any moment; where the loop has ended, nothing happens."""
    with contextlib.suppress(RuntimeError):  # of asyncio's, or one of Trio's that is one
        if isinstance(loop, asyncio.AbstractEventLoop):
            loop.call_soon_threadsafe(_guarded, callback, context=_context_of_callbacks())
        else:
            loop.run_sync_soon(_guarded, callback)


class EachLoop(Generic[T]):
    """One object for each event loop of each process, made at its first use there.

    What one loop's tasks wait on is of no use in another, and what a process holds is none of its
    forked child's: so neither ever sees the other's.

    Args:
        make: makes the object; what it raises is raised by `here`.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._made: WeakKeyDictionary[Any, T] = WeakKeyDictionary()
        # The one that was used last, with its loop: in one piece, as threads may look at it.
        self._last: tuple[Callable[[], Any], T] | None = None

    def here(self) -> T:
        """The object of the running event loop."""
        last = self._last
        if last is not None:
            loop = _get_running_loop()  # in a forked child this is none of the parent's
            if loop is not None and last[0]() is loop:
                return last[1]
        return self._look()

    def made(self) -> T | None:
        """The object of the running event loop, if there is one."""
        return self._made.get(current_loop()) if self._process == os.getpid() else None

    def known(self) -> list[T]:
        """All that were made in this process and whose loops are there."""
        with self._lock:
            return list(self._made.values()) if self._process == os.getpid() else []

    def _look(self) -> T:
        loop = current_loop()
        if self._process != os.getpid():
            # The lock may be held for ever, by a thread that is not here.
            self._lock = threading.Lock()
            self._made = WeakKeyDictionary()
            self._process = os.getpid()
        with self._lock:
            made = self._made.get(loop)
        if made is None:
            made = self._make()
            with self._lock:
                made = self._made.setdefault(loop, made)
        self._last = ref(loop), made
        return made


def on_task_end(callback: Callable[[], object]) -> Callable[[], object]:
    """Have `callback` called when the current task has ended, and return what calls that off."""
    if on_asyncio():
        task = asyncio.current_task()
        assert task is not None

        def ended(_: asyncio.Task[Any]) -> None:
            callback()

        task.add_done_callback(ended, context=_context_of_callbacks())
        # Weak, as whoever may call it off may live longer than the task and its event loop.
        watched = ref(task)

        def call_off() -> None:
            task = watched()
            if task is not None:
                task.remove_done_callback(ended)

        return call_off
    return _TaskWatch(callback).end


class _TaskWatch:
    """An instrument of Trio's, which tells nobody else that a task has ended."""

    def __init__(self, callback: Callable[[], object]) -> None:
        import trio

        self._callback = callback
        self._task = trio.lowlevel.current_task()
        trio.lowlevel.add_instrument(self)  # type: ignore[arg-type]

    def task_exited(self, task: object) -> None:
        """For Trio, which knows an instrument by the names of its methods."""
        if task is self._task:
            self.end()
            self._callback()

    def end(self) -> None:
        import trio

        trio.lowlevel.remove_instrument(self)  # type: ignore[arg-type]
