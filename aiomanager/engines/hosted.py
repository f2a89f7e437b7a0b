"""A queue of a host of ours: batches, leases, and requests that may be repeated."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from .._errors import ConfigurationError
from .._session import Session
from .._slots import Slot
from .._wire import BULK_SIZE, MESSAGE_LIMIT, NOT_HERE, bulky
from .base import BATCH_BYTES, QueueEngine, Received, Settlement, count_done


class HostedEngine(QueueEngine):
    """Talks to one hosted queue.

    Args:
        ident: the queue's id at the host.
        message_limit: bytes of the largest message that the host takes.
        threads: a message of the session goes through a thread, which costs more than all else.
    """

    def __init__(
        self,
        session: Session,
        ident: str,
        message_limit: int = MESSAGE_LIMIT,
        *,
        threads: bool = False,
    ) -> None:
        self.messages_are_cheap = not threads
        self.patience = session.patience
        # A frame may share its message with a batch of small ones.
        self.frame_limit = message_limit - 2 * BATCH_BYTES
        self._session = session
        self._ident = ident
        self._numbers = itertools.count(1)
        # The ids of the last requests that may wait at the host. To cancel one that has been
        # answered changes nothing.
        self._putting: int | None = None
        self._receiving: int | None = None

    def put(
        self, frames: Sequence[bytes], timeout: float | None, channel: str
    ) -> Slot[tuple[int, Exception | None]]:
        waits = timeout != 0
        parts: Sequence[Any] = frames
        if max(map(len, frames)) >= BULK_SIZE:
            parts = [bulky(frame) for frame in frames]
        request_id, slot = self._change(channel, "put", parts, timeout, waits=waits)
        if waits:
            self._putting = request_id
        return slot.map(lambda accepted: (accepted, None), _explained)

    def interrupt_put(self) -> None:
        self._cancel(self._putting)

    def receive(self, count: int, timeout: float | None) -> Slot[list[Received]]:
        waits = timeout != 0
        request_id, slot = self._session.ask(self._ident, "receive", count, timeout, waits=waits)
        if waits:
            self._receiving = request_id
        return slot.map(_received, _explained)

    def interrupt(self) -> None:
        self._cancel(self._receiving)

    def settle(
        self, settlements: Sequence[Settlement], channel: str = "settle"
    ) -> Slot[list[bool]]:
        return self._change(channel, "settle", list(settlements))[1]

    def take(self, delivery_ids: Sequence[int], channel: str) -> Slot[list[bool]]:
        return self._change(channel, "take", delivery_ids)[1]

    def restore(self, received: Received) -> Slot[None]:
        return self._change("restore", "restore", bulky(received.data), received.attempt)[1]

    @property
    def lease_holder(self) -> object:
        return self._session.link or self._session

    @property
    def host(self) -> object:
        return self._session

    async def move(self, delivery_id: int, target: str, frame: bytes) -> bool:
        _, slot = self._change("move", "move", delivery_id, target, bulky(frame))
        moved: bool = await slot.map(bool, _explained).wait()
        return moved

    async def task_done(self, count: int) -> int:
        return await count_done(
            count, lambda done: self._change("task_done", "task_done", done)[1].wait()
        )

    async def join(self) -> None:
        request_id, slot = self._session.ask(self._ident, "join", waits=True)
        try:
            await slot.map(bool, _explained).wait()
        except BaseException:
            self._cancel(request_id)
            raise

    async def ask(self, what: str) -> Any:
        return await self._look(what)

    async def shutdown(self, immediate: bool) -> None:
        await self._look("shutdown", immediate)

    async def statistics(self) -> dict[str, Any]:
        counts: dict[str, Any] = await self._look("statistics")
        return counts

    async def aclose(self) -> None:
        """Nothing is held here: what is not settled returns when the session's link closes."""

    def _change(
        self, channel: str, method: str, *args: Any, waits: bool = False
    ) -> tuple[int, Slot[Any]]:
        """Ask for a change. The host remembers one answer for each channel: that of the call
        before, which is over when the next one comes."""
        numbered = (channel, next(self._numbers))
        return self._session.ask(self._ident, method, *args, numbered=numbered, waits=waits)

    async def _look(self, method: str, *args: Any) -> Any:
        _, slot = self._session.ask(self._ident, method, *args)
        return await slot.map(lambda answer: answer, _explained).wait()

    def _cancel(self, request_id: int | None) -> None:
        if request_id is not None:
            self._session.ask(self._ident, "cancel", request_id)


def _received(deliveries: list[tuple[int, int, bytes]]) -> list[Received]:
    return [Received(*delivery) for delivery in deliveries]


def _explained(error: Exception) -> Exception:
    """A host says by its error where it has no such queue; the user asked for the wrong name."""
    return ConfigurationError(error.args[0]) if hasattr(error, NOT_HERE) else error
