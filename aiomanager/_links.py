"""A connection to a manager, as both lanes offer it, and the conversations that go over it.

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
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import anyio

from ._addresses import Address
from ._errors import AuthenticationError, ConfigurationError, ConnectionLostError
from ._replies import load_reply
from ._wire import Buffer, dump

T = TypeVar("T")
Conversation = Generator[Sequence[Buffer], Buffer, T]

# Links that a pool keeps for later; each holds a thread of a stock host.
MOST_IDLE = 32


class Link(ABC):
    """One connection, past its handshake. Whoever was interrupted while using it closes it: it
    would give the next caller the reply that the last one did not wait for."""

    @abstractmethod
    async def converse(self, conversation: Conversation[T], timeout: float | None) -> T:
        """Run a conversation; each reply has to come within `timeout` seconds.

        Raises `ConnectionLostError`; what the conversation raises leaves the link usable.
        """

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
        """From now on, call back with all messages that have come, and once when the link
        breaks."""

    @abstractmethod
    def close(self) -> None:
        """Close at once; whoever waits for something here is woken by a `ConnectionLostError`."""


# Connects and authenticates, and introduces the connection under a name. Without a name it is good
# for one function of the manager's server itself.
Opener = Callable[[str | None], Awaitable[Link]]


# What the system calls a connection that the other side has closed.
_ENDED = (EOFError, BrokenPipeError, ConnectionResetError)


def attempts(address: Address, timeout: float) -> Iterator[float]:
    """How long each attempt to connect may take, `timeout` seconds in all.

    A stock host drops connections that look made while its backlog is full, which has room for 16
    up to Python 3.12: there nobody answers, however long one waits, but a new one will be. Each
    side waits for another time, so that those who were dropped do not all come back at once.
    """
    deadline = monotonic() + timeout
    while (left := deadline - monotonic()) > timeout / 4 and address.kind == "tcp":
        yield left * random.uniform(0.2, 0.4)  # noqa: S311 - no secret
    yield max(left, timeout / 10)


def introduce(name: str) -> Conversation[None]:
    """Ask the server to take requests on this connection; `name` is what its logs call it."""
    yield dump((None, "accept_connection", (name,), {}))


def lost(address: Address, error: BaseException | None = None) -> ConnectionLostError:
    """The one error for a connection that broke, whatever it was that the system called it."""
    if isinstance(error, ConnectionLostError):
        return error
    if isinstance(error, TimeoutError):
        what = "the host does not answer"
    elif error is None or isinstance(error, _ENDED):
        what = "the host closed the connection"
    elif isinstance(error, anyio.ClosedResourceError) or _number(error) == errno.EBADF:
        what = "it was closed here, after it had broken"
    else:
        what = f"{type(error).__name__}: {error}"
    return ConnectionLostError(
        f"connection to {address} lost: {what}. A call that was on its way may or may not have "
        "happened.",
        outcome_known=False,
    )


def _number(error: BaseException) -> int | None:
    return error.errno if isinstance(error, OSError) else None


def unreachable(address: Address, error: BaseException) -> ConnectionLostError | ConfigurationError:
    """The error for a connection that could not be made."""
    if address.kind == "unix":
        try:
            mode = Path(address.value).stat().st_mode
        except (OSError, ValueError):  # the latter for an abstract name
            pass
        else:
            if not stat.S_ISSOCK(mode):
                return ConfigurationError(f"{address.value} is no socket, so no host is there")
    if isinstance(error, TimeoutError):
        return ConnectionLostError(f"no host answered at {address} in time")
    why = "it closed the connection" if isinstance(error, _ENDED) else error
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


class LinkPool:
    """Links to one host for conversations, each of which has a link to itself while it lasts.

    Args:
        open_link: makes a new link.
        calls: short calls that may be under way at once; waits are not counted, so that no number
            of waiting calls keeps a short one from running.
        call_timeout: seconds for the reply of a short call.
    """

    def __init__(self, open_link: Opener, *, calls: int = 4, call_timeout: float = 30.0) -> None:
        self._open_link = open_link
        self._calls = calls
        self.call_timeout = call_timeout
        self._limiter: anyio.CapacityLimiter | None = None
        self._idle: list[Link] = []
        self._used: set[Link] = set()
        self.closed = False

    async def call(self, conversation: Conversation[T]) -> T:
        """Run a short conversation. To be run by a task that no caller can cancel (`finish`)."""
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(self._calls)
        async with self._limiter:
            return await self.wait(conversation, self.call_timeout)

    async def wait(self, conversation: Conversation[T], timeout: float | None) -> T:
        """Run a conversation that waits at the host, up to `timeout` seconds for each reply."""
        link = await self.borrow()
        try:
            result = await link.converse(conversation, timeout)
        except ConnectionLostError:
            self.drop(link)
            raise
        except Exception:
            self.give_back(link)
            raise
        except BaseException:
            self.drop(link)
            raise
        self.give_back(link)
        return result

    async def borrow(self) -> Link:
        """Take a link out, to own it for longer than one conversation."""
        self._check_open()
        link = self._idle.pop() if self._idle else await self._open_link("aiomanager")
        self._used.add(link)
        self._check_open(link)
        return link

    def _check_open(self, link: Link | None = None) -> None:
        if self.closed:
            if link is not None:
                self.drop(link)
            raise ConnectionLostError("this manager is closed")

    async def function(self, name: str, *args: Any, **kwds: Any) -> Any:
        """Call a function of the manager's server itself, on a connection of its own, as the
        protocol has it."""
        try:
            link = await self._open_link(None)
            try:
                return await link.converse(call_function(name, *args, **kwds), self.call_timeout)
            finally:
                link.close()
        except Exception:
            raise
        except BaseException:
            self.close_idle()  # the event loop ends, and uvloop's may never become garbage
            raise

    def give_back(self, link: Link) -> None:
        """Let others use a link again, unless it was dropped meanwhile."""
        if self.closed or link not in self._used or len(self._idle) >= MOST_IDLE:
            self._used.discard(link)
            link.close()
        else:
            self._used.discard(link)
            self._idle.append(link)

    def forget(self, link: Link) -> None:
        """Leave a borrowed link to somebody who will close it."""
        self._used.discard(link)

    def drop(self, link: Link) -> None:
        """Close a link that nobody may use again. What is idle is as old, so it goes as well:
        after a restart of the host each of them would fail one more call."""
        self._used.discard(link)
        link.close()
        self.close_idle()

    def close_idle(self) -> None:
        """Close what nobody uses at the moment."""
        while self._idle:
            self._idle.pop().close()

    def close(self) -> None:
        """Close all links, those in use included."""
        self.closed = True
        _close_all(self._idle, self._used, os.getpid())

    def close_when_garbage(self) -> None:
        """Close the links also where nobody calls `close`, or the interpreter ends. For links
        that any thread may close."""
        weakref.finalize(self, _close_all, self._idle, self._used, os.getpid())


def _close_all(idle: list[Link], used: set[Link], pid: int) -> None:
    if pid != os.getpid():
        return  # a forked child, which would close the connections of its parent
    for link in [*idle, *used]:
        link.close()
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
    except (OSError, EOFError, anyio.BrokenResourceError, anyio.ClosedResourceError) as exc:
        raise lost(address, exc) from exc
    except anyio.EndOfStream as exc:
        raise lost(address) from exc


def run_now(conversation: Generator[Any, Any, T], step: Callable[[Any], Any]) -> T:
    """Run a generator by calling `step` with each thing it yields; for blocking callers."""
    try:
        wanted = next(conversation)
        while True:
            wanted = conversation.send(step(wanted))
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
