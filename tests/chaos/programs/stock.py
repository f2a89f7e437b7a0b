"""Programs that know nothing but `BaseManager`: blocking calls on proxies.

Any supported Python runs this file, without anything installed, as a program:

    python -m tests.chaos.programs.stock PROGRAM LOG OPTIONS_AS_JSON
"""

from __future__ import annotations

import hmac
import json
import multiprocessing
import queue
import random
import sys
import threading
import time
from multiprocessing.managers import BaseManager
from pathlib import Path
from typing import Any

from tests.chaos.logs import Log
from tests.chaos.messages import SIZES, Maker, described, digest
from tests.chaos.programs.addresses import address

# What a proxy raises when its host goes: whether the call happened, it does not say.
LOST = (ConnectionError, EOFError, OSError)
SHUT_DOWN: tuple[type[Exception], ...] = (queue.Empty, getattr(queue, "ShutDown", queue.Empty))


def proxy_of(options: dict[str, Any]) -> Any:
    """A proxy of the queue of the options, as everybody makes one."""

    class Manager(BaseManager):
        pass

    Manager.register(options["queue"])
    manager = Manager(address(options), options["key"].encode())
    manager.connect()
    return getattr(manager, options["queue"])()


def producer(log: Log, options: dict[str, Any]) -> None:
    """Put `count` messages, or until killed; with `persist`, after a lost connection too."""
    sizes = options.get("sizes", SIZES)
    maker = Maker(options["name"], random.Random(options["seed"]), sizes)
    proxy = proxy_of(options)
    log.write("ready")
    count = options.get("count")
    while count is None or count > 0:
        message = maker.next()
        operation = log.attempt("put", **described([message]))
        try:
            proxy.put(message)
        except LOST as exc:
            log.write("unknown", op=operation, why=str(exc))
            if not options.get("persist"):
                return
            time.sleep(0.02)
            continue
        log.write("ok", op=operation)
        count = None if count is None else count - 1


def consumer(log: Log, options: dict[str, Any]) -> None:
    """Get, work and call `task_done`, `count` times or until the queue is shut down; with `hold`,
    keep the first message for ever."""
    proxy = proxy_of(options)
    joinable = hasattr(proxy, "task_done")
    log.write("ready")
    count = options.get("count")
    while count is None or count > 0:
        try:
            message = proxy.get()
        except SHUT_DOWN:
            return
        except LOST as exc:
            log.write("lost", why=repr(exc))
            return
        log.write("delivered", id=message["id"], sha=digest(message), attempt=None, taken=True)
        if options.get("hold"):
            threading.Event().wait()
        log.write("processed", id=message["id"])
        if joinable:
            operation = log.attempt("ack", id=message["id"])
            proxy.task_done()
            log.write("ok", op=operation)
        count = None if count is None else count - 1


def host(log: Log, options: dict[str, Any]) -> None:
    """A host with one joinable queue, until it is killed."""
    hosted: Any = multiprocessing.JoinableQueue()

    class Manager(BaseManager):
        pass

    Manager.register(options["queue"], callable=lambda: hosted)
    server = Manager(address(options), options["key"].encode()).get_server()
    log.write("listening", address=server.address)
    server.serve_forever()


def forget_md5() -> None:
    """Let this process be one of those whose cryptography does without MD5."""
    for name in ("new", "digest"):
        original = getattr(hmac, name)

        def replaced(key: bytes, message: bytes, digest: str, original: Any = original) -> Any:
            if digest == "md5":
                raise ValueError("unsupported hash type md5")
            return original(key, message, digest)

        setattr(hmac, name, replaced)


def main() -> None:
    """Run as the arguments say."""
    program, path, options = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    if options.get("without_md5"):
        forget_md5()
    log = Log(path)
    log.write("start", program=program)
    try:
        {"producer": producer, "consumer": consumer, "host": host}[program](log, options)
    except multiprocessing.AuthenticationError as exc:
        log.write("refused", why=str(exc))
    except ValueError as exc:
        # How a Python without MD5 says that a peer asks for it.
        log.write("refused", why=str(exc))
    log.write("end")


if __name__ == "__main__":
    main()
