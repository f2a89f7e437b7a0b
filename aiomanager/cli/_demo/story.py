"""The story of the demonstration: four processes, one queue, and a count at the end."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import anyio
from rich.console import Console
from rich.padding import Padding
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from aiomanager import AsyncManager, host

from .players import Player
from .roles import QUEUE
from .tree import process_tree


@dataclass(frozen=True)
class Outcome:
    """How one transport did.

    Attributes:
        consumed: how many different items arrived.
        seconds: from the first put until the last of them had arrived.
    """

    transport: str
    consumed: int
    seconds: float


async def tell_stories(transports: Sequence[str], items: int) -> int:
    """Tell the story over each transport; return the exit code."""
    console = Console(highlight=False)
    outcomes = [await Story(console, transport, items).tell() for transport in transports]
    console.print(Padding(_summary(outcomes, items), (1, 0, 0, 1)))
    return 0 if all(outcome.consumed == items for outcome in outcomes) else 1


class Story:
    """One run over one transport, told on the console while it happens."""

    def __init__(self, console: Console, transport: str, items: int) -> None:
        self._console = console
        self._transport = transport
        self._items = items
        self._bars = Progress(
            TextColumn("  {task.description:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._roles: dict[int, str] = {os.getpid(): "demo"}
        self._began = self._arrived = 0.0

    async def tell(self) -> Outcome:
        address = "tcp://127.0.0.1:0" if self._transport == "tcp" else None
        async with host({QUEUE: 0}, address=address) as manager, AsyncExitStack() as stack:
            self._title(manager)
            consumer = await stack.enter_async_context(self._player("consumer", manager))
            producer = await stack.enter_async_context(self._player("producer", manager))
            await consumer.ready()
            await producer.ready()
            self._console.print(Padding(process_tree(self._roles), (1, 0, 1, 2), expand=False))
            consumed = await self._send(producer, consumer, manager)
        right = consumed == self._items
        self._say(f"done consuming {consumed}", "bold green" if right else "bold red")
        return Outcome(self._transport, consumed, self._arrived - self._began)

    async def _send(self, producer: Player, consumer: Player, manager: AsyncManager) -> int:
        put = self._bars.add_task("put", total=self._items)
        arrived = self._bars.add_task("consumed", total=self._items)
        with self._bars:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._watch_consumer, consumer, arrived)
                self._began = self._arrived = time.perf_counter()
                await producer.go()
                async for count in producer.counts():
                    self._bars.update(put, completed=count)
                await producer.end()
                self._say("done producing")
                async with self._player("terminator", manager) as terminator:
                    self._say(f"the terminator, pid {terminator.pid}, puts None")
                    await terminator.end()
        await consumer.end()
        return int(self._bars.tasks[arrived].completed)

    async def _watch_consumer(self, consumer: Player, bar: TaskID) -> None:
        async for count in consumer.counts():
            self._arrived = time.perf_counter()
            self._bars.update(bar, completed=count)

    @asynccontextmanager
    async def _player(self, role: str, manager: AsyncManager) -> AsyncGenerator[Player, None]:
        async with Player(role, manager.address, manager.authkey, self._items) as player:
            self._roles[player.pid] = role
            yield player

    def _title(self, manager: AsyncManager) -> None:
        assert manager.host_pid is not None
        self._roles[manager.host_pid] = "host"
        self._console.print()
        self._console.rule(Text(f" {manager.address} ", "bold"), align="left", style="dim")

    def _say(self, what: str, style: str = "") -> None:
        self._console.print(Text(f"  {what}", style))


def _summary(outcomes: Sequence[Outcome], items: int) -> Table:
    table = Table(box=None, header_style="dim")
    table.add_column("transport")
    for title in ("items", "arrived", "seconds", "items a second"):
        table.add_column(title, justify="right")
    for outcome in outcomes:
        right = outcome.consumed == items
        table.add_row(
            outcome.transport,
            f"{items:,}",
            Text(f"{outcome.consumed:,}", "green" if right else "bold red"),
            f"{outcome.seconds:.2f}",
            f"{outcome.consumed / outcome.seconds:,.0f}" if outcome.seconds else "-",
        )
    return table
