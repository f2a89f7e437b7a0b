"""One conversation with a host of ours, over however many connections it takes.

All requests of a manager share one connection: each has an id, which its reply carries, so that a
call that waits at the host holds up no other. The connection is also what the host's leases hang
on.

When the connection breaks, the session connects again, with growing pauses, and sends again what
has not been answered. That is safe for every request: those that change something carry a number in
their channel, and the host answers a number that it knows with the answer it gave before.

    IDLE --ask--> CONNECTING --connected--> OPEN --connection broken--> IDLE, or CONNECTING where
                     |  ^                                         something waits for an answer
                     |  +-- pause, after an attempt that failed
                     +--> IDLE, where the host was away for `reconnect`: all that waits fails
    any --close--> CLOSED

Each request ends: one that waits for something at the host when the host is given up, any other
by its own time as well.
"""

from __future__ import annotations

import contextlib
import enum
import itertools
import logging
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any
from weakref import ref

import anyio

from .._concurrency.event_loop import call_in, current_loop, has_ended, spawn
from .._concurrency.futures import Future, replica
from .._ground.buffers import Buffer
from .._ground.errors import (
    AioManagerError,
    ConfigurationError,
    ConnectionLostError,
    QueueShutDown,
    RemoteError,
)
from .._wire.messages import load
from .._wire.requests import pack_request, repeated
from .base import Connection, Opener
from .farewell import Converse, Farewell
from .patience import LONGEST_PAUSE, Pauses, open_patiently
from .unanswered import Request, Unanswered

logger = logging.getLogger("aiomanager")


class State(enum.Enum):
    """What a session is about."""

    IDLE = enum.auto()  # no connection, and nothing that needs one
    CONNECTING = enum.auto()
    OPEN = enum.auto()
    CLOSED = enum.auto()  # for good


class Session:
    """Requests to a host of ours, and their replies.

    Args:
        open_connection: connects to the host.
        converse_now: does so on the calling thread, which waits, for one conversation.
        call_timeout: seconds for an answer, after which the connection counts as broken; also how
            long a silent host goes unnoticed while calls wait there.
        reconnect: seconds that the host may be away before calls raise `ConnectionLostError`.
        on_reconnect: called after each reconnection.
    """

    def __init__(
        self,
        open_connection: Opener,
        converse_now: Converse,
        *,
        call_timeout: float,
        reconnect: float,
        on_reconnect: Callable[[], None] | None = None,
    ) -> None:
        self._open_connection = open_connection
        self._call_timeout = call_timeout
        self._reconnect = reconnect
        self._on_reconnect = on_reconnect
        self._loop = ref(current_loop())
        self._client = uuid.uuid4().hex  # what the host knows it by
        self.farewell = Farewell(converse_now, self._client)
        self._ids = itertools.count(1)
        self._pending = Unanswered(self.patience)
        self.state = State.IDLE
        # There while it is OPEN. The host's leases hang on it.
        self.connection: Connection | None = None
        self._ever_connected = False
        self._why_closed = "this manager is closed"
        self._stopped = False  # the host has said that it ends
        self._opened = 0.0  # when the connection was made
        self._heard = 0.0  # when the host last said something
        self._asked = 0.0  # when it was last asked something while it owed no answer
        self._pauses = Pauses()
        self._connecting: anyio.CancelScope | None = None  # there while that goes on
        # What the connection could not take at once.
        self._unsent: deque[Sequence[Buffer]] = deque()
        self._watching: anyio.CancelScope | None = None  # there while the watch sleeps
        # Which run of the host answers, once it has said so; what was counted in another is gone.
        self.host_run: int | None = None

    def ask(
        self,
        ident: str,
        method: str,
        *args: Any,
        frames: Sequence[Buffer] = (),
        numbered: tuple[str, int] | None = None,
        waits: bool = False,
    ) -> tuple[int, Future[Any]]:
        """Send a request; return its id, with which one that waits can be cancelled, and the future
        of its answer.

        The future fails with `ConnectionLostError` where the host is away for longer than
        `reconnect`, with `QueueShutDown`, or with what the host answered.

        Args:
            frames: bytes that go beside the arguments, which are plain data.
            numbered: the channel and the number of a request that changes something. The one
                before in the channel must have been answered.
            waits: the answer may take any time; the host is asked now and then if it is there.
        """
        request_id = next(self._ids)
        channel, number = numbered or ("", 0)
        parts = pack_request(request_id, ident, method, args, frames, channel, number)
        request = Request(parts, waits)
        if self.state is State.CLOSED:
            request.set_exception(ConnectionLostError(self._why_closed))
            return request_id, request
        if not self._pending:
            self._asked = request.asked
        self._pending.add(request_id, request)
        if self.connection is not None:
            self._send(self.connection, request)
        else:
            self._start()
        return request_id, request

    async def request(self, ident: str, method: str, *args: Any, **options: Any) -> Any:
        """`ask`, and wait for the answer."""
        return await self.ask(ident, method, *args, **options)[1].wait()

    @property
    def patience(self) -> float:
        """Seconds within which a request that waits for nothing has ended."""
        return self._call_timeout + self._reconnect

    def check_open(self) -> None:
        """Raise `ConnectionLostError` where the session was closed."""
        if self.state is State.CLOSED:
            raise ConnectionLostError(self._why_closed)

    def close(self, why: str = "this manager is closed") -> None:
        """Close the connection; calls under way raise `ConnectionLostError`, and later ones too.
        What is in nobody's hands goes back to the host soon."""
        self._close(why)
        self.farewell.leave()

    async def aclose(self) -> None:
        """`close`, once the host knows that this client does not come back. What its queues hold
        for nobody must have gone back."""
        if self.connection is not None and not self.farewell.nothing_left():
            with contextlib.suppress(AioManagerError):
                await self.request("", "goodbye")
                self.farewell.said()
        self.close()

    def _close(self, why: str) -> None:
        if self.state is State.CLOSED:
            return
        connection, self.connection = self.connection, None
        self.state, self._why_closed = State.CLOSED, why
        if connection is not None:
            connection.close()
        if self._connecting is not None:
            self._connecting.cancel()
        self._wake_watch()
        self._fail(ConnectionLostError(why))

    def _close_with_loop(self) -> None:
        """The farewell is said later, when those have left who still wait for something here."""
        self._close("the event loop that it was used in has ended")

    def close_from_anywhere(self) -> None:
        """`close` for finalizers, which run on any thread: the event loop does it, if there is
        one still."""
        loop = self._loop()
        if loop is None or has_ended(loop):
            self.cut()
        else:
            call_in(loop, self.close)

    def cut(self) -> None:
        """Close the connection, and have said what the host must know: callable from any thread,
        for where nobody will use the session any more."""
        connection = self.connection
        if connection is not None:
            connection.close()
        self.farewell.leave()

    # -- the life of a connection -------------------------------------------------------------

    def _start(self) -> None:
        if self._pending and self.state is State.IDLE:
            self.state = State.CONNECTING
            spawn(self._run)

    async def _run(self) -> None:
        """Connect, and send what waits for an answer."""
        error: Exception
        try:
            with anyio.CancelScope() as self._connecting:
                self._use(await self._connect())
                return
            return  # it was closed meanwhile
        except AioManagerError as exc:
            error = exc
        except Exception as exc:
            # Whatever it was, those who wait shall not wait for ever.
            error = ConnectionLostError(f"cannot connect: {exc!r}")
            error.__cause__ = exc
        except BaseException:
            self._close_with_loop()
            raise
        finally:
            self._connecting = None
        if self.state is State.CONNECTING:
            self.state = State.IDLE
        self._fail(error)

    async def _connect(self) -> Connection:
        # The first time too: the host was there when the manager connected.
        deadline = anyio.current_time() + self._reconnect
        if monotonic() - self._opened < LONGEST_PAUSE and self._ever_connected:
            # What was made broke at once, and may do so again.
            await self._pauses.sleep(deadline)
        else:
            self._pauses = Pauses()
        return await open_patiently(
            self._open, deadline, self._pauses, lambda: self.state is State.CLOSED
        )

    async def _open(self) -> Connection:
        """Connect, and say which run of the host this side was connected to. By that the host
        knows whether it has forgotten what it was sent before; what it has forgotten, it does not
        run again."""
        return await self._open_connection(
            None, client=self._client, run=self.host_run, returns_within=self.patience
        )

    def _use(self, connection: Connection) -> None:
        if self.state is State.CLOSED:
            connection.close()
            return
        if connection.hello is None:
            connection.close()
            raise ConfigurationError("a host of aiomanager was here, and is not any more")
        self.host_run = connection.hello["run"]
        self.state, self.connection = State.OPEN, connection
        self._opened = self._heard = self._asked = monotonic()
        self._unsent.clear()
        connection.listen(self._messages, lambda error: self._broken(connection, error))
        spawn(lambda: self._watch(connection))
        if self._ever_connected:
            logger.warning("connected to the host again")
            self._call_on_reconnect()
        self._ever_connected = True
        for request in list(self._pending.values()):
            if self.connection is connection:
                self._send(connection, request)

    def _call_on_reconnect(self) -> None:
        if self._on_reconnect is not None:
            try:
                self._on_reconnect()
            except Exception:
                # The connection is as good as it would be without.
                logger.exception("on_reconnect failed")

    def _messages(self, messages: list[Buffer]) -> None:
        self._heard = monotonic()
        for message in messages:
            try:
                kind, value, request_id = load(message)
            except Exception as exc:
                if self.connection is not None:
                    error = ConnectionLostError(f"the host sent no reply: {exc!r}")
                    self._broken(self.connection, error)
                return
            try:
                self._received(kind, value, request_id)
            except Exception:
                # What one answer has set off is nobody else's: the others are in this list still.
                logger.exception("an answer of the host could not be passed on")

    def _received(self, kind: str, value: Any, request_id: int | None) -> None:
        if kind == "#STOPPING":
            self._stopped = True
            return
        request = self._pending.pop(request_id or 0, None)
        if request is None:
            return
        if kind == "#RETURN":
            request.set_result(value)
        elif kind == "#SHUTDOWN":
            request.set_exception(QueueShutDown(value))
        else:
            request.set_exception(
                value if isinstance(value, Exception) else RemoteError(str(value))
            )

    def _send(self, connection: Connection, request: Request) -> None:
        if request.sent is not None:
            request.parts = repeated(request.parts)
        request.sent = monotonic()
        prepared = connection.prepare(request.parts)
        if self._unsent:
            self._unsent.append(prepared)
            return
        try:
            rest = connection.send_now(prepared)
        except ConnectionLostError as exc:
            self._broken(connection, exc)
            return
        if rest:
            self._unsent.append(rest)
            spawn(lambda: self._write(connection))

    async def _write(self, connection: Connection) -> None:
        """Send what the connection could not take at once."""
        while self._unsent and self.connection is connection:
            try:
                await connection.send_rest(self._unsent[0])
            except ConnectionLostError as exc:
                self._broken(connection, exc)
            else:
                if self.connection is connection:
                    self._unsent.popleft()

    async def _watch(self, connection: Connection) -> None:
        """Notice a host that was stopped, or cut off without a word: it says nothing either."""
        try:
            await self._ask_now_and_then(connection)
        except Exception:
            raise
        except BaseException:
            # The event loop ends. What would be sent and connected from now on had nobody to see
            # its end, and on the thread transport a thread of it would keep the process.
            self._close_with_loop()
            raise

    async def _ask_now_and_then(self, connection: Connection) -> None:
        # The host has half of `call_timeout` to say something while it owes an answer, and as long
        # to answer when it is asked whether it is there.
        half = self._call_timeout / 2
        asked: Future[Any] | None = None
        while self.connection is connection:
            now = monotonic()
            if self._pending.owed_since() < now - self._call_timeout:
                error = f"the host has not answered a call for {self._call_timeout:g} s"
                self._broken(connection, ConnectionLostError(error, outcome_known=False))
                return
            silent_since = max(self._heard, self._asked) if self._pending else now
            left = silent_since + half * (1 if asked is None else 2) - now
            if left > 0:
                with anyio.CancelScope(deadline=anyio.current_time() + left) as self._watching:
                    await anyio.sleep_forever()
                self._watching = None
                if asked is not None and asked.filled:
                    asked = None
            elif asked is None:
                asked = self.ask("", "ping")[1]
            else:
                error = f"the host has not answered for {self._call_timeout:g} s"
                self._broken(connection, ConnectionLostError(error, outcome_known=False))

    def _wake_watch(self) -> None:
        if self._watching is not None:
            self._watching.cancel()

    def _broken(self, connection: Connection, error: ConnectionLostError) -> None:
        """Give a connection up."""
        connection.close()
        if self.connection is not connection:
            return
        self.connection = None
        self.state = State.IDLE
        self._wake_watch()
        if self._stopped:
            self._stopped = False
            error = ConnectionLostError("the host was shut down", outcome_known=False)
        logger.warning("%s", error)
        self._start()

    # -- endings ------------------------------------------------------------------------------

    def _fail(self, error: AioManagerError) -> None:
        def error_for(request: Request) -> Exception:
            if request.sent is None or not isinstance(error, ConnectionLostError):
                return replica(error)
            what = "whether the call has happened is unknown"
            if self.state is State.CLOSED:
                return ConnectionLostError(f"{error}; {what}", outcome_known=False)
            away = f"the host went away and did not come back within {self._reconnect:g} s"
            return ConnectionLostError(f"{away}; {what}. {error}", outcome_known=False)

        self._pending.fail(error_for, error)
