"""A program that knows nothing but `BaseManager`, as anybody writes one.

Any Python from 3.6 on runs it, without anything installed:

    python stock_peer.py PROGRAM ADDRESS [QUEUE_KIND]

The address is a path; the key is in `$AIOMANAGER_AUTHKEY`.
"""

import multiprocessing
import os
import queue
import sys
from multiprocessing.managers import BaseManager
from typing import Any

KEY = os.environ.get("AIOMANAGER_AUTHKEY", "").encode()


class Manager(BaseManager):
    """Has two queues."""


def host(address: str, kind: str) -> None:
    """Host two queues until killed."""
    make: Any = {"queue": queue.Queue, "joinable": multiprocessing.JoinableQueue}[kind]
    queues = {"jobs": make(), "results": make()}
    Manager.register("jobs", callable=lambda: queues["jobs"])
    Manager.register("results", callable=lambda: queues["results"])
    server = Manager(address, KEY).get_server()
    say("listening")
    server.serve_forever()


def client(address: str) -> None:
    """Answer each item of `jobs` in `results` until the sentinel, with the name of its class and
    the item itself; say how the next get ends."""
    Manager.register("jobs")
    Manager.register("results")
    manager: Any = Manager(address, KEY)
    manager.connect()
    jobs, results = manager.jobs(), manager.results()
    for item in iter(jobs.get, None):
        results.put((type(item).__name__, item))
        jobs.task_done()
    jobs.task_done()
    jobs.join()
    say("joined")
    try:
        jobs.get()
    except Exception as exc:
        say(f"{type(exc).__module__}.{type(exc).__name__}: {exc}")


def say(words: str) -> None:
    """Write a line that is read at once."""
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    program, *arguments = sys.argv[1:]
    if program == "host":
        host(*arguments)
    else:
        client(*arguments)
