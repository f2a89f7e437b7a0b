"""The end of an event loop, at the instants that are the hardest to hit: what is in nobody's hands
goes back, and the process ends."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts import KEY, script, serving, stock_queue
from tests.waiting import wait_until_sync

pytestmark = pytest.mark.every_python

# What a program does with `queue`, a wrapped one, and how it ends.
PROGRAM = """
    import asyncio, atexit, gc, sys, threading
    from multiprocessing.managers import BaseManager
    import aiomanager
    from aiomanager import _inbox, _local

    class Client(BaseManager): pass
    Client.register("jobs")
    client = Client(sys.argv[1], {key!r})
    client.connect()
    queue = aiomanager.wrap(client.jobs())
    loop = asyncio.new_event_loop()

    def stopping(method):
        # The loop runs no turn after the one in which this is called.
        def stop(*args):
            method(*args)
            loop.stop()
        return stop
"""

DEALT = """
    # Who is given the item does not run again.
    _inbox.Inbox._deal = stopping(_inbox.Inbox._deal)
    getting = loop.create_task(queue.get())
    loop.run_forever()
"""

ON_ITS_WAY_BACK = """
    # Who is given the item has left, and it does not come to sending it back.
    hand_back = _inbox.Inbox.hand_back
    def hand_back_late(*args):
        slot = hand_back(*args)
        loop.stop()
        return slot
    _inbox.Inbox.hand_back = hand_back_late
    deal = _inbox.Inbox._deal
    def deal_and_cancel(*args):
        deal(*args)
        getting.cancel()
    _inbox.Inbox._deal = deal_and_cancel
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
def host(request: pytest.FixtureRequest, socket_path: str) -> Iterator[str]:
    """The address of a host with a queue of jobs."""
    if request.param == "ours":
        with serving(socket_path):
            yield socket_path
        return
    code = """
        import queue, sys
        from multiprocessing.managers import BaseManager
        jobs = queue.Queue()
        class Host(BaseManager): pass
        Host.register("jobs", callable=lambda: jobs)
        server = Host(sys.argv[1], {key!r}).get_server()
        print("listening", flush=True)
        server.serve_forever()
    """
    with script(code.format(key=KEY), socket_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield socket_path
    Path(socket_path).unlink()


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("moment", [DEALT, ON_ITS_WAY_BACK], ids=["dealt", "on its way back"])
def test_what_is_in_nobodys_hands_goes_back(host, moment, end):
    """At once, whether or not anything of the event loop runs again."""
    queue = stock_queue(host)
    queue.put("item")
    queue.put("next")
    with script(PROGRAM.format(key=KEY) + moment + ENDS[end], host) as process:
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    wait_until_sync(lambda: queue.qsize() == 2, description="it is back")
    assert {queue.get(timeout=1), queue.get(timeout=1)} == {"item", "next"}


def test_a_thread_that_was_started_when_the_loop_was_over_keeps_no_process():
    """In a loop that is closed with tasks pending, whose first task had ended before."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        code = """
            import asyncio, sys
            from aiomanager._addresses import parse
            from aiomanager._threads import ThreadLane

            lane = ThreadLane(parse(sys.argv[1]), b"a key that nobody asks for", 0.5)

            async def main(turns):
                kept.append(asyncio.ensure_future(lane.open(None)))
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
