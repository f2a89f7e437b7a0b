"""The end of an event loop, at the instants that are the hardest to hit: what is in nobody's hands
goes back, and the process ends."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.engines.stock.host import StockHost
from tests.support.faults import RestartableHost
from tests.support.hosts import KEY, script, stock_queue
from tests.support.waiting import wait_until_sync

pytestmark = pytest.mark.every_python

# What a program does with `queue`, a wrapped one, and how it ends.
PROGRAM = """
    import asyncio, sys
    from multiprocessing.managers import BaseManager
    import aiomanager
    from aiomanager._queue.fetcher import Fetcher

    class Client(BaseManager): pass
    Client.register("jobs")
    client = Client(sys.argv[1], {key!r})
    client.connect()
    queue = aiomanager.wrap(client.jobs())
    loop = asyncio.new_event_loop()
"""

DEALT = """
    # Who is given the item does not run again: this is the loop's last turn.
    deal = Fetcher._deal
    def deal_late(*args):
        deal(*args)
        loop.stop()
    Fetcher._deal = deal_late
    getting = loop.create_task(queue.get())
    loop.run_forever()
"""

ON_ITS_WAY_BACK = """
    # Who is given the item has left, and it does not come to sending it back.
    hand_back = Fetcher.hand_back
    def hand_back_late(*args):
        future = hand_back(*args)
        loop.stop()
        return future
    Fetcher.hand_back = hand_back_late
    deal = Fetcher._deal
    def deal_and_cancel(*args):
        deal(*args)
        getting.cancel()
    Fetcher._deal = deal_and_cancel
    getting = loop.create_task(queue.get())
    loop.run_forever()
"""

ENDS = {
    "loop closed": """
    loop.close()
    """,
    "loop left": """
    """,
    "tasks cancelled": """
    getting.cancel()
    loop.run_until_complete(asyncio.wait([getting]))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    """,
}


@pytest.fixture(params=["ours", "stock"])
def host(request: pytest.FixtureRequest, socket_path: str) -> Iterator[RestartableHost]:
    """A host with a queue of jobs."""
    kind = RestartableHost if request.param == "ours" else StockHost
    with kind(socket_path) as running:
        yield running


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("moment", [DEALT, ON_ITS_WAY_BACK], ids=["dealt", "on its way back"])
def test_what_is_in_nobodys_hands_goes_back(host, moment, end):
    """At once, whether or not anything of the event loop runs again."""
    queue = stock_queue(host.path)
    queue.put("item")
    queue.put("next")
    with script(PROGRAM.format(key=KEY) + moment + ENDS[end], host.path) as process:
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    wait_until_sync(lambda: queue.qsize() == 2, description="it is back")
    items = [queue.get(timeout=1), queue.get(timeout=1)]
    assert sorted(items) == ["item", "next"]
    assert items[0] == "item" or isinstance(host, StockHost), "it is at its place"


def test_a_thread_that_was_started_when_the_loop_was_over_keeps_no_process():
    """In a loop that is closed with tasks pending, whose first task had ended before."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        code = """
            import asyncio, sys
            from aiomanager._ground.addresses import parse
            from aiomanager._transport.thread import ThreadTransport

            transport = ThreadTransport(parse(sys.argv[1]), b"a key that nobody asks for", 0.5)

            async def main(turns):
                kept.append(asyncio.ensure_future(transport.open(None)))
                for _ in range(turns):
                    await asyncio.sleep(0)

            kept = []
            # It asks for a thread, and gets it in one of the next turns.
            for turns in range(8):
                loop = asyncio.new_event_loop()
                loop.run_until_complete(main(turns))
                loop.close()
        """
        with script(code, f"tcp://127.0.0.1:{silent.getsockname()[1]}") as process:
            _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
