"""What people register as a queue."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

import aiomanager
from tests.engines.stock.host import blocking
from tests.support.faults import KEY
from tests.support.hosts import script

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "name", ["jobs", "simple", "pipe", "lifo", "priority", "processes", "plain"]
)
async def test_queues_of_all_kinds(connect, host, name):
    """Puts, gets and their cancellation work, whatever their methods take."""
    async with connect() as manager:
        queue = manager.queue(name)
        await queue.put(1)
        assert await queue.get(timeout=5) == 1
        with pytest.raises(aiomanager.QueueEmpty):
            await queue.get(timeout=0.1)
        with anyio.move_on_after(0.1):
            await queue.get()
        await queue.put_many([1, 2])
        assert sorted([await queue.get(timeout=5), await queue.get(timeout=5)]) == [1, 2]


async def test_a_get_that_cannot_be_given_up(connect, host):
    """The error says what is missing."""
    async with connect() as manager:
        with pytest.raises(aiomanager.ConfigurationError, match="no empty"):
            await manager.queue("blind").get(timeout=5)


async def test_an_error_from_inside_is_not_taken_for_one_of_the_call(connect, host):
    """What may have had an effect is not called twice."""
    async with connect() as manager:
        queue = manager.queue("forgetful")
        with pytest.raises(TypeError, match="takes 2"):
            await queue.put(1)
        assert await queue.qsize() == 1


_ODD_SERVER = """
import queue, sys
from multiprocessing import managers

class Server(managers.Server):
    public = [*managers.Server.public, "queues"]

    def queues(self, connection):
        return eval(sys.argv[2])

class Manager(managers.BaseManager):
    pass

jobs = queue.Queue()
Manager.register("jobs", callable=lambda: jobs)
# `get_server` would make one of the standard library's class.
server = Server(Manager._registry, sys.argv[1], b"a key of the tests, long enough", "pickle")
print("ready", flush=True)
server.serve_forever()
"""


@pytest.mark.parametrize("answer", ["None", "5", "('a', 'b')", "{'a': 1, 'b': 2}", "(1, 2, 3)"])
async def test_a_server_with_a_function_that_a_host_of_ours_has_too(socket_path, answer):
    """What it answers with it is its own affair: the queue is used as that of any stock host."""
    with script(_ODD_SERVER, socket_path, answer) as process:
        assert process.stdout is not None
        assert await blocking(process.stdout.readline) == "ready\n"
        async with aiomanager.connect(socket_path, KEY) as manager:
            queue = manager.queue("jobs")
            await queue.put("item")
            assert await queue.get(timeout=5) == "item"
    Path(socket_path).unlink()  # which it leaves when it is killed
