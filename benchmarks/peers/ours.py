"""aiomanager itself."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Literal, Self

import aiomanager

from . import Peer


class Ours(Peer):
    """A queue of an embedded host.

    Args:
        address: where the host listens; None for a private unix socket.
    """

    def __init__(
        self,
        transport: Literal["stream", "thread"] = "stream",
        address: tuple[str, int] | None = None,
    ) -> None:
        self.manager = aiomanager.host(queues={"jobs": 0}, transport=transport, address=address)

    async def __aenter__(self) -> Self:
        await self.manager.__aenter__()
        self.queue: aiomanager.AsyncQueue[Any] = self.manager.queue("jobs")
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.manager.__aexit__(exc_type, exc, traceback)

    async def put(self, item: Any) -> None:
        await self.queue.put(item)

    async def get(self) -> Any:
        return await self.queue.get()

    async def task_done(self) -> None:
        await self.queue.task_done()
