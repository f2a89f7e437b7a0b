"""A busy parent: it puts, waits and works on items all the while that its children come and go."""

from __future__ import annotations

import multiprocessing
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

import aiomanager
from tests.chaos.logs import Log
from tests.chaos.messages import SMALL, Maker
from tests.chaos.programs.clients import connected, run
from tests.chaos.programs.consumers import delivered, settled
from tests.chaos.programs.producers import put
from tests.chaos.programs.stock import proxy_of

# What a child does, and how it ends.
DEEDS = ("nothing", "nothing", "puts", "is refused")
ENDS = ("returns", "exits", "raises", "os._exit")
EXIT_CODES = {"returns": 0, "exits": 3, "raises": 1, "os._exit": 0}

Options = dict[str, Any]


class Parent:
    """The parent, and what it has."""

    def __init__(self, log: Log, options: Options, manager: Any, wrapped: Any) -> None:
        self.log = log
        self.options = options
        self.rng = random.Random(options["seed"])
        self.manager = manager
        self.named = manager.queue(options["queue"])
        self.wrapped = wrapped
        self.over = False

    async def puts(self, name: str, queue: Any) -> None:
        """Put as long as children come, from a task of its own."""
        maker = Maker(f"{self.options['name']}-{name}", self.rng, SMALL)
        while not self.over:
            with anyio.fail_after(20):
                await put(self.log, queue, [maker.next()])
            await anyio.sleep(self.rng.uniform(0, 0.004))

    async def works(self) -> None:
        """Work on items. None of them is ever handed out again: no lease is lost."""
        async for delivery in self.named.deliveries():
            message = delivery.item
            delivered(self.log, message, attempt=delivery.attempt)
            if delivery.attempt != 1:
                self.log.write("error", why=f"{message['id']} came again: a lease was lost")
            await anyio.sleep(self.rng.uniform(0, 0.004))
            self.log.write("processed", id=message["id"])
            await settled(self.log, message, delivery.ack)

    async def forks(self) -> None:
        """Start children at random instants, and see how each ends."""
        for number in range(self.options["count"]):
            await anyio.sleep(self.rng.uniform(0, 0.01))
            name = f"{self.options['name']}.{number}"
            deed, end = self.rng.choice(DEEDS), self.rng.choice(ENDS)
            code = await anyio.to_thread.run_sync(self._fork, name, deed, end)
            if code != EXIT_CODES[end]:
                self.log.write("error", why=f"a child that {deed} and {end} ended with {code}")
            self.log.write("child", code=code)
        self.over = True

    def _fork(self, name: str, deed: str, end: str) -> int | None:
        context = multiprocessing.get_context("fork")
        process = context.Process(target=_child, args=(self, name, deed, end))
        process.start()
        process.join(10)
        code = process.exitcode
        if code is None:
            process.kill()
            process.join()
        process.close()
        return code


def parent(log: Log, options: Options) -> None:
    """Go on until `count` children have ended."""
    proxy = proxy_of(options)

    async def main() -> None:
        async with connected(options) as manager:
            this = Parent(log, options, manager, aiomanager.wrap(proxy))
            log.write("ready")
            async with anyio.create_task_group() as group:
                group.start_soon(this.works)
                async with anyio.create_task_group() as putting:
                    putting.start_soon(this.puts, "named", this.named)
                    putting.start_soon(this.puts, "wrapped", this.wrapped)
                    putting.start_soon(this.forks)
                while (await this.named.statistics()).unfinished:
                    await anyio.sleep(0.005)
                group.cancel_scope.cancel()

    run(options, main)


def _child(this: Parent, name: str, deed: str, end: str) -> None:
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 - what it raises is no news
    log = Log(Path(this.log.path).with_name(f"{name}.jsonl"))
    deeds: dict[str, Callable[[], None]] = {
        "nothing": lambda: None,
        "puts": lambda: _puts(this, log, name),
        "is refused": lambda: _is_refused(this, log),
    }
    deeds[deed]()
    if end == "os._exit":
        os._exit(0)
    if end == "exits":
        sys.exit(3)
    if end == "raises":
        raise ValueError("as it was asked to")


def _puts(this: Parent, log: Log, name: str) -> None:
    """What was wrapped works here, over a connection of its own."""
    maker = Maker(name, random.Random(0), SMALL)

    async def main() -> None:
        with anyio.fail_after(8):
            await put(log, this.wrapped, [maker.next()])

    run(this.options, main)


def _is_refused(this: Parent, log: Log) -> None:
    """What is the parent's manager's is not to be used, which is said at once."""

    async def main() -> None:
        try:
            with anyio.fail_after(8):
                await this.named.qsize()
        except aiomanager.ConfigurationError:
            return
        log.write("error", why="a child uses its parent's manager")

    try:
        run(this.options, main)
    except Exception as exc:
        log.write("error", why=f"instead of being refused: {type(exc).__name__}: {exc}"[:200])
