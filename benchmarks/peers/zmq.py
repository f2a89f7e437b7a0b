"""pyzmq's asyncio sockets: push to another process and pull from it, with no broker."""

from __future__ import annotations

import pickle
import select
import sys
import tempfile
from types import TracebackType
from typing import Any, Self

import zmq
from zmq.asyncio import Context as AsyncContext

from . import Peer
from ._partner import Partner

PROTOCOL = 5


class PushPull(Peer):
    """A partner pulls what is put, keeps it, and pushes it back when it is told to."""

    async def __aenter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory()
        there, back = (f"ipc://{self._folder.name}/{name}" for name in ("there", "back"))
        self._context = AsyncContext()
        self._push = _unbounded(self._context.socket(zmq.PUSH))
        self._push.bind(there)
        self._pull = _unbounded(self._context.socket(zmq.PULL))
        self._pull.bind(back)
        self._partner = Partner(__name__, "bounce", there=there, back=back)
        self._partner.answer()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._partner.end()
        self._context.destroy(linger=0)
        self._folder.cleanup()

    async def put(self, item: Any) -> None:
        await self._push.send(pickle.dumps(item, PROTOCOL))

    async def get(self) -> Any:
        return pickle.loads(await self._pull.recv())

    async def turn(self, count: int) -> None:
        await self._partner.ask(str(count))


def bounce(there: str, back: str) -> None:
    """The partner."""
    context: zmq.Context[Any] = zmq.Context()
    pull, push = _unbounded(context.socket(zmq.PULL)), _unbounded(context.socket(zmq.PUSH))
    pull.connect(there)
    push.connect(back)
    print("ready", flush=True)
    poller = zmq.Poller()
    poller.register(pull, zmq.POLLIN)
    poller.register(sys.stdin, select.POLLIN)
    kept: list[bytes] = []
    wanted = 0
    while True:
        ready = dict(poller.poll())
        if pull in ready:
            try:
                while True:
                    kept.append(pull.recv(zmq.NOBLOCK))
            except zmq.Again:
                pass
        if sys.stdin.fileno() in ready:
            line = sys.stdin.readline()
            if not line:
                return
            wanted = int(line)
        if wanted and len(kept) == wanted:
            for item in kept:
                push.send(item)
            kept.clear()
            wanted = 0
            print("turned", flush=True)


def _unbounded(socket: Any) -> Any:
    # Its default keeps 1,000 messages on each side and then lets `send` wait.
    socket.set_hwm(0)
    return socket
