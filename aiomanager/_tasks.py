"""Tasks and callbacks that belong to the event loop, of asyncio or of Trio, and not to whoever
asked for them."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from anyio.lowlevel import current_token

try:
    import sniffio
except ImportError:  # only trio and other libraries need it
    sniffio = None  # type: ignore[assignment]

logger = logging.getLogger("aiomanager")

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


def _call_soon_on_trio(token: Any, callback: Callable[[], object]) -> None:
    import trio

    with contextlib.suppress(trio.RunFinishedError):  # nobody is there any more
        token.run_sync_soon(_guarded, callback)


def for_other_threads(callback: Callable[[], object]) -> Callable[[], None]:
    """What any thread may call to have `callback` called by this event loop, if it still runs."""
    loop = _loop()
    if isinstance(loop, asyncio.AbstractEventLoop):
        context = _context_of_callbacks()

        def call() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(_guarded, callback, context=context)

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


def current_task_id() -> int:
    """What no other task that runs at present has."""
    if on_asyncio():
        return id(asyncio.current_task())
    import trio

    return id(trio.lowlevel.current_task())


def on_task_end(callback: Callable[[], object]) -> Callable[[], object]:
    """Have `callback` called when the current task has ended, and return what calls that off."""
    if on_asyncio():
        task = asyncio.current_task()
        assert task is not None

        def ended(_: asyncio.Task[Any]) -> None:
            callback()

        task.add_done_callback(ended, context=_context_of_callbacks())
        return lambda: task.remove_done_callback(ended)
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
