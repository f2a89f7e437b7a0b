"""The stream lane: the manager's protocol on the event loop's own sockets, with no thread.

It guarantees what the thread lane does. A host that stalls in the middle of a message holds up
those who wait for that message, and nothing else on the event loop. It knows neither queues nor
items.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TypeVar, cast

import anyio
from anyio.abc import SocketStream

from ._addresses import Address
from ._errors import AuthenticationError
from ._links import Conversation, Link, in_time, introduce, refused, unreachable
from ._wire import Buffer, MessageReader, client_handshake, pack

T = TypeVar("T")

READ_SIZE = 256 * 1024
# Event loops copy what a socket does not take at once; no more than this is offered to them.
WRITE_SIZE = 256 * 1024


class StreamLink(Link):
    """An anyio socket that carries messages."""

    def __init__(self, stream: SocketStream, address: Address) -> None:
        self._stream = stream
        self._address = address
        self._reader = MessageReader()

    async def converse(self, conversation: Conversation[T], timeout: float | None) -> T:
        try:
            parts = next(conversation)
            while True:
                reply = await in_time(self._exchange(parts), timeout, self._address)
                parts = conversation.send(reply)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]

    async def send(self, parts: Sequence[Buffer]) -> None:
        await in_time(self._send(parts), None, self._address)

    async def receive(self) -> Buffer:
        return await in_time(self._receive(), None, self._address)

    def close(self) -> None:
        # On every event loop `aclose` closes before it first awaits, which is all that is needed
        # here, also where the loop is ending and would not run another task.
        closing = self._stream.aclose()
        with contextlib.suppress(StopIteration, OSError, RuntimeError):
            closing.send(None)
        closing.close()

    async def _exchange(self, parts: Sequence[Buffer]) -> Buffer:
        await self._send(parts)
        return await self._receive()

    async def _send(self, parts: Sequence[Buffer]) -> None:
        for part in pack(parts):
            view = memoryview(part)
            for start in range(0, len(view), WRITE_SIZE):
                # Every event loop takes any buffer, though the annotation says bytes.
                await self._stream.send(cast("bytes", view[start : start + WRITE_SIZE]))

    async def _receive(self) -> Buffer:
        while (message := self._reader.next()) is None:
            self._reader.feed(await self._stream.receive(READ_SIZE))
        return message

    async def authenticate(self, authkey: bytes) -> None:
        """Go through the handshake."""
        handshake = client_handshake(authkey)
        with contextlib.suppress(StopIteration):
            step = next(handshake)
            while True:
                if step is None:
                    step = handshake.send(await self._receive())
                else:
                    await self._send([step])
                    step = next(handshake)


class StreamLane:
    """Makes links of the stream lane.

    Args:
        connect_timeout: seconds to connect and to authenticate.
    """

    def __init__(self, address: Address, authkey: bytes, connect_timeout: float) -> None:
        self._address = address
        self._authkey = authkey
        self._timeout = connect_timeout

    async def open(self, name: str | None) -> Link:
        """Connect, authenticate, and introduce this side as `name`, if one is given.

        Raises:
            ConnectionLostError: there is no host, or it does not answer in time.
            AuthenticationError: the keys differ.
        """
        link: StreamLink | None = None
        try:
            with anyio.fail_after(self._timeout):
                link = StreamLink(await self._connect(), self._address)
                await link.authenticate(self._authkey)
                if name is not None:
                    await link.converse(introduce(name), None)
            return link
        except BaseException as exc:
            if link is not None:
                link.close()
            if isinstance(exc, AuthenticationError):
                raise refused(self._address, exc) from exc
            if isinstance(exc, (OSError, anyio.EndOfStream, anyio.BrokenResourceError)):
                raise unreachable(self._address, exc) from exc
            raise

    async def _connect(self) -> SocketStream:
        if self._address.kind == "unix":
            return await anyio.connect_unix(self._address.value)
        host, port = self._address.value
        return await anyio.connect_tcp(host, port)
