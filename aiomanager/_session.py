"""One conversation with a host of ours, over however many connections it takes.

All requests of a manager share one link: each has an id, which its reply carries, so that a call
that waits at the host holds up no other. The link is also what the host's leases hang on.

When the link breaks, the session connects again, with growing pauses, and sends again what has
not been answered. That is safe for every request: those that change something carry a number in
their channel, and the host answers a number that it knows with the answer it gave before.
"""

from __future__ import annotations

import itertools
import logging
import random
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Any

import anyio

from ._errors import AioManagerError, ConnectionLostError, QueueShutDown, RemoteError
from ._links import Link
from ._requests import pack_request, repeated
from ._slots import Slot
from ._tasks import spawn
from ._wire import CLIENT_PREFIX, Buffer, load

logger = logging.getLogger("aiomanager")

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 2.0


class _Request(Slot[Any]):
    """A request that has not been answered, and the place for its answer.

    Attributes:
        waits: the answer may take any time.
        asked: when it was asked, and when it was last sent.
    """

    __slots__ = ("asked", "parts", "sent", "waits")

    def __init__(self, parts: Sequence[Buffer], waits: bool) -> None:
        super().__init__()
        self.parts = parts
        self.waits = waits
        self.asked = monotonic()
        self.sent: float | None = None


class Session:
    """Requests to a host of ours, and their replies.

    Args:
        open_link: connects to the host under a name.
        call_timeout: seconds for an answer, after which the link counts as broken; also how long
            a silent host goes unnoticed while calls wait there.
        reconnect: seconds that the host may be away before calls raise `ConnectionLostError`.
        on_reconnect: called after each reconnection.
    """

    def __init__(
        self,
        open_link: Callable[[str], Awaitable[Link]],
        *,
        call_timeout: float,
        reconnect: float,
        on_reconnect: Callable[[], None] | None = None,
    ) -> None:
        self._open_link = open_link
        self._call_timeout = call_timeout
        self._reconnect = reconnect
        self._on_reconnect = on_reconnect
        self._name = CLIENT_PREFIX + uuid.uuid4().hex
        self._ids = itertools.count(1)
        self._pending: dict[int, _Request] = {}  # in the order in which they were asked
        self.link: Link | None = None  # while there is one, which the host's leases hang on
        self._running = False
        self._ever_connected = False
        self._closed = False
        self._stopped = False  # the host has said that it ends
        self._heard = 0.0  # when the host last said something
        self._unsent: deque[Sequence[Buffer]] = deque()  # what the link could not take at once
        self._watching = anyio.CancelScope()
        # Which run of the host answers, once it has said so; what was counted in another is gone.
        self.host_run: int | None = None
        self._hello_id = 0
        self.before_close: list[Callable[[], object]] = []  # called while the link is still there

    def ask(
        self,
        ident: str,
        method: str,
        *args: Any,
        frames: Sequence[Buffer] = (),
        numbered: tuple[str, int] | None = None,
        waits: bool = False,
    ) -> tuple[int, Slot[Any]]:
        """Send a request; return its id, with which one that waits can be cancelled, and the slot
        of its answer.

        The slot fails with `ConnectionLostError` where the host is away for longer than
        `reconnect`, with `QueueShutDown`, or with what the host answered.

        Args:
            frames: bytes that go beside the arguments, which are plain data.
            numbered: the channel and the number of a request that changes something. The one
                before in the channel must have been answered.
            waits: the answer may take any time; the host is asked now and then if it is there.
        """
        request_id = next(self._ids)
        parts = pack_request(request_id, ident, method, args, frames, *(numbered or ()))
        request = _Request(parts, waits)
        if self._closed:
            request.set(ConnectionLostError("this manager is closed"))
            return request_id, request
        self._pending[request_id] = request
        if self.link is not None:
            self._send(self.link, request)
        else:
            self._start()
        return request_id, request

    async def request(self, ident: str, method: str, *args: Any, **options: Any) -> Any:
        """`ask`, and wait for the answer."""
        return await self.ask(ident, method, *args, **options)[1].wait()

    def close(self) -> None:
        """Close the link; calls under way raise `ConnectionLostError`."""
        if self.link is not None and not self._closed:
            for callback in self.before_close:
                callback()
        self._closed = True
        if self.link is not None:
            self._broken(self.link, ConnectionLostError("this manager is closed"))
        self._fail(ConnectionLostError("this manager is closed"))

    # -- the life of a link -------------------------------------------------------------------

    def _start(self) -> None:
        if self._pending and not self._running and not self._closed:
            self._running = True
            spawn(self._run)

    async def _run(self) -> None:
        """Connect, and send what waits for an answer."""
        try:
            link = await self._connect()
        except AioManagerError as exc:
            self._running = False
            self._fail(exc)
            return
        self._running = False
        if self._closed:
            link.close()
            return
        self.link = link
        self._heard = monotonic()
        self._unsent.clear()
        link.listen(self._messages, lambda error: self._broken(link, error))
        spawn(lambda: self._watch(link))
        pending = list(self._pending.values())
        self._say_hello()
        for request in pending:
            if self.link is link:
                self._send(link, request)

    def _say_hello(self) -> None:
        """Before anything is sent again: by this the host knows whether it has forgotten what it
        was sent before. What it has forgotten by the time that this side comes back, it does not
        run again."""
        self._pending.pop(self._hello_id, None)
        window = self._reconnect + self._call_timeout
        self._hello_id, hello = self.ask("", "hello", self.host_run, window)
        hello.then(self._greeted)

    def _greeted(self, answer: Any) -> None:
        if not isinstance(answer, Exception):
            self.host_run, _ = answer

    async def _connect(self) -> Link:
        pause = FIRST_PAUSE
        # The first time too: the host was there when the manager connected.
        deadline = monotonic() + self._reconnect
        while True:
            try:
                link = await self._open_link(self._name)
            except ConnectionLostError:
                left = deadline - monotonic()
                if self._closed or left <= 0:
                    raise
            else:
                if self._ever_connected:
                    logger.warning("connected to the host again")
                    if self._on_reconnect is not None:
                        self._on_reconnect()
                self._ever_connected = True
                return link
            # Full jitter: clients that lost the same host do not all come back at once.
            await anyio.sleep(min(left, random.uniform(0, pause)))  # noqa: S311 - no secret
            pause = min(pause * 2, LONGEST_PAUSE)

    def _messages(self, messages: list[Buffer]) -> None:
        self._heard = monotonic()
        for message in messages:
            try:
                kind, value, request_id = load(message)
            except Exception as exc:
                if self.link is not None:
                    error = ConnectionLostError(f"the host sent no reply: {exc!r}")
                    self._broken(self.link, error)
                return
            self._received(kind, value, request_id)

    def _received(self, kind: str, value: Any, request_id: int | None) -> None:
        if kind == "#STOPPING":
            self._stopped = True
            return
        request = self._pending.pop(request_id or 0, None)
        if request is None:
            return
        if kind == "#RETURN":
            request.set(value)
        elif kind == "#SHUTDOWN":
            request.set(QueueShutDown(value))
        else:
            request.set(value if isinstance(value, Exception) else RemoteError(str(value)))

    def _send(self, link: Link, request: _Request) -> None:
        if request.sent is not None:
            request.parts = repeated(request.parts)
        request.sent = monotonic()
        prepared = link.prepare(request.parts)
        if self._unsent:
            self._unsent.append(prepared)
            return
        try:
            rest = link.send_now(prepared)
        except ConnectionLostError as exc:
            self._broken(link, exc)
            return
        if rest:
            self._unsent.append(rest)
            spawn(lambda: self._write(link))

    async def _write(self, link: Link) -> None:
        """Send what the link could not take at once."""
        while self._unsent and self.link is link:
            try:
                await link.send_rest(self._unsent[0])
            except ConnectionLostError as exc:
                self._broken(link, exc)
            else:
                if self.link is link:
                    self._unsent.popleft()

    async def _watch(self, link: Link) -> None:
        """Notice a host that was stopped, or cut off without a word: it says nothing either."""
        try:
            await self._ask_now_and_then(link)
        except Exception:
            raise
        except BaseException:
            # The event loop ends. What would be sent and connected from now on had nobody to see
            # its end, and on the thread lane a thread of it would keep the process.
            self.close()
            raise

    async def _ask_now_and_then(self, link: Link) -> None:
        while self.link is link:
            with anyio.CancelScope() as self._watching:
                await anyio.sleep(self._call_timeout / 4)
            if self.link is not link:
                return
            now = monotonic()
            if any(
                not request.waits and now - (request.sent or now) > self._call_timeout
                for request in self._pending.values()
            ):
                error = f"the host has not answered for {self._call_timeout} s"
                self._broken(link, ConnectionLostError(error, outcome_known=False))
            elif self._pending and now - self._heard > self._call_timeout / 2:
                self.ask("", "ping")

    def _broken(self, link: Link, error: ConnectionLostError) -> None:
        """Give a link up. What was asked so long ago that the host's absence does not excuse it
        fails, since it may be what breaks the links."""
        link.close()
        if self.link is not link:
            return
        self.link = None
        self._watching.cancel()
        if self._stopped:
            self._stopped = False
            error = ConnectionLostError("the host was shut down", outcome_known=False)
        if not self._closed:
            logger.warning("%s", error)
        now = monotonic()
        for request_id, request in list(self._pending.items()):
            if not request.waits and now - request.asked > self._call_timeout + self._reconnect:
                del self._pending[request_id]
                request.set(error)
        self._start()

    def _fail(self, error: AioManagerError) -> None:
        pending, self._pending = self._pending, {}
        for request in pending.values():
            if request.sent is None or not isinstance(error, ConnectionLostError):
                request.set(error)
            else:
                request.set(
                    ConnectionLostError(
                        f"the host went away and did not come back within {self._reconnect} s; "
                        f"whether the call has happened is unknown. {error}",
                        outcome_known=False,
                    )
                )
