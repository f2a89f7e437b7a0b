"""A program that holds an item for nobody, and ends in some way short of a kill.

    python -m tests.differential.ending OPTIONS_AS_JSON

`left` is its line once nobody waits for the item any more; then it ends at the next line of its
input, or at Ctrl-C.
"""

from __future__ import annotations

import asyncio
import gc
import json
import multiprocessing
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from multiprocessing import process
from multiprocessing.managers import BaseManager
from typing import Any

import anyio
import anyio.to_thread

import aiomanager

Options = dict[str, Any]

_kept: list[Any] = []  # what a program has that does not tidy up


# -- how the item comes to be held -----------------------------------------------------------------
async def cancelled(queue: Any) -> None:
    """A get is left, and its answer is still under way."""
    with anyio.move_on_after(0.1):
        await queue.get()


async def timed_out(queue: Any) -> None:
    """The same, by asyncio's `wait_for`."""
    with suppress(TimeoutError):
        await asyncio.wait_for(queue.get(), 0.1)


async def broken_off(queue: Any) -> None:
    """A loop over the queue is left by `break`, before its item was done."""
    await queue.put("item")
    async for _ in queue:
        break


async def in_the_body(queue: Any) -> None:
    """A loop over the queue stays where it is."""
    await queue.put("item")
    iteration = aiter(queue)
    await anext(iteration)
    _kept.append(iteration)


async def delivered(queue: Any) -> None:
    """A delivery is neither acked nor nacked."""
    await queue.put("item")
    _kept.append(await queue.get_deliveries(1))


async def pending(queue: Any) -> None:
    """A task waits to the end for an item, which comes after it."""
    _kept.append(asyncio.ensure_future(queue.get()))
    await asyncio.sleep(0.1)


HOLDS: dict[str, Callable[[Any], Awaitable[None]]] = {
    function.__name__: function
    for function in (cancelled, timed_out, broken_off, in_the_body, delivered, pending)
}
# Those that put the item themselves.
PUT = frozenset({"broken_off", "in_the_body", "delivered"})
# That for which it comes when the program has ended.
PUT_LATE = frozenset({"pending"})
ASYNCIO_ONLY = frozenset({"timed_out", "pending", "loop_closed"})


# -- how the program ends ------------------------------------------------------------------------
def _proxy(options: Options) -> Any:
    class Client(BaseManager):
        pass

    Client.register(options["name"])
    client: Any = Client(options["address"], process.current_process().authkey)
    client.connect()
    return getattr(client, options["name"])()


async def _hold(options: Options, proxy: Any) -> None:
    """Hold the item, say so, and wait for the end."""
    async with AsyncExitStack() as stack:
        if options["by"] == "wrap":
            queue = aiomanager.wrap(proxy or _proxy(options))
        else:
            key = process.current_process().authkey
            manager = aiomanager.connect(options["address"], key)
            if options["way"] == "loop_closed":
                _kept.append(manager)
                await manager.__aenter__()
            else:
                await stack.enter_async_context(manager)
            queue = manager.queue(options["name"])
        _kept.append(queue)
        await HOLDS[options["hold"]](queue)
        _say_left()
        if options["way"] == "interrupted":
            await anyio.sleep_forever()
        await anyio.to_thread.run_sync(sys.stdin.readline)
        _end(options)


def _hold_by_the_standard_library(options: Options, proxy: Any) -> None:
    """The same with a get that times out, as nothing else can be given up there."""
    import queue

    with suppress(queue.Empty):
        (proxy or _proxy(options)).get(True, 0.1)
    _say_left()
    if options["way"] == "interrupted":
        threading.Event().wait()
    sys.stdin.readline()
    _end(options)


def _say_left() -> None:
    sys.stdout.write("left\n")
    sys.stdout.flush()


def _end(options: Options) -> None:
    if options["way"] == "raised":
        raise ValueError("as it was asked to")
    if options["way"] == "exited":
        sys.exit(3)


def _run(options: Options, proxy: Any = None) -> None:
    if options["face"] == "standard":
        _hold_by_the_standard_library(options, proxy)
    elif options["way"] == "loop_closed":
        loop = asyncio.new_event_loop()
        loop.run_until_complete(_hold(options, proxy))
        loop.close()
    else:
        anyio.run(partial(_hold, options, proxy), backend=options["face"])


def _in_a_thread(options: Options) -> None:
    """A daemon, which is there to the last, and whose loop nobody ends."""
    over = threading.Event()

    async def stay() -> None:
        await _hold(options, None)
        over.set()
        await anyio.sleep_forever()

    arguments = {"backend": options["face"]}
    threading.Thread(target=anyio.run, args=(stay,), kwargs=arguments, daemon=True).start()
    over.wait()


def _in_a_process(options: Options, method: str) -> None:
    """A child, which was given the queue's proxy."""
    context: Any = multiprocessing.get_context(method)
    reader, writer = context.Pipe(duplex=False)
    # Children have no input of their own.
    child = context.Process(target=_child, args=(options, _proxy(options), reader))
    child.start()
    writer.send(sys.stdin.readline())
    child.join()
    sys.exit(child.exitcode)


def _child(options: Options, proxy: Any, reader: Any) -> None:
    class Input:
        readline = reader.recv

    sys.stdin = Input()
    _run(options, proxy)


def main(options: Options) -> None:
    """Run the program."""
    process.current_process().authkey = bytes.fromhex(options["key"])
    way = options["way"]
    if way == "thread_left":
        _in_a_thread(options)
    elif way.startswith("child"):
        _in_a_process(options, way.rpartition("_")[2])
    else:
        _run(options)
    gc.freeze()  # what is kept stays to the end


WAYS = {
    "returned": 0,
    "raised": 1,
    "exited": 3,
    "interrupted": None,
    "loop_closed": 0,
    "thread_left": 0,
    "child_fork": 0,
    "child_spawn": 0,
}

if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
