"""Pools of processes at a manager, as coroutines use them. Their results are waited for in slices,
by one call for all tasks of this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Self

import anyio

from ._links import Conversation
from ._objects import AsyncProxy
from ._references import ANSWER_TIMEOUT, Reference
from ._waits import Waits


class AsyncResult(AsyncProxy):
    """What a `Pool` is computing. Any number of waiting tasks cost one thread and one
    connection."""

    def __init__(self, reference: Reference) -> None:
        super().__init__(reference)
        self._waits = Waits(
            partial(_is_ready_within, reference), reference.home.wait_slice, shared=True
        )

    async def wait(self, timeout: float | None = None) -> None:
        """Wait up to `timeout` seconds, for ever if None, until it is there. Cancelled, it has
        changed nothing: the pool computes on."""
        if timeout is None or timeout > 0:
            await self._waits.wait(timeout)

    async def get(self, timeout: float | None = None) -> Any:
        """Wait for the result and return it, or raise what the function has raised.

        Raises `multiprocessing.TimeoutError` where it is not there within `timeout` seconds.
        Cancelled, the result stays where it is.
        """
        await self.wait(timeout)
        return await self.call("get", 0)

    async def ready(self) -> bool:
        """Whether it is there."""
        return bool(await self.call("ready"))

    async def successful(self) -> bool:
        """Whether the function has raised nothing; ValueError where it has not ended."""
        return bool(await self.call("successful"))


async def _is_ready_within(reference: Reference, seconds: float) -> bool | None:
    def conversation() -> Conversation[bool]:
        yield from reference.tell("wait", seconds)
        return bool((yield from reference.tell("ready")))

    return await reference.home.pool.wait(conversation(), seconds + ANSWER_TIMEOUT) or None


class AsyncPool(AsyncProxy):
    """A `Pool` at the host; functions must be importable by its processes. As an async context
    manager it is terminated at the end, as the standard library's."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            await self.call("terminate")

    async def apply(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run a function in the pool and return its result, or raise what it raises. Cancelled,
        it runs on in the pool."""
        return await (await self.apply_async(func, tuple(args), dict(kwds or {}))).get()

    async def map(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """Run a function for each item and return the results in order. Cancelled, the pool works
        on."""
        result = await self.map_async(func, list(iterable), chunksize)
        return list(await result.get())

    async def starmap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
    ) -> list[Any]:
        """`map` with an item for all arguments of a call."""
        result = await self.starmap_async(func, [tuple(item) for item in iterable], chunksize)
        return list(await result.get())
