"""`aiomanager get`: items of a queue, to standard output."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any

import anyio
import typer
from anyio.abc import TaskGroup

from aiomanager import (
    AioManagerError,
    AsyncQueue,
    Delivery,
    LeaseLostError,
    QueueEmpty,
    QueueShutDown,
)

from . import _standard
from ._items import Form, render
from ._options import Connection, connected
from ._running import CommandError, run, warn

# How many items this process holds that it has not written yet.
AHEAD = 64


@connected
def get(
    queue: Annotated[str, typer.Argument(help="The queue's name at the host.")],
    connection: Connection,
    count: Annotated[
        int | None,
        typer.Option(
            "--count",
            "-n",
            metavar="N",
            min=1,
            help="How many items; left out, 1.",
        ),
    ] = None,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow",
            "-f",
            help="All items, until a sentinel (None) comes or the queue is shut down.",
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write one JSON document a line.")
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            min=0,
            help="How long to wait for each item; left out, for ever. When it is over, "
            "--follow ends, and without it that is an error.",
        ),
    ] = None,
    no_sentinel: Annotated[
        bool,
        typer.Option("--no-sentinel", help="None is an item like others, and ends nothing."),
    ] = False,
) -> None:
    """Get items out of a queue and write each on a line.

    A str is written as it is and a newline after it, bytes as they are, everything else as str()
    has it; a newline inside an item is kept, so use [bold]--json[/bold] where there may be some.
    An item leaves the queue once it is written; what was not written, as the reader of a pipe has
    gone or at Ctrl-C, is in the queue again. (What is in the pipe was written, so take three
    items with [bold]-n 3[/bold] rather than with head.) To empty a queue:
    [bold]--follow --timeout 0[/bold].
    """
    if follow and count is not None:
        raise typer.BadParameter("--follow and --count exclude each other")
    form = Form.JSON if as_json else Form.TEXT

    async def main() -> None:
        async with connection.open() as manager, anyio.create_task_group() as tasks:
            tasks.start_soon(_until_reader_gone, tasks.cancel_scope)
            getting = _Getting(manager.queue(queue), form, timeout, ends=not no_sentinel)
            await getting.write_items(math.inf if follow else count or 1)
            if getting.missing and not follow:
                raise CommandError(f"{getting.end}; {_items(getting.missing)} missing")
            tasks.cancel_scope.cancel()

    run(main)


async def _until_reader_gone(scope: anyio.CancelScope) -> None:
    await _standard.reader_gone()
    scope.cancel()


def _items(count: float) -> str:
    return f"{count:g} item{'' if count == 1 else 's'}"


class _Getting:
    """Writes items, and gives each up to the queue's care until it is written.

    Attributes:
        missing: how many were wanted and have not come.
        end: why no more come.
    """

    def __init__(
        self, queue: AsyncQueue[Any], form: Form, timeout: float | None, *, ends: bool
    ) -> None:
        self._queue = queue
        self._form = form
        self._timeout = timeout
        self._ends = ends
        self._ahead = AHEAD
        self.missing = 0.0
        self.end = ""
        self._error: AioManagerError | None = None

    async def write_items(self, count: float) -> None:
        """Write up to `count` items, fewer where no more come."""
        self.missing = count
        if (await self._queue.statistics()).leased is None:
            # A stock host knows no leases: what it handed out would be lost with this process.
            self._ahead = 1
        while self.missing and not self.end:
            try:
                batch = await self._queue.get_deliveries(
                    int(min(self._ahead, self.missing)), self._timeout
                )
            except QueueEmpty:
                self.end = f"nothing came from {self._queue.name!r} within {self._timeout:g} s"
            except QueueShutDown:
                self.end = f"{self._queue.name!r} was shut down"
            else:
                await self._write_batch(batch)

    async def _write_batch(self, batch: list[Delivery[Any]]) -> None:
        async with anyio.create_task_group() as settling:
            try:
                while batch and not self.end:
                    delivery = batch.pop(0)
                    await self._write(delivery, settling)
            finally:
                for delivery in batch:
                    settling.start_soon(self._settle, partial(delivery.nack, unseen=True))
        if self._error is not None:
            raise self._error

    async def _write(self, delivery: Delivery[Any], settling: TaskGroup) -> None:
        """Write an item, unless it is a sentinel; hand it out again where that fails."""
        try:
            if delivery.item is None and self._ends:
                self.end = "a sentinel came"
            else:
                await _standard.write(render(delivery.item, self._form))
                self.missing -= 1
        except BaseException:
            settling.start_soon(self._settle, delivery.nack)
            raise
        settling.start_soon(self._settle, delivery.ack)

    async def _settle(self, settle: Callable[[], Awaitable[None]]) -> None:
        # Beside the writing, and without raising: the host may be away for several at once.
        try:
            await settle()
        except LeaseLostError:
            warn("an item took longer than its lease: it is handed out again")
        except AioManagerError as exc:
            self._error = exc
