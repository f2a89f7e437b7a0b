"""`aiomanager put`: arguments, or the lines of standard input, into a queue."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

import typer

from aiomanager import AsyncQueue, QueueFull, QueueShutDown

from . import _standard
from ._items import Form, Lines, parse
from ._options import Connection, connected
from ._running import CommandError, note, run


@connected
def put(
    queue: Annotated[str, typer.Argument(help="The queue's name at the host.")],
    connection: Connection,
    items: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ITEM",
            help="What to put; left out, each line of standard input. Write -- before items "
            "that begin with a dash.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Items are JSON, one document a line; null is None.")
    ] = False,
    as_bytes: Annotated[
        bool,
        typer.Option(
            "--bytes",
            help="Items are bytes: each line with its newline, and whatever is not text.",
        ),
    ] = False,
    sentinel: Annotated[
        bool,
        typer.Option("--sentinel", help="Put a None at the end, at which consumers stop."),
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            min=0,
            help="How long to wait for room in a full queue; left out, for ever.",
        ),
    ] = None,
) -> None:
    """Put items in a queue: arguments, or lines.

    A line is UTF-8 text and its item is a str without the newline; bytes that are no UTF-8 come
    out of [bold]get[/bold] as they went in. With [bold]--bytes[/bold] a file of any kind comes out
    byte for byte.
    """
    if as_json and as_bytes:
        raise typer.BadParameter("--json and --bytes exclude each other")
    form = Form.JSON if as_json else Form.BYTES if as_bytes else Form.TEXT

    async def main() -> None:
        async with connection.open() as manager:
            putting = _Putting(manager.queue(queue), timeout)
            if items:
                await putting.put([_from_argument(item, form) for item in items])
            elif not (sentinel and _standard.is_terminal(_standard.INPUT)):
                await manager.queue(queue).empty()  # a wrong name shows before anything is typed
                await putting.put_all(_read_items(form))
            if sentinel:
                await putting.put([None])

    run(main)


class _Putting:
    """Puts batches, and counts for the message when one does not fit."""

    def __init__(self, queue: AsyncQueue[Any], timeout: float | None) -> None:
        self._queue = queue
        self._timeout = timeout
        self._count = 0

    async def put_all(self, batches: AsyncIterator[list[Any]]) -> None:
        try:
            async for batch in batches:
                await self.put(batch)
        except _BadLine as exc:
            await self.put(exc.before)
            raise CommandError(f"{exc}; {self._so_far()}") from exc

    async def put(self, items: list[Any]) -> None:
        try:
            while items:
                items = items[await self._put_some(items) :]
        except QueueShutDown as exc:
            raise CommandError(f"{self._queue.name!r} was shut down; {self._so_far()}") from exc

    async def _put_some(self, items: list[Any]) -> int:
        """Put items, and return how many found room; at least one."""
        accepted = len(items)
        try:
            await self._queue.put_many(items, timeout=self._timeout)
        except QueueFull as exc:
            # The timeout is for room, not for the batch: a consumer may be slow.
            accepted = exc.accepted
            if not accepted:
                raise CommandError(
                    f"{self._queue.name!r} is full, and had no room within {self._timeout:g} s; "
                    f"{self._so_far()}"
                ) from exc
        self._count += accepted
        return accepted

    def _so_far(self) -> str:
        return f"{self._count} item{'' if self._count == 1 else 's'} put before that"


class _BadLine(CommandError):
    """A line is no item.

    Attributes:
        before: the items of the lines before it that were not handed on yet.
    """

    def __init__(self, message: str, before: list[Any]) -> None:
        super().__init__(message)
        self.before = before


def _from_argument(text: str, form: Form) -> Any:
    # Arguments that are no UTF-8 arrive with `surrogateescape` already.
    return parse(text.encode("utf-8", "surrogateescape"), form)


async def _read_items(form: Form) -> AsyncIterator[list[Any]]:
    if _standard.is_terminal(_standard.INPUT):
        note("one item a line; Ctrl-D at the start of a line ends")
    lines = Lines()
    number = 0
    while data := await _standard.read():
        complete = lines.feed(data)
        yield _parse_lines(complete, form, b"\n", number)
        number += len(complete)
    if lines.rest:
        yield _parse_lines([lines.rest], form, b"", number)


def _parse_lines(lines: list[bytes], form: Form, end: bytes, number: int) -> list[Any]:
    """The items of lines, of which `number` came before."""
    if form is Form.BYTES:
        return [line + end for line in lines]
    items: list[Any] = []
    for position, line in enumerate(lines, number + 1):
        if form is Form.JSON and not line.strip():
            continue
        try:
            items.append(parse(line, form))
        except CommandError as exc:
            raise _BadLine(f"line {position}: {exc}", items) from exc
    return items
