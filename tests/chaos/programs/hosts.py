"""The hosts: ours, and the standard library's as the negative control."""

from __future__ import annotations

import multiprocessing
import queue
import threading
from multiprocessing.managers import BaseManager, DictProxy
from pathlib import Path
from typing import Any

import aiomanager
from tests.chaos.logs import Log
from tests.chaos.programs.addresses import address
from tests.chaos.programs.stock import forget_md5


def host(log: Log, options: dict[str, Any]) -> None:
    """A `QueueManager` in this process, with the `settings` of the options, until SIGTERM.

    It may have to do with little: `descriptors`, `memory` in bytes beside what it has, and no
    new threads while the file `no_threads` is there.
    """
    settings = options["settings"]
    limits = _taken(settings)

    class Manager(aiomanager.QueueManager):
        pass

    Manager.register("numbers", dict, DictProxy)
    if options.get("without_md5"):
        forget_md5()
    manager = Manager(address(options), options["key"], queues=options["queues"], **settings)
    server = manager.get_server()
    _limit(**limits)
    log.write("listening", address=server.address)
    server.serve_forever()


def _taken(settings: dict[str, Any]) -> dict[str, Any]:
    """Take what is not the manager's out of the settings; return the limits among it."""
    for name in ("size", "readers"):  # of the fault's own
        settings.pop(name, None)
    return {name: settings.pop(name, None) for name in ("descriptors", "memory", "no_threads")}


def _limit(descriptors: int | None, memory: int | None, no_threads: str | None) -> None:
    import resource

    if descriptors is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    if memory is not None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    if no_threads is not None:
        start = threading.Thread.start

        def start_if_allowed(thread: threading.Thread) -> None:
            # What the system's limit looks like from here; it does not bind the superuser.
            if Path(no_threads).exists():
                raise RuntimeError("can't start new thread")
            start(thread)

        setattr(threading.Thread, "start", start_if_allowed)  # noqa: B010 - a patch, said openly


def stock_host(log: Log, options: dict[str, Any]) -> None:
    """A `BaseManager` with queues of the `flavour` of the options: `queue` or `joinable`. It knows
    none of the settings but the limits."""

    class Manager(BaseManager):
        pass

    make = queue.Queue if options["flavour"] == "queue" else multiprocessing.JoinableQueue
    for name, maxsize in options["queues"].items():
        hosted: Any = make(maxsize)
        Manager.register(name, callable=lambda hosted=hosted: hosted)
    server = Manager(address(options), options["key"].encode()).get_server()
    _limit(**_taken(options["settings"]))
    log.write("listening", address=server.address)
    server.serve_forever()
