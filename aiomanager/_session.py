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
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio

from ._errors import AioManagerError, ConnectionLostError, QueueShutDown, RemoteError
from ._links import Link
from ._tasks import Slot, spawn
from ._wire import Buffer, dump, load

logger = logging.getLogger("aiomanager")

# What a client of ours calls itself when it introduces a connection.
CLIENT_PREFIX = "aiomanager-client:"

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 2.0


class _Attempt:
    """An attempt to connect, for all who wait for it."""

    def __init__(self) -> None:
        self.over = anyio.Event()
        self.error: AioManagerError | None = None


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
        self._link: Link | None = None
        self._attempt: _Attempt | None = None
        self._ever_connected = False
        self._pending: dict[int, Slot[tuple[str, Any]]] = {}
        self._sending: anyio.Lock | None = None
        self._heard = 0  # messages from the host
        self._closed = False

    async def request(
        self,
        ident: str,
        method: str,
        *args: Any,
        numbered: tuple[str, int] | None = None,
        waits: bool = False,
        on_sent: Callable[[int], None] | None = None,
    ) -> Any:
        """Send a request and return the answer, across reconnections. To be run by a task that
        no caller can cancel.

        Args:
            numbered: the channel and the number of a request that changes something.
            waits: the answer may take any time; the host is asked now and then if it is there.
            on_sent: is told the request's id, with which a waiting one can be cancelled.

        Raises:
            ConnectionLostError: the host was away for longer than `reconnect`.
            QueueShutDown, RemoteError: what the host answered.
        """
        lost: ConnectionLostError | None = None
        deadline = anyio.current_time() + self._reconnect
        while True:
            try:
                link = await self._linked()
            except ConnectionLostError as exc:
                if lost is None or self._closed:
                    raise
                raise lost from exc
            try:
                return _value(*await self._ask(link, ident, method, args, numbered, waits, on_sent))
            except ConnectionLostError as exc:
                self._broken(link, exc)
                lost = exc
                if anyio.current_time() > deadline and not waits:
                    raise

    async def tell(self, ident: str, method: str, *args: Any) -> None:
        """Ask for something whose outcome nobody needs, on the link that there is."""
        link = self._link
        if link is not None:
            try:
                await self._ask(link, ident, method, args, None, False, None)
            except ConnectionLostError as exc:
                self._broken(link, exc)

    def close(self) -> None:
        """Close the link; calls under way raise `ConnectionLostError`."""
        self._closed = True
        if self._link is not None:
            self._broken(self._link, ConnectionLostError("this manager is closed"))

    # -- inside -------------------------------------------------------------------------------

    async def _ask(
        self,
        link: Link,
        ident: str,
        method: str,
        args: tuple[Any, ...],
        numbered: tuple[str, int] | None,
        waits: bool,
        on_sent: Callable[[int], None] | None,
    ) -> tuple[str, Any]:
        request_id = next(self._ids)
        slot: Slot[tuple[str, Any]] = Slot()
        self._pending[request_id] = slot
        kwds = {"channel": numbered[0], "number": numbered[1]} if numbered else {}
        try:
            await self._send(link, dump((ident, method, args, kwds, request_id)))
            if on_sent is not None:
                on_sent(request_id)
            if waits:
                return await slot.wait()
            with anyio.move_on_after(self._call_timeout):
                return await slot.wait()
            raise ConnectionLostError(
                f"the host has not answered for {self._call_timeout} s", outcome_known=False
            )
        finally:
            self._pending.pop(request_id, None)

    async def _watch(self, link: Link) -> None:
        """While calls wait at the host, make sure now and then that it is alive: a host that was
        stopped, or cut off without a word, says nothing either."""
        while self._link is link:
            heard = self._heard
            await anyio.sleep(self._call_timeout / 2)
            if self._pending and self._heard == heard and self._link is link:
                try:
                    await self._ask(link, "", "ping", (), None, False, None)
                except ConnectionLostError as exc:
                    self._broken(link, exc)

    async def _send(self, link: Link, parts: Sequence[Buffer]) -> None:
        if self._sending is None:
            self._sending = anyio.Lock()
        async with self._sending:
            await link.send(parts)

    async def _linked(self) -> Link:
        """The link, made anew where it is gone; one task connects, and all others wait for it."""
        while self._link is None:
            if self._closed:
                raise ConnectionLostError("this manager is closed")
            if self._attempt is None:
                self._attempt = _Attempt()
                spawn(self._attempt_to_connect)
            attempt = self._attempt
            await attempt.over.wait()
            if attempt.error is not None:
                raise attempt.error
        return self._link

    async def _attempt_to_connect(self) -> None:
        attempt = self._attempt
        assert attempt is not None
        try:
            link = await self._connect()
        except AioManagerError as exc:
            attempt.error = exc
        else:
            self._link = link
            spawn(lambda: self._serve(link))
        finally:
            self._attempt = None
            attempt.over.set()

    async def _connect(self) -> Link:
        pause = FIRST_PAUSE
        deadline = anyio.current_time() + (self._reconnect if self._ever_connected else 0)
        while True:
            try:
                link = await self._open_link(self._name)
            except ConnectionLostError:
                if self._closed or anyio.current_time() >= deadline:
                    raise
            else:
                if self._ever_connected:
                    logger.warning("connected to the host again")
                    if self._on_reconnect is not None:
                        self._on_reconnect()
                self._ever_connected = True
                return link
            # Full jitter: clients that lost the same host do not all come back at once.
            left = deadline - anyio.current_time()
            await anyio.sleep(min(left, random.uniform(0, pause)))  # noqa: S311 - no secret
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _serve(self, link: Link) -> None:
        """Read from a link, and watch it, until it breaks."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch, link)
            await self._read(link)
            group.cancel_scope.cancel()

    async def _read(self, link: Link) -> None:
        try:
            while True:
                kind, value, request_id = load(await link.receive())
                self._heard += 1
                slot = self._pending.pop(request_id, None)
                if slot is not None:
                    slot.set((kind, value))
        except ConnectionLostError as exc:
            self._broken(link, exc)
        except Exception as exc:
            self._broken(link, ConnectionLostError(f"the host sent no reply: {exc!r}"))
        finally:
            link.close()

    def _broken(self, link: Link, error: ConnectionLostError) -> None:
        link.close()
        if self._link is not link:
            return
        self._link = None
        if not self._closed:
            logger.warning("%s", error)
        pending, self._pending = self._pending, {}
        for slot in pending.values():
            slot.fail(error)


def _value(kind: str, value: Any) -> Any:
    if kind == "#RETURN":
        return value
    if kind == "#SHUTDOWN":
        raise QueueShutDown(value)
    if isinstance(value, Exception):
        raise value
    raise RemoteError(str(value))
