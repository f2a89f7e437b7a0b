"""Programs as they are written with nothing but the standard library, whose calls are cancelled or
interrupted: the negative control."""

from __future__ import annotations

import asyncio
import queue
import random
import time
from pathlib import Path
from typing import Any

from tests.chaos.logs import Log
from tests.chaos.messages import SMALL, Maker, described, digest
from tests.chaos.programs.stock import LOST, proxy_of

LONGEST_PUT = 0.0006  # seconds; about twice what it takes
GET_SECONDS = 0.005


def canceller(log: Log, options: dict[str, Any]) -> None:
    """Call in threads, with a time for each call, until `count` calls took longer. A put that did
    is made again, since nobody says what became of it."""
    rng = random.Random(options["seed"])
    maker = Maker(options["name"], rng, SMALL)
    proxy = proxy_of(options)
    left = options["count"]

    async def put() -> None:
        message = maker.next()
        for _ in range(2):
            operation = log.attempt("put", **described([message]))
            # Not the same for each: on a quick machine none would take longer.
            seconds = rng.uniform(0, LONGEST_PUT)
            try:
                await asyncio.wait_for(asyncio.to_thread(proxy.put, message), seconds)
            except TimeoutError:
                log.write("unknown", op=operation)
                nonlocal left
                left -= 1
            else:
                log.write("ok", op=operation)
                return

    async def get() -> None:
        try:
            message = await asyncio.wait_for(asyncio.to_thread(proxy.get), GET_SECONDS)
        except TimeoutError:
            nonlocal left
            left -= 1
        else:
            _processed(log, message)

    async def main() -> None:
        while left > 0:
            # Then only gets, which wait: what is put later is for those who have left.
            await (put() if left > options["count"] / 2 else get())

    # Neither its pool of threads nor the interpreter would come to an end.
    asyncio.new_event_loop().run_until_complete(main())


def interrupted(log: Log, options: dict[str, Any]) -> None:
    """Call until SIGINT, and go on with the same proxy; `count` times, or until the file `enough`
    is there."""
    rng = random.Random(options["seed"])
    maker = Maker(options["name"], rng, SMALL)
    proxy = proxy_of(options)
    for _ in range(options["count"]):
        if Path(options["enough"]).exists():
            return
        try:
            log.write("calling")
            while True:
                _call(log, proxy, maker, rng)
        except KeyboardInterrupt:
            log.write("interrupted")


def _call(log: Log, proxy: Any, maker: Maker, rng: random.Random) -> None:
    try:
        match rng.choice(("put", "get", "qsize")):
            case "put":
                message = maker.next()
                operation = log.attempt("put", **described([message]))
                if proxy.put(message) is not None:
                    log.write("error", why="a reply was somebody else's")
                log.write("ok", op=operation)
            case "get":
                _processed(log, proxy.get(True, 0.02))
            case "qsize":
                if not isinstance(proxy.qsize(), int):
                    log.write("error", why="a reply was somebody else's")
    except queue.Empty:
        pass
    except LOST as exc:
        log.write("error", why=repr(exc))
        time.sleep(0.01)


def _processed(log: Log, message: Any) -> None:
    if not isinstance(message, dict):
        log.write("error", why="a reply was somebody else's")
        return
    log.write("delivered", id=message["id"], sha=digest(message), attempt=None, taken=True)
    log.write("processed", id=message["id"])
