"""The floor: the bytes of each item go to another process and come back, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import struct
import sys
import tempfile
from collections import deque
from types import TracebackType
from typing import Any, Self

from . import Peer
from ._partner import Partner

PROTOCOL = 5
LENGTH = struct.Struct("!I")


class _Client(asyncio.Protocol):
    """Answers come in the order of what was sent."""

    def __init__(self) -> None:
        self.waiting: deque[asyncio.Future[bytes]] = deque()
        self._pending = bytearray()

    def data_received(self, data: bytes) -> None:
        pending = self._pending
        pending += data
        position = 0
        while len(pending) - position >= LENGTH.size:
            (size,) = LENGTH.unpack_from(pending, position)
            end = position + LENGTH.size + size
            if len(pending) < end:
                break
            self.waiting.popleft().set_result(bytes(pending[position + LENGTH.size : end]))
            position = end
        del pending[:position]


class _Server(asyncio.Protocol):
    """Sends back what comes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self.data_received = transport.write  # type: ignore[method-assign]


class Echo(Peer):
    """A put sends the item's bytes and waits for them; a get does the same once more.

    Args:
        path: where the other process listens; None for one of its own.
    """

    def __init__(self, path: str | None = None) -> None:
        self._path = path
        self._kept: deque[bytes] = deque()

    async def __aenter__(self) -> Self:
        self._closing = contextlib.ExitStack()
        if self._path is None:
            folder = self._closing.enter_context(tempfile.TemporaryDirectory())
            self._path = f"{folder}/socket"
            self._closing.callback(start_echo(self._path).end)
        loop = asyncio.get_running_loop()
        self._transport, self._client = await loop.create_unix_connection(_Client, self._path)
        self._closing.callback(self._transport.close)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closing.close()

    async def put(self, item: Any) -> None:
        data = pickle.dumps(item, PROTOCOL)
        self._kept.append(data)
        await self._send(data)

    async def get(self) -> Any:
        return pickle.loads(await self._send(self._kept.popleft()))

    def _send(self, data: bytes) -> asyncio.Future[bytes]:
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._client.waiting.append(answer)
        self._transport.write(LENGTH.pack(len(data)) + data)
        return answer


def start_echo(path: str) -> Partner:
    """The other process."""
    partner = Partner(__name__, "serve", path=path)
    partner.answer()
    return partner


def serve(path: str) -> None:
    """What it does."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        await loop.create_unix_server(_Server, path, backlog=1024)
        print("ready", flush=True)
        await loop.run_in_executor(None, os.read, sys.stdin.fileno(), 1)

    asyncio.run(main())
