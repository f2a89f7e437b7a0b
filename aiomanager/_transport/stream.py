"""The stream transport: the manager's protocol on a socket that the event loop watches.

It needs no thread, and guarantees what the thread transport does. A host that stalls in the middle
of a message holds up those who wait for that message, and nothing else on the event loop. It knows
neither queues nor items.

The sockets are plain ones that do not block, and anyio tells when they are ready: a send that the
socket takes at once, as most are, then costs a system call and no turn of the event loop.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from weakref import ref

import anyio

from .._concurrency.event_loop import call_in, call_when_readable, current_loop, is_running
from .._ground.addresses import Address
from .._ground.buffers import Buffer
from .._ground.errors import AuthenticationError, ConnectionLostError
from .._wire.endpoint import Endpoint
from .._wire.framing import TURN_SIZE, one_write, unsent
from .approach import Approach, Transport
from .base import Connection, Conversation, introduce
from .connecting import connect, find, is_silent
from .errors import connecting, in_time, talking
from .forks import belongs_to_this_process

T = TypeVar("T")


class StreamConnection(Connection):
    """A socket that carries messages."""

    def __init__(self, sock: socket.socket, address: Address, end: Endpoint) -> None:
        belongs_to_this_process(sock)
        self._socket = sock
        self._address = address
        self._end = end
        self._thread, self._loop = threading.get_ident(), ref(current_loop())
        self._stop_listening: Callable[[], object] = lambda: None
        self._awaits_reply = False

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

    def finish_now(self, conversation: Conversation[Any], timeout: float) -> None:
        if not self._awaits_reply:
            raise BrokenPipeError("the event loop has left in the middle of a request")
        self._socket.settimeout(max(0.001, timeout))

        def receive() -> Buffer:
            while (message := self._end.next()) is None:
                if not self._end.read(self._socket):
                    raise EOFError
            return message

        with contextlib.suppress(StopIteration):
            while True:
                request = conversation.send(receive())
                for part in self._end.pack(request):
                    self._socket.sendall(part)

    def is_alive(self) -> bool:
        return is_silent(self._socket) and not self._end.midway

    def prepare(self, parts: Sequence[Buffer]) -> list[Buffer]:
        return self._end.pack(parts)

    def send_now(self, prepared: list[Buffer]) -> list[Buffer]:
        try:
            with talking(self._address):
                if len(prepared) == 1 and len(prepared[0]) < TURN_SIZE:
                    sent = self._socket.send(prepared[0])
                else:
                    sent = self._send_some(prepared)
        except BlockingIOError:
            return prepared
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
        with contextlib.suppress(BlockingIOError), talking(self._address):
            while not messages and left > 0:
                count = self._end.read(self._socket)
                if not count:
                    raise EOFError
                left -= count
                while (message := self._end.next()) is not None:
                    messages.append(message)
        return messages

    def close(self) -> None:
        if self._socket.fileno() == -1:
            return
        loop = self._loop()
        if threading.get_ident() != self._thread and loop is not None and is_running(loop):
            # On its own thread, as no event loop bears that another one changes what it watches.
            # The host shall know at once.
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            call_in(loop, self.close)
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
        await self.send_rest(self.send_now(self._end.pack(parts)))
        self._awaits_reply = True
        reply = await self.receive_one()
        self._awaits_reply = False
        return reply

    async def receive_one(self) -> Buffer:
        """Wait for one message, and leave what comes after it."""
        while (message := self._end.next()) is None:
            await self._read_some()
        return message

    async def greet(self, name: str | None, hello: Mapping[str, Any]) -> None:
        """Go through the handshake, and introduce this side."""
        while self._end.greeted is None:
            await self._read_some()
            try:
                self._end.shake()
            except AuthenticationError:
                with contextlib.suppress(ConnectionLostError):  # a word that need not arrive
                    self.send_now(self._end.to_send())
                raise
            if said := self._end.to_send():
                await self.send_rest(self.send_now(said))
        self.hello = await self.converse(
            introduce(self._end.greeted, self._address, name, hello), None
        )

    async def _read_some(self) -> None:
        await anyio.wait_readable(self._socket)
        if not self._end.read(self._socket):
            raise EOFError


class StreamTransport(Transport):
    """Makes connections of the stream transport."""

    async def open(self, name: str | None, /, **said: Any) -> Connection:
        """Connect, authenticate, and introduce this side, as `Opener` has it.

        Raises:
            ConnectionLostError: there is no host, it does not answer in time, or connecting fails
                for whatever other reason.
            ConfigurationError: no host can ever be there, or it is one of another version.
            AuthenticationError: the keys differ.

        Cancelled, it leaves at once, and nothing stays open.
        """
        approach = Approach(self._address, self._timeout, self._good)
        with connecting(self._address):
            await find(approach)
            while approach.goes_on():
                with approach:
                    return await self._open(name, said, approach)
        raise approach.error() from approach.cause

    async def _open(
        self, name: str | None, said: Mapping[str, Any], approach: Approach
    ) -> Connection:
        connection: StreamConnection | None = None
        try:
            with anyio.fail_after(approach.left):
                end = Endpoint(self._handshake())
                connection = StreamConnection(await connect(approach), self._address, end)
                await connection.greet(name, said)
        except BaseException:
            if connection is not None:
                connection.close()
            raise
        self._good = approach.connected
        return connection
