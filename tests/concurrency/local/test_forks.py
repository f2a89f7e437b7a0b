"""Forked children: they have no part in what is their parent's, and connections of their own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.support.faults import RestartableHost
from tests.support.hosts import KEY
from tests.support.programs import Program

pytestmark = [
    pytest.mark.every_python,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here"),
]

START = f"""
import asyncio, gc, multiprocessing, os, sys, threading, warnings
from multiprocessing.managers import BaseManager
import aiomanager

warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
KEY = {KEY!r}
path = sys.argv[1]
context = multiprocessing.get_context("fork")

class Client(BaseManager):
    pass

Client.register("jobs")

def proxy():
    client = Client(path, KEY)
    client.connect()
    return client.jobs()

def in_children(count, work, *args):
    children = [context.Process(target=work, args=(number, *args)) for number in range(count)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * count, children

async def in_children_meanwhile(count, work):
    # Not in a thread of an executor: a child that is forked there fails at its end, as it would
    # wait for itself.
    thread = threading.Thread(target=in_children, args=(count, work))
    thread.start()
    while thread.is_alive():
        await asyncio.sleep(0.01)
"""


def run(tmp_path: Path, host: RestartableHost, code: str, *args: str) -> list[str]:
    """What a program writes that ends well."""
    path = tmp_path / "program.py"
    path.write_text(START + code)
    with Program(path, host.path, *args, cwd=tmp_path, python=sys.executable) as program:
        assert program.end() == 0, program.text
        return program.output


@pytest.mark.parametrize("used", ["unused", "used"])
def test_children_of_a_wrapped_queue_are_clients_of_their_own(host, tmp_path, used):
    """All puts of all children arrive, and so do those of the parent after them."""
    output = run(tmp_path, host, f"""
queue = aiomanager.wrap(proxy())
if {used == "used"}:
    async def use():
        await queue.put("first")
        assert await queue.get() == "first"
    asyncio.run(use())

def child(number):
    async def put():
        for item in range(20):
            await queue.put((number, item))
    asyncio.run(put())

in_children(3, child)

async def rest():
    await queue.put("last")
    items = await queue.get_many(100)
    assert items.pop() == "last"
    print(sorted(items) == [(number, item) for number in range(3) for item in range(20)])

asyncio.run(rest())
""")  # fmt: skip
    assert output == ["True"]


def test_two_hundred_forks_under_load_change_nothing_for_the_parent(host, tmp_path, transport):
    """Its puts, its waits and its leases stand, whether a child does nothing, tries to use what
    is the parent's, or leaves by `os._exit`; no connection is made again."""
    output = run(tmp_path, host, f"""
async def main():
    lost = []
    async with aiomanager.connect(
        path, KEY, transport={transport!r}, on_reconnect=lambda: lost.append("connection")
    ) as manager:
        queue = manager.queue("jobs")
        wrapped = aiomanager.wrap(proxy())
        await queue.put("held")
        held = (await queue.get_deliveries(1))[0]
        ends = asyncio.Event()
        acknowledged = []

        async def put():
            while not ends.is_set():
                await queue.put(len(acknowledged))
                acknowledged.append(len(acknowledged))

        got = []

        async def get(number):
            while len(got) < 2000 or not ends.is_set():
                got.append(await queue.get(timeout=5))
                await queue.task_done()

        def child(number):
            if number % 3 == 0:
                return
            async def use():
                uses = queue.put, queue.get, lambda *_: held.ack(), lambda *_: manager.aclose()
                for use in uses:
                    try:
                        await use("a child's")
                    except aiomanager.ConfigurationError:
                        pass
                await wrapped.qsize()
            asyncio.run(use())
            if number % 3 == 1:
                os._exit(0)

        def fork():
            for _ in range(20):
                in_children(10, child)
            ends_soon()

        def ends_soon():
            loop.call_soon_threadsafe(ends.set)

        loop = asyncio.get_running_loop()
        thread = threading.Thread(target=fork)
        thread.start()
        putting = asyncio.create_task(put())
        getting = [asyncio.create_task(get(number)) for number in range(3)]
        await putting
        await asyncio.to_thread(thread.join)
        while len(got) < len(acknowledged):
            await asyncio.sleep(0.01)
        for task in getting:
            task.cancel()
        await asyncio.wait(getting)
        await held.ack()
        print(sorted(got) == acknowledged, lost, await queue.qsize())

asyncio.run(main())
""")  # fmt: skip
    assert output == ["True [] 0"]


def test_what_is_a_managers_says_where_it_belongs(host, tmp_path):
    """In a forked child each use raises at once, and says how to connect there; what the child
    connects itself works."""
    output = run(tmp_path, host, """
async def main():
    async with aiomanager.connect(path, KEY) as manager:
        queue = manager.queue("jobs")
        await queue.put("item")

        def child(number):
            async def use():
                for call in (
                    lambda: queue.put(1),
                    queue.get,
                    queue.get_nowait,
                    queue.qsize,
                    lambda: anext(aiter(queue)),
                    lambda: manager.proxy("jobs"),
                    manager.shutdown,
                ):
                    try:
                        await call()
                    except aiomanager.ConfigurationError as exc:
                        assert f"process {os.getppid()}" in str(exc), exc
                        assert f"aiomanager.connect('unix://{path}', authkey)" in str(exc), exc
                    else:
                        raise AssertionError(call)
                try:
                    manager.queue("jobs")
                except aiomanager.ConfigurationError:
                    pass
                async with aiomanager.connect(path, KEY) as own:
                    await own.queue("jobs").put("a child's")
            asyncio.run(use())

        await in_children_meanwhile(1, child)
        print(await queue.get_many(2))

asyncio.run(main())
""")  # fmt: skip
    assert output == ["['item', \"a child's\"]"]


def test_a_child_keeps_no_connection_of_its_parents_open(host, tmp_path):
    """The parent is killed while its child lives on: what it had leased is handed out again."""
    output = run(tmp_path, host, """
def parent(number, writer):
    async def main():
        async with aiomanager.connect(path, KEY) as manager:
            queue = manager.queue("jobs")
            await queue.put("item")
            delivery = (await queue.get_deliveries(1))[0]
            if not os.fork():
                writer.send(os.getpid())
                import time
                time.sleep(30)
            writer.recv()  # until it is killed
    asyncio.run(main())

reader, writer = multiprocessing.Pipe()
process = context.Process(target=parent, args=(0, writer))
process.start()
child = reader.recv()
process.kill()
process.join()

async def main():
    async with aiomanager.connect(path, KEY) as manager:
        delivery = await anext(manager.queue("jobs").deliveries())
        print(delivery.item, delivery.attempt)
        await delivery.ack()

try:
    asyncio.run(asyncio.wait_for(main(), 10))
finally:
    os.kill(child, 9)
""")  # fmt: skip
    assert output == ["item 2"]
