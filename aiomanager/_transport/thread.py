"""The thread transport: blocking calls on worker threads.

It takes any manager on any platform. What it guarantees:

1. Nothing of it counts against anyio's shared thread limiter, which web frameworks live on.
2. A thread that is abandoned, since its event loop ended, cannot keep the process from exiting,
   and its connection is never used again.
3. No call waits for ever on the wire: the host's answer has a deadline, unless somebody has taken
   the connection out to read from it, and then `close` wakes the thread that reads.

It knows neither queues nor items.
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import connection
from time import monotonic
from typing import Any, TypeVar, cast

import anyio
import anyio.to_thread

from .._concurrency.event_loop import spawn
from .._ground.addresses import Address
from .._ground.buffers import Buffer
from .._ground.errors import ConnectionLostError
from .._wire.endpoint import Endpoint
from .._wire.hello import Hello
from .approach import Approach, Place, Transport
from .base import Connection, Conversation, introduce, run_now
from .blocking import Blocking, BlockingPipe, BlockingSocket, time_left
from .connecting import apart, connect_now, find_now
from .errors import connecting, lost, talking

T = TypeVar("T")

# Seconds that the end of an event loop may hold up that of the interpreter, where the host has to
# be told something.
SETTLE_TIMEOUT = 1.0


class ThreadConnection(Connection):
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

    def finish_now(self, conversation: Conversation[Any], timeout: float) -> None:
        # The thread that converses goes on without the event loop.
        if not self._turn.acquire(timeout=max(0.0, timeout)):
            raise TimeoutError("the host does not answer")
        self._turn.release()

    def is_alive(self) -> bool:
        return self._blocking.is_alive()

    async def converse_with_cleanup(
        self,
        conversation: Conversation[T],
        timeout: float | None,
        settle: Callable[[Sequence[T]], Conversation[object] | None],
        wake: Callable[[], object] | None = None,
    ) -> T:
        """Converse about something that the host must not keep for nobody, such as a lock. Where
        the event loop ends meanwhile, a thread of its own, for which the interpreter waits, brings
        it to an end and closes the connection.

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
                if wake is not None:
                    wake()
                if turn.acquire(timeout=SETTLE_TIMEOUT):
                    turn.release()  # from here on the conversation is over, or never begins
                    last_words = settle(outcomes)
                    if last_words is not None:
                        self.converse_now(last_words, SETTLE_TIMEOUT)
            self.close()

        try:
            return cast("T", await self._in_thread(converse))
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
            except Exception as exc:  # where there is no thread to be had, too
                on_lost(lost(self._address, exc))
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
            with talking(self._address):
                return work()
        except ConnectionLostError:
            self.broken = True
            raise

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._limiter)


class ThreadTransport(Transport):
    """Makes connections of the thread transport."""

    _limiter: anyio.CapacityLimiter | None = None

    async def open(self, name: str | None, /, **said: Any) -> Connection:
        """Connect, authenticate, and introduce this side, as `Opener` has it.

        Raises:
            ConnectionLostError: there is no host, it does not answer in time, or connecting fails
                for whatever other reason.
            ConfigurationError: no host can ever be there, or it is one of another version.
            AuthenticationError: the keys differ.

        Cancelled, it leaves at once; the thread ends soon, and nothing stays open.
        """
        if self._limiter is None:
            # Ours, and unbounded: what bounds the threads is the number of connections in use.
            self._limiter = anyio.CapacityLimiter(math.inf)
        approach = ThreadApproach(self._address, self._timeout, self._good)
        try:
            with connecting(self._address):
                blocking, hello = await anyio.to_thread.run_sync(
                    lambda: self._connect(name, said, approach),
                    abandon_on_cancel=True,
                    limiter=self._limiter,
                )
        except BaseException:
            approach.abandon()
            raise
        connection = ThreadConnection(blocking, self._address, self._limiter)
        connection.hello = hello
        return connection

    def converse_now(
        self,
        name: str | None,
        conversation: Conversation[T],
        timeout: float | None = None,
        /,
        **said: Any,
    ) -> T:
        """Run a conversation on a connection of its own and on the calling thread, which waits
        for it; raises as `open` and `Connection.converse` do.

        Args:
            timeout: seconds to connect, and for each reply; those of the transport if None.
        """
        if timeout is not None:
            hurried = ThreadTransport(self._address, self._authkey, timeout)
            return hurried.converse_now(name, conversation, **said)
        blocking, _ = self._connect(
            name, said, ThreadApproach(self._address, self._timeout, self._good)
        )
        try:
            return _converse_now(blocking, self._address, conversation, self._timeout)
        finally:
            blocking.close()

    def _connect(
        self, name: str | None, said: Mapping[str, Any], approach: ThreadApproach
    ) -> tuple[Blocking, Hello | None]:
        with connecting(self._address):
            if self._address.kind != "pipe":
                find_now(approach)
            else:
                approach.found([Place(socket.AF_UNSPEC, self._address.value)])
            while approach.goes_on():
                with approach:
                    return self._connect_once(name, said, approach)
        raise approach.error() from approach.cause

    def _connect_once(
        self, name: str | None, said: Mapping[str, Any], approach: ThreadApproach
    ) -> tuple[Blocking, Hello | None]:
        handshake = self._handshake()
        if self._address.kind == "pipe":
            blocking = approach.hold(BlockingPipe(_open_pipe(approach), handshake))
        else:
            end = Endpoint(handshake)
            blocking = approach.hold(BlockingSocket(connect_now(approach), end))

        def exchange(parts: Sequence[Buffer]) -> Buffer:
            blocking.send(parts, approach.left)
            return blocking.receive(approach.left)

        try:
            greeted = blocking.greet(lambda: approach.left)
            hello = run_now(introduce(greeted, self._address, name, said), exchange)
        except BaseException:
            blocking.close()
            raise
        self._good = approach.connected
        return blocking, hello


class ThreadApproach(Approach):
    """One connection on its way, which whoever waits for it may leave."""

    def __init__(self, address: Address, timeout: float, first: Place | None = None) -> None:
        super().__init__(address, timeout, first)
        self._held: Blocking | None = None

    def hold(self, blocking: Blocking) -> Blocking:
        """Have a connection closed when nobody waits for it."""
        self._held = blocking
        if self.abandoned:
            blocking.close()
        return blocking

    def abandon(self) -> None:
        """Nobody waits: the thread ends soon, and nothing stays open."""
        self.abandoned = True
        if self._held is not None:
            self._held.close()


def _open_pipe(approach: Approach) -> connection.Connection:
    (place,) = approach.places
    pipe = apart(lambda: connection.Client(place.where), approach, lambda pipe: pipe.close())
    approach.connected = place
    return pipe


def _converse_now(
    blocking: Blocking,
    address: Address,
    conversation: Conversation[T],
    timeout: float | None,
    on_broken: Callable[[], object] = lambda: None,
) -> T:
    def exchange(parts: Sequence[Buffer]) -> Buffer:
        deadline = None if timeout is None else monotonic() + timeout
        try:
            with talking(address):
                blocking.send(parts, timeout)
                return blocking.receive(time_left(deadline))
        except ConnectionLostError:
            on_broken()
            raise

    return run_now(conversation, exchange)
