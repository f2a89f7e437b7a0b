"""A connection to a manager, as both transports offer it, and the conversations that go over it.

A conversation is a generator: it yields the parts of a message to send, is sent the reply, and
returns its result. It does no I/O, so a worker thread and an event loop run the same ones.
"""

from __future__ import annotations

import errno
import os
import random
import stat
import weakref
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import anyio

from .._concurrency.event_loop import on_loop_end
from .._ground.addresses import Address
from .._ground.errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectionLostError,
    unanswered,
)
from .._wire.messages import Buffer, dump
from .._wire.replies import load_reply

T = TypeVar("T")
Conversation = Generator[Sequence[Buffer], Buffer, T]

# Seconds between two attempts to connect, and between two connections that broke soon.
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 2.0
# Seconds that each attempt has at least.
SHORTEST_ATTEMPT = 0.75

# Connections that a pool keeps for later; each holds a thread of a stock host.
MOST_IDLE = 32


class Connection(ABC):
    """One connection, past its handshake. Whoever was interrupted while using it closes it: it
    would give the next caller the reply that the last one did not wait for.

    Attributes:
        broken: the connection has failed. What fails beside it, as a call may, leaves it usable.
        apart: it is closed by whoever uses it, and by nobody in his place.
        number: how many connections its pool had opened, with this one.
    """

    broken = apart = False
    number = 0

    @abstractmethod
    async def converse(self, conversation: Conversation[T], timeout: float | None) -> T:
        """Run a conversation; each reply has to come within `timeout` seconds.

        Raises `ConnectionLostError`; what the conversation raises leaves the connection usable.
        """

    def finish_now(self, conversation: Conversation[Any], timeout: float) -> None:
        """Bring a conversation to its end that the event loop has left, on the calling thread,
        which waits for it up to `timeout` seconds. It may raise anything."""
        raise NotImplementedError

    @abstractmethod
    def is_alive(self) -> bool:
        """Whether the other side has neither ended nor said anything unasked, as far as this side
        has heard; for a connection that nobody uses."""

    @abstractmethod
    def prepare(self, parts: Sequence[Buffer]) -> list[Buffer]:
        """A message as `send_now` and `send_rest` take it."""

    @abstractmethod
    def send_now(self, prepared: list[Buffer]) -> list[Buffer]:
        """Send of one message what can be sent without waiting; return the rest.

        Raises `ConnectionLostError`.
        """

    @abstractmethod
    async def send_rest(self, rest: Sequence[Buffer]) -> None:
        """Send what `send_now` has left, or would have."""

    @abstractmethod
    def listen(
        self,
        on_messages: Callable[[list[Buffer]], None],
        on_lost: Callable[[ConnectionLostError], None],
    ) -> None:
        """From now on, call back with all messages that have come, and once when the connection
        breaks."""

    @abstractmethod
    def close(self) -> None:
        """Close at once; whoever waits for something here is woken by a `ConnectionLostError`."""


# Connects and authenticates, and introduces the connection under a name. Without a name it is good
# for one function of the manager's server itself.
Opener = Callable[[str | None], Awaitable[Connection]]


# What the system calls a connection that the other side has closed.
_ENDED = (EOFError, BrokenPipeError, ConnectionResetError)


def attempts(address: Address, deadline: float) -> Iterator[float]:
    """How long each attempt to connect may take, so that all of them end by the deadline.

    A stock host drops connections that look made while its backlog is full, which has room for 16
    up to Python 3.12: there nobody answers, however long one waits, but a new one will be. Each
    side waits for another time, so that those who were dropped do not all come back at once.
    """
    timeout = deadline - monotonic()
    while (left := deadline - monotonic()) > timeout / 4 and address.kind == "tcp":
        yield left * random.uniform(0.2, 0.4)  # noqa: S311 - no secret
    if left > 0:
        yield left


def introduce(name: str) -> Conversation[None]:
    """Ask the server to take requests on this connection; `name` is what its logs call it."""
    load_reply((yield dump((None, "accept_connection", (name,), {}))))


def lost(address: Address, error: BaseException | None = None) -> ConnectionLostError:
    """The one error for a connection that broke, whatever it was that the system called it."""
    if isinstance(error, ConnectionLostError):
        return error
    closed_here = isinstance(error, OSError) and error.errno == errno.EBADF
    if isinstance(error, TimeoutError):
        what = "the host does not answer"
    elif error is None or isinstance(error, _ENDED):
        what = "the host closed the connection"
    elif closed_here or isinstance(error, anyio.ClosedResourceError):
        what = "it was closed here, after it had broken"
    else:
        what = f"{type(error).__name__}: {said(error)}"
    return ConnectionLostError(
        f"connection to {address} lost: {what}. A call that was on its way may or may not have "
        "happened.",
        outcome_known=False,
    )


def said(error: BaseException) -> str:
    """What an error says, whoever wrote it."""
    try:
        return str(error) or type(error).__name__
    except Exception:
        return type(error).__name__


def unreachable(
    address: Address, error: BaseException, story: str = ""
) -> ConnectionLostError | ConfigurationError:
    """The error for a connection that could not be made, for whatever reason; it is to be raised
    `from` the reason.

    Args:
        story: what went wrong at each address of the host, where it has several.
    """
    if address.kind == "unix":
        if "path too long" in said(error):
            return ConfigurationError(
                f"{address.value} has too many characters for the path of a socket"
            )
        try:
            mode = Path(address.value).stat().st_mode
        except (OSError, ValueError):  # the name of an abstract socket is no path
            pass
        else:
            if not stat.S_ISSOCK(mode):
                return ConfigurationError(f"{address.value} is no socket, so no host is there")
    if isinstance(error, TimeoutError):
        return ConnectionLostError(
            f"no host answered at {address} in time" + (f" ({story})" if story else "")
        )
    if story:
        why = story
    elif isinstance(error, _ENDED):
        why = "it closed the connection"
    else:
        why = said(error)
    return ConnectionLostError(
        f"no host at {address} ({why}). Start one there, with `aiomanager serve` say, or give "
        "one that is still starting some seconds with connect(..., wait=10)."
    )


def refused(address: Address, error: BaseException) -> AuthenticationError:
    """The error for a host, or for this process, that does not have the other's key."""
    return AuthenticationError(
        f"the host at {address} has another authkey than this process ({error}). Give both the "
        "same, by authkey= or $AIOMANAGER_AUTHKEY."
    )


class Pauses:
    """Seconds between attempts, which grow with each of them."""

    def __init__(self) -> None:
        self._next = FIRST_PAUSE

    async def sleep(self, deadline: float) -> None:
        """Wait before the next attempt, but not past the deadline."""
        # With jitter: clients that lost the same host do not all come back at once.
        pause = random.uniform(self._next / 2, self._next)  # noqa: S311 - no secret
        self._next = min(2 * self._next, LONGEST_PAUSE)
        await anyio.sleep(max(0.0, min(pause, deadline - anyio.current_time())))


async def open_patiently(
    open_connection: Callable[[], Awaitable[Connection]],
    deadline: float,
    pauses: Pauses,
    unwanted: Callable[[], bool],
) -> Connection:
    """Try until there is a connection, it is not wanted any more, or the deadline has passed;
    raises what the last attempt did."""
    error = ConnectionLostError("no host answered in time")
    while True:
        left = max(SHORTEST_ATTEMPT, deadline - anyio.current_time())
        with anyio.move_on_after(left):
            try:
                return await open_connection()
            except ConnectionLostError as exc:
                error = exc
        if unwanted() or anyio.current_time() >= deadline:
            raise error
        await pauses.sleep(deadline)


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

    async def _open(self, name: str | None, *, patiently: bool = True) -> Connection:
        if not patiently:
            return await self._open_connection(name)
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
        return await self._function(True, name, *args, **kwds)

    async def function_once(self, name: str, *args: Any, **kwds: Any) -> Any:
        """`function`, for a host that may not be there yet."""
        return await self._function(False, name, *args, **kwds)

    async def _function(self, patiently: bool, name: str, *args: Any, **kwds: Any) -> Any:
        self._check_open()
        try:
            connection = await self._open(None, patiently=patiently)
            try:
                return await connection.converse(
                    call_function(name, *args, **kwds), self.call_timeout
                )
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


def call_function(name: str, *args: Any, **kwds: Any) -> Conversation[Any]:
    """Call a function of the manager's server itself."""
    return load_reply((yield dump((None, name, args, kwds))))


async def in_time(work: Awaitable[T], timeout: float | None, address: Address) -> T:
    """Await with a deadline, and turn what can go wrong with a connection into our error."""
    try:
        if timeout is None:
            return await work
        with anyio.fail_after(timeout):
            return await work
    except ConnectionLostError:
        raise
    except (OSError, EOFError, anyio.BrokenResourceError, anyio.ClosedResourceError) as exc:
        raise lost(address, exc) from exc
    except anyio.EndOfStream as exc:
        raise lost(address) from exc


def run_now(conversation: Generator[Any, Any, T], step: Callable[[Any], Any]) -> T:
    """Run a generator by calling `step` with each thing it yields; for blocking callers."""
    answer: Any = None
    while True:
        try:
            wanted = conversation.send(answer)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        answer = step(wanted)
