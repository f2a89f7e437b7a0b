"""F21 and F16: hosts that run out of descriptors, threads or memory; readers that do not read."""

from __future__ import annotations

import contextlib
import pickle
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from tests.chaos import raw
from tests.chaos.checker import Rules
from tests.chaos.faults import Fault
from tests.chaos.messages import described
from tests.chaos.stage import KEY, QUEUE, Stage
from tests.chaos.waits import until

DESCRIPTORS = 64
MEMORY = 150 * 1024**2
SERVED_SECONDS = 5.0  # how long it really took is in the notes
IDLE_SHARE = 0.2  # of one processor, at most, for a host that can accept nobody


def no_descriptors(stage: Stage, trials: int) -> None:
    """Strangers take every descriptor: those who are connected are served, the processor is left
    alone, and newcomers are served as soon as the strangers are gone."""
    stage.consumer("get" if stage.hosting == "ours" else "stock").until("ready")
    stage.put()  # over a connection that is there before
    assert stage.host is not None
    for _ in stage.rounds(trials):
        with contextlib.ExitStack() as strangers:
            for _ in range(DESCRIPTORS + 10):
                strangers.enter_context(raw.connect(stage.address))
            _without_descriptors(stage, stage.host.process)
        with _served(stage), contextlib.closing(raw.StockQueue(stage.address, KEY, QUEUE)) as queue:
            queue.call("qsize")


def _without_descriptors(stage: Stage, host: psutil.Process) -> None:
    # The host cuts the oldest strangers to serve others, so that it is never quite at its limit.
    until(lambda: host.num_fds() >= DESCRIPTORS - 8, "they are used up", 5)
    before, began = host.cpu_times(), time.monotonic()
    for _ in range(10):
        with _served(stage):
            stage.put()
        stage.sleep(0.04)
    after, seconds = host.cpu_times(), time.monotonic() - began
    busy = (after.user + after.system - before.user - before.system) / seconds
    stage.check(busy < IDLE_SHARE, f"a host without descriptors was {busy:.0%} busy")


def no_threads(stage: Stage, trials: int) -> None:
    """No thread can be started: queues go on, a call that needs one gets an error, and is served
    when there are threads again."""
    stage.consumer("get" if stage.hosting == "ours" else "stock").until("ready")
    stage.put()
    file = Path(stage.host_settings["no_threads"])
    for _ in stage.rounds(trials):
        file.touch()
        with raw.RawClient(stage.address, KEY, timeout=5.0) as client:
            for _ in range(3):
                with contextlib.suppress(RuntimeError):
                    client.stock(None, "number_of_objects")
                    stage.failed("a call without a thread was answered")
            with _served(stage):
                stage.put()
            file.unlink()
            stage.check(isinstance(client.stock(None, "number_of_objects"), int), "no recovery")


def no_memory(stage: Stage, trials: int) -> None:
    """A message does not fit into the host's memory: its sender alone suffers."""
    stage.consumer("get").until("ready")
    for _ in stage.rounds(trials):
        with raw.RawClient(stage.address, KEY, "glutton", timeout=5.0) as client:
            try:
                _announce_and_send(client.sock, 3 * MEMORY)
                client.receive()
            except TimeoutError:
                stage.failed("nobody said that the message does not fit")
            except (OSError, EOFError):
                pass  # as it should be
            else:
                stage.failed("a message that does not fit was answered")
        with _served(stage):
            stage.put()


def _announce_and_send(sock: socket.socket, size: int) -> None:
    part = bytes(1024**2)
    sock.sendall(b"\xff\xff\xff\xff" + size.to_bytes(8, "big"))
    for _ in range(size // len(part)):
        sock.sendall(part)


def slow_readers(stage: Stage, trials: int) -> None:
    """Clients ask for large messages and do not read them: the others are served all the while,
    and the messages go to somebody else when those clients end."""
    size, readers = stage.host_settings["size"], stage.host_settings["readers"]
    assert stage.host is not None
    consumer = stage.consumer("get", queue="small")
    consumer.until("ready")
    putter = raw.StockQueue(stage.address, KEY, "small")
    filler = raw.RawClient(stage.address, KEY, "filler", timeout=60)
    numbers = iter(range(1, 1_000_000))
    for _ in stage.rounds(trials):
        slow: list[raw.RawClient] = []
        for _ in range(readers):
            message = stage.message(size)
            operation = stage.attempt("put", **described([message]))
            filler.own(
                QUEUE, "put", [pickle.dumps(message, 5)], None, channel="c", number=next(numbers)
            )
            stage.note("ok", op=operation)
        rss = stage.host.process.memory_info().rss
        for number in range(readers):
            client = raw.RawClient(stage.address, KEY, f"slow{stage.trials}-{number}")
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.ask(QUEUE, "receive", 1, None)
            client.sock.recv(1024)
            slow.append(client)
        for _ in range(20):
            with _served(stage):
                putter.call("put", _traced(stage))
        grown = (stage.host.process.memory_info().rss - rss) / readers / 1e6
        stage.notes["mb_per_reader"] = round(max(grown, stage.notes.get("mb_per_reader", 0)), 1)
        stage.check(grown * 1e6 < size / 2, f"{grown:.0f} MB more for each slow reader")
        for client in slow:
            client.close()
        drain = stage.consumer("deliveries")
        stage.until_statistics(lambda counts: not counts["unfinished"], "they are read", 60)
        stage.end(drain)
    putter.close()
    filler.close()
    with raw.RawClient(stage.address, KEY, "closer") as closer:
        closer.own("small", "shutdown")
    stage.see_end(consumer)


def _traced(stage: Stage) -> dict[str, Any]:
    message = stage.message(100)
    stage.note("ok", op=stage.attempt("put", **described([message])))
    return message


@contextlib.contextmanager
def _served(stage: Stage, seconds: float = SERVED_SECONDS) -> Iterator[None]:
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    stage.notes["slowest_ms"] = round(max(took * 1000, stage.notes.get("slowest_ms", 0)))
    stage.check(took < seconds, f"a bystander waited for {took:.2f} s")


F21_DESCRIPTORS = Fault(
    code="F21a",
    title="host out of descriptors",
    short=5,
    long=100,
    at_once=20,
    control=1,
    inject=no_descriptors,
    settings={"descriptors": DESCRIPTORS},
    rules=Rules(exactly_once=True),
)
F21_THREADS = Fault(
    code="F21b",
    title="host out of threads (simulated)",
    short=5,
    long=100,
    at_once=20,
    control=1,
    inject=no_threads,
    settings={"no_threads": "{folder}/no-threads"},
    rules=Rules(exactly_once=True),
)
F21_MEMORY = Fault(
    code="F21c",
    title="host out of memory for a message",
    short=5,
    long=100,
    at_once=20,
    inject=no_memory,
    settings={"memory": MEMORY},
    rules=Rules(exactly_once=True),
)
F16 = Fault(
    code="F16",
    title="three slow readers of 10 MB",
    short=3,
    long=100,
    at_once=10,
    seconds=150.0,
    inject=slow_readers,
    queues={QUEUE: 0, "small": 0},
    settings={"size": 10_000_000, "readers": 3},
)
F16_MANY = Fault(
    code="F16b",
    title="thirty slow readers of 100 MB",
    short=0,
    long=3,
    at_once=1,
    seconds=300.0,
    inject=slow_readers,
    queues={QUEUE: 0, "small": 0},
    settings={"size": 100_000_000, "readers": 30},
)
ALL = (F16, F16_MANY, F21_DESCRIPTORS, F21_THREADS, F21_MEMORY)
