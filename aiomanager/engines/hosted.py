"""A queue of a host of ours: batches, leases, and requests that may be repeated."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, Self

import anyio

from .._errors import ConfigurationError
from .._session import Session
from .._tasks import finish
from .._wire import bulky
from .base import QueueEngine, Received, Settlement, count_done


class _Waiting:
    """A request that waits at the host, and that can be called off by its id once it has one."""

    def __init__(self, cancel: Callable[[int], None]) -> None:
        self._cancel = cancel
        self._under_way = False
        self._unwanted = False
        self._request_id: int | None = None

    def __enter__(self) -> Self:
        self._under_way, self._unwanted, self._request_id = True, False, None
        return self

    def __exit__(self, *_: object) -> None:
        self._under_way = False

    def sent(self, request_id: int) -> None:
        self._request_id = request_id
        if self._unwanted:
            self._cancel(request_id)

    def interrupt(self) -> None:
        if self._under_way and not self._unwanted:
            self._unwanted = True
            if self._request_id is not None:
                self._cancel(self._request_id)


class HostedEngine(QueueEngine):
    """Talks to one hosted queue.

    Args:
        ident: the queue's id at the host.
    """

    def __init__(self, session: Session, ident: str) -> None:
        self._session = session
        self._ident = ident
        self._numbers = itertools.count(1)
        self._locks: dict[str, anyio.Lock] = {}
        self._receiving = _Waiting(self._cancel)
        self._putting = _Waiting(self._cancel)

    async def put(
        self, frames: Sequence[bytes], timeout: float | None, channel: str
    ) -> tuple[int, Exception | None]:
        parts = [bulky(frame) for frame in frames]
        if timeout == 0:
            return await self._change(channel, "put", parts, timeout), None
        with self._putting:
            return await self._change(
                channel, "put", parts, timeout, waits=True, on_sent=self._putting.sent
            ), None

    def interrupt_put(self) -> None:
        self._putting.interrupt()

    async def receive(self, count: int, timeout: float | None) -> list[Received]:
        if timeout == 0:
            deliveries = await self._request("receive", count, timeout)
        else:
            with self._receiving:
                deliveries = await self._request(
                    "receive", count, timeout, waits=True, on_sent=self._receiving.sent
                )
        return [Received(*delivery) for delivery in deliveries]

    def interrupt(self) -> None:
        self._receiving.interrupt()

    async def settle(
        self, settlements: Sequence[Settlement], channel: str = "settle"
    ) -> list[bool]:
        kept: list[bool] = await self._change(channel, "settle", list(settlements))
        return kept

    async def restore(self, received: Received) -> None:
        await self._change("restore", "restore", bulky(received.data), received.attempt)

    @property
    def host(self) -> object:
        return self._session

    async def move(self, delivery_id: int, target: str, frame: bytes) -> bool:
        moved: bool = await self._change("move", "move", delivery_id, target, bulky(frame))
        return moved

    async def task_done(self, count: int) -> int:
        return await count_done(count, lambda done: self._change("task_done", "task_done", done))

    async def join(self) -> None:
        with _Waiting(self._cancel) as waiting:
            try:
                await finish(lambda: self._request("join", waits=True, on_sent=waiting.sent))
            except BaseException:
                waiting.interrupt()
                raise

    async def ask(self, what: str) -> Any:
        return await self._request(what)

    async def shutdown(self, immediate: bool) -> None:
        await self._request("shutdown", immediate)

    async def statistics(self) -> dict[str, Any]:
        counts: dict[str, Any] = await self._request("statistics")
        return counts

    async def aclose(self) -> None:
        """Nothing is held here: what is not settled returns when the session's link closes."""

    async def _change(self, channel: str, method: str, *args: Any, **options: Any) -> Any:
        # The host remembers one answer for each channel, so the next waits for the one before.
        async with self._locks.setdefault(channel, anyio.Lock(fast_acquire=True)):
            number = next(self._numbers)
            return await self._request(method, *args, numbered=(channel, number), **options)

    def _cancel(self, request_id: int) -> None:
        self._session.ask(self._ident, "cancel", request_id)

    async def _request(
        self,
        method: str,
        *args: Any,
        on_sent: Callable[[int], None] | None = None,
        **options: Any,
    ) -> Any:
        request_id, slot = self._session.ask(self._ident, method, *args, **options)
        if on_sent is not None:
            on_sent(request_id)
        try:
            return await slot.wait()
        except KeyError as exc:
            raise ConfigurationError(exc.args[0]) from exc
