"""A program that forks and spawns while its client is connected, and goes on using it."""

from __future__ import annotations

import gc
import multiprocessing
import os
import random
import sys
from typing import Any

import anyio
import anyio.to_thread

from tests.chaos.logs import Log
from tests.chaos.messages import SMALL, Maker, described
from tests.chaos.programs.clients import connected, run
from tests.chaos.programs.consumers import delivered, settled
from tests.chaos.programs.producers import put
from tests.chaos.programs.stock import proxy_of


def forker(log: Log, options: dict[str, Any]) -> None:
    """Start `count` children in the `way` of the options, each of which puts a message over a
    connection of its own, and talk to the host all the while over the one from before."""
    rng = random.Random(options["seed"])
    maker = Maker(options["name"], rng, SMALL)

    async def main() -> None:
        async with connected(options) as manager:
            queue = manager.queue(options["queue"])
            await put(log, queue, [maker.next()])
            for number in range(options["count"]):
                child_options = {**options, "name": f"{options['name']}.{number}"}
                pid = _START[options["way"]](child_options, log)
                await put(log, queue, [maker.next()])
                message = await queue.get()
                delivered(log, message, taken=True)
                log.write("processed", id=message["id"])
                await settled(log, message, queue.task_done)
                code = await anyio.to_thread.run_sync(lambda pid=pid: _wait(pid))  # type: ignore[misc]
                if code:
                    log.write("error", why=f"child {number} ended with {code}")
                log.write("child", code=code)
            if not isinstance(await queue.qsize(), int):
                log.write("error", why="a reply was somebody else's")

    run(options, main)


def child(options: dict[str, Any], log: Log) -> None:
    """What a child does."""
    maker = Maker(options["name"], random.Random(0), SMALL)
    message = maker.next()
    operation = log.attempt("put", **described([message]))
    proxy_of(options).put(message)
    log.write("ok", op=operation)
    # Whatever of its parent's it can destroy, it does.
    gc.collect()


def _fork(options: dict[str, Any], log: Log) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            # Numbers of operations go on from those of the parent, in a log of its own.
            child(options, Log(log.path.with_name(options["name"] + ".jsonl")))
        finally:
            sys.stderr.flush()
            os._exit(0)
    return pid


def _process(method: str) -> Any:
    def start(options: dict[str, Any], log: Log) -> Any:
        context = multiprocessing.get_context(method)
        path = str(log.path.with_name(options["name"] + ".jsonl"))
        process = context.Process(target=_child_process, args=(options, path))  # type: ignore[attr-defined]
        process.start()
        return process

    return start


def _child_process(options: dict[str, Any], path: str) -> None:
    from pathlib import Path

    child(options, Log(Path(path)))


def _wait(started: Any) -> int:
    if isinstance(started, int):
        return os.waitstatus_to_exitcode(os.waitpid(started, 0)[1])
    started.join(20)
    code = started.exitcode
    started.close()
    return int(code)


_START = {
    "os.fork": _fork,
    "fork": _process("fork"),
    "spawn": _process("spawn"),
    "forkserver": _process("forkserver"),
}
