"""The thread lane: blocking calls on worker threads.

It takes any manager on any platform. What it guarantees:

1. Nothing of it counts against anyio's shared thread limiter, which web frameworks live on.
2. A thread that is abandoned, since its event loop ended, cannot keep the process from exiting,
   and its connection is never used again.
3. No call waits for ever on the wire: the host's answer has a deadline, unless somebody has taken
   the link out to read from it, and then `close` wakes the thread that reads.

It knows neither queues nor items.
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing import AuthenticationError as StandardAuthenticationError
from multiprocessing import connection
from typing import Any, Protocol, TypeVar, cast

import anyio
import anyio.to_thread

from ._addresses import Address
from ._errors import ConnectionLostError
from ._forks import belongs_to_this_process
from ._links import (
    Conversation,
    Link,
    attempts,
    introduce,
    lost,
    refused,
    run_now,
    unreachable,
)
from ._listening import widen
from ._tasks import spawn
from ._wire import Buffer, MessageReader, client_handshake, pack

T = TypeVar("T")

# Seconds that the end of an event loop may hold up that of the interpreter, where the host has to
# be told something.
SETTLE_TIMEOUT = 1.0


class Blocking(Protocol):
    """A blocking connection, as a worker thread uses it."""

    def send(self, parts: Sequence[Buffer]) -> None: ...
    def receive(self, timeout: float | None) -> Buffer: ...
    def received(self) -> Buffer | None: ...
    def is_alive(self) -> bool: ...
    def close(self) -> None: ...


class BlockingSocket:
    """A socket to a host; TCP without Nagle's delay, which costs 40 ms for a message in two
    writes."""

    def __init__(self, address: Address, timeout: float) -> None:
        if address.kind == "tcp":
            self._socket = socket.create_connection(address.value, timeout)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        else:
            self._socket = socket.socket(socket.AF_UNIX)
            widen(self._socket)
            self._socket.settimeout(timeout)
            try:
                self._socket.connect(address.value)
            except BaseException:
                self._socket.close()
                raise
        belongs_to_this_process(self._socket)
        self._reader = MessageReader()

    def send(self, parts: Sequence[Buffer]) -> None:
        for part in pack(parts):
            self._socket.sendall(part)

    def receive(self, timeout: float | None) -> Buffer:
        self._socket.settimeout(timeout)
        while (message := self._reader.next()) is None:
            if not self._reader.read(self._socket):
                raise EOFError
        return message

    def received(self) -> Buffer | None:
        """A message that came together with the one before, if there is one."""
        return self._reader.next()

    def is_alive(self) -> bool:
        self._socket.settimeout(0)
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return not self._reader.midway
        except OSError:
            pass
        return False

    def close(self) -> None:
        # Closing alone would leave a thread that is in recv there.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class BlockingPipe:
    """Whatever `multiprocessing.connection.Client` connects to: Windows' named pipes."""

    def __init__(self, address: Address, timeout: float) -> None:
        self._connection = connection.Client(address.value)
        self._timeout = timeout

    def send(self, parts: Sequence[Buffer]) -> None:
        self._connection.send_bytes(b"".join(parts))

    def receive(self, timeout: float | None) -> Buffer:
        if timeout is not None and not self._connection.poll(timeout):
            raise TimeoutError
        return self._connection.recv_bytes()

    def received(self) -> Buffer | None:
        return None

    def is_alive(self) -> bool:
        try:
            return not self._connection.poll(0)
        except (OSError, EOFError):
            return False

    def close(self) -> None:
        self._connection.close()


class ThreadLink(Link):
    """A blocking connection behind worker threads: one to send and one to receive at a time."""

    def __init__(
        self, blocking: Blocking, address: Address, limiter: anyio.CapacityLimiter
    ) -> None:
        self._blocking = blocking
        self._address = address
        self._limiter = limiter
        self._turn = threading.Lock()

    async def converse(self, conversation: Conversation[T], timeout: float | None) -> T:
        # One thread for the whole of it: a hop to a thread and back costs more than the call.
        return await self._in_thread(lambda: self.converse_now(conversation, timeout))

    def converse_now(self, conversation: Conversation[T], timeout: float | None) -> T:
        """`converse` for a thread that may wait; one conversation at a time."""
        with self._turn:
            return _converse_now(self._blocking, self._address, conversation, timeout, self._break)

    def _break(self) -> None:
        self.broken = True

    def is_alive(self) -> bool:
        return self._blocking.is_alive()

    async def converse_surely(
        self,
        conversation: Conversation[T],
        timeout: float | None,
        settle: Callable[[Sequence[T]], Conversation[object] | None],
        hurry: Callable[[], object] | None = None,
    ) -> T:
        """Converse about something that the host must not keep for nobody, such as a lock. Where
        the event loop ends meanwhile, a thread of its own, for which the interpreter waits, brings
        it to an end and closes the link.

        Args:
            settle: what to say to the host then, if anything. It is given what the conversation
                has returned, as a sequence of one, and an empty one where it was not begun.
            hurry: makes the host answer soon.
        """
        turn = threading.Lock()
        left = False
        outcomes: list[T] = []

        def converse() -> T | None:
            with turn:
                if not left:
                    outcomes.append(self.converse_now(conversation, timeout))
                return outcomes[0] if outcomes else None

        def settle_now() -> None:
            with contextlib.suppress(Exception):
                if hurry is not None:
                    hurry()
                if turn.acquire(timeout=SETTLE_TIMEOUT):
                    turn.release()  # from here on the conversation is over, or never begins
                    last_words = settle(outcomes)
                    if last_words is not None:
                        self.converse_now(last_words, SETTLE_TIMEOUT)
            self.close()

        try:
            return cast(T, await self._in_thread(converse))
        except Exception:
            raise
        except BaseException:
            left = True
            threading.Thread(target=settle_now, name="aiomanager-settle").start()
            raise

    def prepare(self, parts: Sequence[Buffer]) -> list[Buffer]:
        return list(parts)

    def send_now(self, prepared: list[Buffer]) -> list[Buffer]:
        return prepared  # any send may block

    async def send_rest(self, rest: Sequence[Buffer]) -> None:
        await self._in_thread(lambda: self._io(lambda: self._blocking.send(rest)))

    def listen(
        self,
        on_messages: Callable[[list[Buffer]], None],
        on_lost: Callable[[ConnectionLostError], None],
    ) -> None:
        async def read() -> None:
            try:
                while True:
                    on_messages(await self._in_thread(lambda: self._io(self._receive)))
            except ConnectionLostError as exc:
                on_lost(exc)
            finally:
                self.close()

        spawn(read)

    def _receive(self) -> list[Buffer]:
        messages = [self._blocking.receive(None)]
        while (message := self._blocking.received()) is not None:
            messages.append(message)
        return messages

    def close(self) -> None:
        self._blocking.close()

    def _io(self, work: Callable[[], T]) -> T:
        """Use the connection. What a conversation raises on its own account is not its error."""
        try:
            return work()
        except (OSError, EOFError) as exc:
            self.broken = True
            raise lost(self._address, exc) from exc

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._limiter)


class ThreadLane:
    """Makes links of the thread lane.

    Args:
        connect_timeout: seconds to connect and to authenticate.
    """

    def __init__(self, address: Address, authkey: bytes, connect_timeout: float) -> None:
        self._address = address
        self._authkey = authkey
        self._timeout = connect_timeout
        self._limiter: anyio.CapacityLimiter | None = None

    async def open(self, name: str | None) -> Link:
        """Connect, authenticate, and introduce this side as `name`, if one is given.

        Raises:
            ConnectionLostError: there is no host, or it does not answer in time.
            AuthenticationError: the keys differ.
        """
        if self._limiter is None:
            # Ours, and unbounded: what bounds the threads is the number of links in use.
            self._limiter = anyio.CapacityLimiter(math.inf)
        made: deque[Blocking] = deque()
        left = False

        def connect() -> None:
            made.append(self._connect(name))
            if left:
                close()

        def close() -> None:
            with contextlib.suppress(IndexError):
                made.pop().close()

        try:
            await anyio.to_thread.run_sync(connect, abandon_on_cancel=True, limiter=self._limiter)
        except BaseException:
            left = True
            close()
            raise
        return ThreadLink(made.pop(), self._address, self._limiter)

    def converse_now(self, name: str | None, conversation: Conversation[T]) -> T:
        """Run a conversation on a connection of its own and on the calling thread, which waits
        for it; raises as `open` and `Link.converse` do."""
        blocking = self._connect(name)
        try:
            return _converse_now(blocking, self._address, conversation, self._timeout)
        finally:
            blocking.close()

    def _connect(self, name: str | None) -> Blocking:
        error = TimeoutError()
        for timeout in attempts(self._address, self._timeout):
            try:
                return self._connect_once(name, timeout)
            except TimeoutError as exc:
                error = exc
        raise unreachable(self._address, error) from error

    def _connect_once(self, name: str | None, timeout: float) -> Blocking:
        blocking: Blocking
        kind = BlockingPipe if self._address.kind == "pipe" else BlockingSocket
        try:
            blocking = kind(self._address, timeout)
        except TimeoutError:
            raise
        except (OSError, EOFError) as exc:
            raise unreachable(self._address, exc) from exc

        def shake(step: bytes | None) -> Any:
            if step is None:
                return blocking.receive(timeout)
            return blocking.send([step])

        def exchange(parts: Sequence[Buffer]) -> Buffer:
            blocking.send(parts)
            return blocking.receive(timeout)

        try:
            run_now(client_handshake(self._authkey), shake)
            if name is not None:
                run_now(introduce(name), exchange)
        except BaseException as exc:
            blocking.close()
            if isinstance(exc, StandardAuthenticationError):
                raise refused(self._address, exc) from exc
            if isinstance(exc, (OSError, EOFError)) and not isinstance(exc, TimeoutError):
                raise unreachable(self._address, exc) from exc
            raise
        return blocking


def _converse_now(
    blocking: Blocking,
    address: Address,
    conversation: Conversation[T],
    timeout: float | None,
    on_broken: Callable[[], object] = lambda: None,
) -> T:
    def exchange(parts: Sequence[Buffer]) -> Buffer:
        try:
            blocking.send(parts)
            return blocking.receive(timeout)
        except (OSError, EOFError) as exc:
            on_broken()
            raise lost(address, exc) from exc

    return run_now(conversation, exchange)
