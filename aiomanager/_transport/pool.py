"""Connections to one host that conversations share, each for its own time."""

from __future__ import annotations

import os
import weakref
from functools import partial
from typing import Any, TypeVar

import anyio

from .._concurrency.event_loop import on_loop_end
from .._ground.errors import ConnectionLostError, unanswered
from .._wire.hello import Hello
from .base import Connection, Conversation, Opener, call_function
from .patience import Pauses, open_patiently

T = TypeVar("T")

# Connections that a pool keeps for later; each holds a thread of a stock host.
MOST_IDLE = 32


class ConnectionPool:
    """Connections to one host for conversations, each of which has a connection to itself while it
    lasts.

    Args:
        open_connection: makes a new connection.
        calls: short calls that may be under way at once; waits are not counted, so that no number
            of waiting calls keeps a short one from running.
        call_timeout: seconds for the reply of a short call.
        reconnect: seconds that the host may be away before calls raise `ConnectionLostError`.
    """

    def __init__(
        self,
        open_connection: Opener,
        *,
        calls: int = 4,
        call_timeout: float = 30.0,
        reconnect: float = 30.0,
    ) -> None:
        self._open_connection = open_connection
        self._calls = calls
        self.call_timeout = call_timeout
        self.reconnect = reconnect
        self._limiter: anyio.CapacityLimiter | None = None
        self._idle: list[Connection] = []
        self._used: set[Connection] = set()
        self.closed = False
        self.opened = 0  # how many connections so far

    async def call(self, conversation: Conversation[T]) -> T:
        """Run a short conversation. To be run by a task that no caller can cancel
        (`run_to_completion`).

        It ends by `call_timeout` and `reconnect` together, whatever stands before it."""
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(self._calls)
        patience = self.call_timeout + self.reconnect
        sent = False
        with anyio.move_on_after(patience):
            async with self._limiter:
                connection = await self.borrow()
                sent = True
                return await self._converse(connection, conversation, self.call_timeout)
        raise unanswered(patience, sent=sent)

    async def wait(self, conversation: Conversation[T], timeout: float | None) -> T:
        """Run a conversation that waits at the host, up to `timeout` seconds for each reply."""
        return await self._converse(await self.borrow(), conversation, timeout)

    async def _converse(
        self, connection: Connection, conversation: Conversation[T], timeout: float | None
    ) -> T:
        try:
            return await connection.converse(conversation, timeout)
        except Exception:
            raise
        except BaseException:
            connection.broken = True  # its reply is still to come
            raise
        finally:
            if connection.broken:
                self.drop(connection)
            else:
                self.give_back(connection)

    async def borrow(self) -> Connection:
        """Take a connection out, to own it for longer than one conversation. Where the host is away
        it is waited for, `reconnect` seconds at most."""
        self._check_open()
        connection = self._pop_alive()
        if connection is None:
            connection = await self._open("aiomanager")
            self.opened = connection.number = self.opened + 1
        self._used.add(connection)
        self._check_open(connection)
        return connection

    def _pop_alive(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_alive():
                return connection
            connection.close()  # cut while nobody used it, as firewalls and restarts do
        return None

    async def _open(self, name: str | None) -> Connection:
        return await open_patiently(
            lambda: self._open_connection(name),
            anyio.current_time() + self.reconnect,
            Pauses(),
            lambda: self.closed,
        )

    def _check_open(self, connection: Connection | None = None) -> None:
        if self.closed:
            if connection is not None:
                self.drop(connection)
            raise ConnectionLostError("this manager is closed")

    async def function(self, name: str, *args: Any, **kwds: Any) -> Any:
        """Call a function of the manager's server itself, on a connection of its own, as the
        protocol has it. Where the host is away it is waited for, as in `borrow`."""
        return await self._on_its_own(True, call_function(name, *args, **kwds))

    async def function_once(self, name: str, *args: Any, **kwds: Any) -> Any:
        """`function`, for a host that may not be there yet."""
        return await self._on_its_own(False, call_function(name, *args, **kwds))

    async def hello(self, **said: Any) -> Hello | None:
        """Tell a host that may not be there yet this, and return what it says of itself; None
        where it is no host of ours."""
        self._check_open()
        connection = await self._open_connection(None, **said)
        connection.close()
        return connection.hello

    async def _on_its_own(self, patiently: bool, conversation: Conversation[T]) -> T:
        self._check_open()
        try:
            connection = await (self._open(None) if patiently else self._open_connection(None))
            try:
                return await connection.converse(conversation, self.call_timeout)
            finally:
                connection.close()
        except Exception:
            raise
        except BaseException:
            self.close_idle()  # the event loop ends, and uvloop's may never become garbage
            raise

    def has_one_of_the_first(self, count: int) -> bool:
        """Whether one of the first so many connections is still good, and not in use."""
        return any(
            connection.number <= count and connection.is_alive() for connection in self._idle
        )

    def give_back(self, connection: Connection) -> None:
        """Let others use a connection again, unless it was dropped meanwhile."""
        if self.closed or connection not in self._used or len(self._idle) >= MOST_IDLE:
            self._used.discard(connection)
            connection.close()
        else:
            self._used.discard(connection)
            self._idle.append(connection)

    def forget(self, connection: Connection) -> None:
        """Leave a borrowed connection to somebody who will close it."""
        self._used.discard(connection)

    def drop(self, connection: Connection) -> None:
        """Close a connection that nobody may use again. What is idle is as old, so it goes as well:
        after a restart of the host each of them would fail one more call."""
        self._used.discard(connection)
        connection.close()
        self.close_idle()

    def close_idle(self) -> None:
        """Close what nobody uses at the moment."""
        while self._idle:
            self._idle.pop().close()

    def close(self) -> None:
        """Close all connections, those in use included."""
        self.closed = True
        _close_all(self._idle, self._used, os.getpid(), apart=True)

    def cut(self) -> None:
        """Close all connections that are not `apart`, and nothing else: callable from any
        thread."""
        _close_all(self._idle, self._used, os.getpid())

    def close_after_use(self) -> None:
        """Close the connections also where nobody calls `close`, and this event loop or the
        interpreter ends, or the pool is garbage. For connections that any thread may close."""
        connections = self._idle, self._used, os.getpid()
        weakref.finalize(self, on_loop_end(partial(_close_all, *connections))).atexit = False
        weakref.finalize(self, _close_all, *connections)


def _close_all(
    idle: list[Connection], used: set[Connection], pid: int, *, apart: bool = False
) -> None:
    if pid != os.getpid():
        return  # a forked child, which would close the connections of its parent
    for connection in [*idle, *used]:
        if apart or not connection.apart:
            connection.close()
    idle.clear()
    used.clear()
