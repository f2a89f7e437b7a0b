"""The stream lane: the manager's protocol on a socket that the event loop watches, with no thread.

It guarantees what the thread lane does. A host that stalls in the middle of a message holds up
those who wait for that message, and nothing else on the event loop. It knows neither queues nor
items.

The sockets are plain ones that do not block, and anyio tells when they are ready: a send that the
socket takes at once, as most are, then costs a system call and no turn of the event loop.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import anyio

from ._addresses import Address
from ._errors import AuthenticationError, ConnectionLostError
from ._forks import belongs_to_this_process
from ._links import Conversation, Link, attempts, in_time, introduce, lost, refused, unreachable
from ._listening import widen
from ._tasks import call_when_readable
from ._wire import (
    TURN_SIZE,
    Buffer,
    MessageReader,
    client_handshake,
    one_write,
    pack,
    unsent,
)

T = TypeVar("T")

# A full backlog refuses a unix socket at once instead of letting it wait; seconds until it is
# tried again.
BACKLOG_PAUSE = 0.01


class StreamLink(Link):
    """A socket that carries messages."""

    def __init__(self, sock: socket.socket, address: Address) -> None:
        belongs_to_this_process(sock)
        self._socket = sock
        self._address = address
        self._reader = MessageReader()
        self._stop_listening: Callable[[], object] = lambda: None

    async def converse(self, conversation: Conversation[T], timeout: float | None) -> T:
        try:
            parts = next(conversation)
            while True:
                try:
                    reply = await in_time(self.exchange(parts), timeout, self._address)
                except ConnectionLostError:
                    self.broken = True
                    raise
                parts = conversation.send(reply)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]

    def is_alive(self) -> bool:
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return not self._reader.midway
        except OSError:
            pass
        return False

    def prepare(self, parts: Sequence[Buffer]) -> list[Buffer]:
        return pack(parts)

    def send_now(self, prepared: list[Buffer]) -> list[Buffer]:
        try:
            if len(prepared) == 1 and len(prepared[0]) < TURN_SIZE:
                sent = self._socket.send(prepared[0])
            else:
                sent = self._send_some(prepared)
        except BlockingIOError:
            return prepared
        except OSError as exc:
            raise lost(self._address, exc) from exc
        return unsent(prepared, sent)

    def _send_some(self, prepared: list[Buffer]) -> int:
        parts, _ = one_write(prepared)
        if not hasattr(self._socket, "sendmsg"):  # as on Windows
            return self._socket.send(parts[0])
        return self._socket.sendmsg(parts)

    async def send_rest(self, rest: Sequence[Buffer]) -> None:
        left = list(rest)
        while left:
            await in_time(anyio.wait_writable(self._socket), None, self._address)
            left = self.send_now(left)

    def listen(
        self,
        on_messages: Callable[[list[Buffer]], None],
        on_lost: Callable[[ConnectionLostError], None],
    ) -> None:
        def readable() -> None:
            try:
                messages = self._read()
            except ConnectionLostError as exc:
                self.close()
                on_lost(exc)
            else:
                on_messages(messages)

        self._stop_listening = call_when_readable(self._socket, readable)

    def _read(self) -> list[Buffer]:
        """What has come, but no more than some, so that a host that always has more to say leaves
        others a turn."""
        messages: list[Buffer] = []
        left = TURN_SIZE
        try:
            while not messages and left > 0:
                count = self._reader.read(self._socket)
                if not count:
                    raise EOFError
                left -= count
                while (message := self._reader.next()) is not None:
                    messages.append(message)
        except BlockingIOError:
            pass
        except (OSError, EOFError) as exc:
            raise lost(self._address, exc) from exc
        return messages

    def close(self) -> None:
        if self._socket.fileno() == -1:
            return
        self._stop_listening()
        # Without an event loop there is nobody to notify.
        with contextlib.suppress(OSError, RuntimeError):
            anyio.notify_closing(self._socket)
        # The host shall know at once; uvloop puts the closing off until it has let go of a socket.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    async def exchange(self, parts: Sequence[Buffer]) -> Buffer:
        """Send a message and wait for the next; for handshakes and conversations, in which
        nothing comes unasked."""
        await self.send_rest(self.send_now(pack(parts)))
        return await self.receive_one()

    async def receive_one(self) -> Buffer:
        """Wait for one message, and leave what comes after it."""
        while (message := self._reader.next()) is None:
            await anyio.wait_readable(self._socket)
            if not self._reader.read(self._socket):
                raise EOFError
        return message

    async def authenticate(self, authkey: bytes) -> None:
        """Go through the handshake."""
        handshake = client_handshake(authkey)
        with contextlib.suppress(StopIteration):
            step = next(handshake)
            while True:
                if step is None:
                    step = handshake.send(await self.receive_one())
                else:
                    await self.send_rest(self.send_now(pack([step])))
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
        error = TimeoutError()
        for timeout in attempts(self._address, self._timeout):
            try:
                return await self._open(name, timeout)
            except TimeoutError as exc:
                error = exc
        raise unreachable(self._address, error) from error

    async def _open(self, name: str | None, timeout: float) -> Link:
        link: StreamLink | None = None
        try:
            with anyio.fail_after(timeout):
                link = StreamLink(await connect(self._address), self._address)
                await link.authenticate(self._authkey)
                if name is not None:
                    await link.converse(introduce(name), None)
            return link
        except BaseException as exc:
            if link is not None:
                link.close()
            if isinstance(exc, AuthenticationError):
                raise refused(self._address, exc) from exc
            if isinstance(exc, (OSError, EOFError)) and not isinstance(exc, TimeoutError):
                raise unreachable(self._address, exc) from exc
            raise


async def connect(address: Address) -> socket.socket:
    """Connect a socket that does not block; TCP without Nagle's delay, which costs 40 ms for a
    message in two writes."""
    if address.kind == "unix":
        sock = await _connect(socket.AF_UNIX, address.value)
        widen(sock)
        return sock
    host, port = address.value
    error: OSError | None = None
    for family, _, _, _, where in await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            sock = await _connect(family, where)
        except OSError as exc:
            error = exc
            continue
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return sock
    raise error or OSError(f"{host} has no address")


async def _connect(family: int, where: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        while (code := sock.connect_ex(where)) == errno.EAGAIN:  # noqa: ASYNC110 - nobody tells
            await anyio.sleep(BACKLOG_PAUSE)
        if code in (errno.EINPROGRESS, errno.EWOULDBLOCK):
            await anyio.wait_writable(sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
    except BaseException:
        sock.close()
        raise
    return sock
