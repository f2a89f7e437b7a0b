"""What all async programs share: an event loop, a connection, and an end when they are told."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio

import aiomanager
from tests.chaos.programs.addresses import address

_CONNECT = ("transport", "call_timeout", "reconnect", "connect_timeout", "wait", "wait_slice")


def run(options: dict[str, Any], main: Callable[[], Awaitable[None]]) -> None:
    """Run a coroutine function on the event loop that the options name: asyncio, uvloop, trio.

    An error that is alone in its groups is raised without them.
    """
    backend = options.get("backend", "asyncio")
    uvloop = {"use_uvloop": True} if backend == "uvloop" else {}
    try:
        anyio.run(main, backend=backend.replace("uvloop", "asyncio"), backend_options=uvloop)
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            (error,) = error.exceptions
        raise error from group


@asynccontextmanager
async def connected(options: dict[str, Any]) -> AsyncIterator[aiomanager.AsyncManager]:
    """A connection to the host of the options."""
    arguments = {name: options[name] for name in _CONNECT if name in options}
    async with aiomanager.connect(address(options), options["key"], **arguments) as manager:
        yield manager


async def until_told(work: Callable[[], Awaitable[None]]) -> None:
    """Run `work` to its end, or cancel it at SIGTERM."""
    async with anyio.create_task_group() as group:

        async def listen() -> None:
            with anyio.open_signal_receiver(signal.SIGTERM) as signals:
                async for _ in signals:
                    group.cancel_scope.cancel()

        group.start_soon(listen)
        await work()
        group.cancel_scope.cancel()
