"""F26: programs that give up gets at any instant, and end at any instant, by every way that a
program ends short of a kill. What they hold for nobody is there for others within a second."""

from __future__ import annotations

import contextlib
import json
import queue
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from tests.chaos.checker import Rules
from tests.chaos.faults import Fault
from tests.chaos.logs import Record, read
from tests.chaos.messages import digest
from tests.chaos.processes import ROOT
from tests.chaos.programs.endings import EXIT_CODES, WAYS
from tests.chaos.raw import StockQueue
from tests.chaos.stage import KEY, QUEUE, TRANSPORTS, Stage
from tests.chaos.waits import Stuck, until
from tests.support.waiting import while_busy

# Seconds: for a whole program, and for what it held to be back.
PROGRAM_SECONDS = 30.0
BACK = 1.0
# How long a program runs at most before it ends, in seconds.
LONGEST = 0.3
AT_ONCE = 3
# Puts of the stage while the programs of a round run.
PUTS = 60


def endings(stage: Stage, trials: int) -> None:
    """At a host of ours: nothing is leased or counted as out any more, and all is there."""
    for count in stage.rounds(trials, AT_ONCE):
        _round(stage, count)
        # Nobody but who is in `task_done` can have an item still, and its log says so.
        unknown = _acks_left(stage)
        try:
            stage.until_statistics(
                lambda counts: (
                    not counts["leased"] and counts["unfinished"] - counts["qsize"] <= unknown  # noqa: B023 - at once
                ),
                "what programs held for nobody is back",
                while_busy(BACK),
            )
        except Stuck as exc:
            stage.failed(str(exc))
        consumer = stage.consumer("deliveries")
        consumer.until("ready")  # or it would not hear that it is to end, where nothing is left
        stage.until_statistics(
            lambda counts: (
                not counts["qsize"] + counts["leased"] and counts["unfinished"] <= unknown  # noqa: B023
            ),
            "all is there",
        )
        if left := stage.statistics()["unfinished"]:
            stage.task_done(left)
        stage.end(consumer)


def endings_at_stock_hosts(stage: Stage, trials: int) -> None:
    """At each kind of host of the standard library's, where a client of it gets what is there."""
    for flavour, up_to in (("queue", trials // 2), ("joinable", trials)):
        stage.address = str(stage.folder / f"{flavour}.sock")
        host = stage.start("stock host", flavour, queues={QUEUE: 0}, settings={}, flavour=flavour)
        host.until("listening")
        for count in stage.rounds(up_to, AT_ONCE):
            put = _round(stage, count)
            ended = time.monotonic()
            # Not by a consumer that waits, and would take the next message with it to its end.
            drain = StockQueue(stage.address, KEY, QUEUE)
            try:
                until(
                    partial(_are_back, stage, put, drain), "what was held is back", while_busy(BACK)
                )
            except Stuck as exc:
                stage.failed(f"{flavour}: {exc}")
            drain.close()
            took = max(time.monotonic() - ended, stage.notes.get("slowest_return_s", 0.0))
            stage.notes["slowest_return_s"] = round(took, 2)
        stage.forget_connections()
        stage.kill(host)


def _records(stage: Stage, *events: str) -> Iterator[Record]:
    for path in stage.folder.glob("*.jsonl"):
        yield from (record for record in read(path) if record["e"] in events)


def _are_back(stage: Stage, put: set[str], drain: StockQueue) -> bool:
    return put <= _taken_by(stage, drain)


def _taken_by(stage: Stage, drain: StockQueue) -> set[str]:
    """Take what is there; return what anybody has processed up to now."""
    with contextlib.suppress(queue.Empty):
        while True:
            message = drain.call("get", False)
            stage.note("delivered", id=message["id"], sha=digest(message), attempt=None, taken=True)
            stage.note("processed", id=message["id"])
    return {record["id"] for record in _records(stage, "processed")}


def _acks_left(stage: Stage) -> int:
    """How many acks have no outcome, of all the programs that have ended."""
    left = 0
    for path in stage.folder.glob("endings*.jsonl"):
        records = list(read(path))
        acks = {record["op"] for record in records if record["e"] == "ack"}
        left += len(acks - {record["op"] for record in records if record["e"] in {"ok", "fail"}})
    return left


def _round(stage: Stage, count: int) -> set[str]:
    """Let some programs end while messages are put; return the ids of these."""
    with ThreadPoolExecutor(count) as pool:
        numbers = range(stage.trials, stage.trials + count)
        ends = [pool.submit(partial(_end, stage), number) for number in numbers]
        put: set[str] = set()
        while len(put) < PUTS or not all(end.done() for end in ends):
            put.update(message["id"] for message in stage.put())
            stage.sleep(0.02)
        for end in ends:
            end.result()
    return put


def _end(stage: Stage, number: int) -> None:
    """Start a program, and see it end in its way."""
    rng = random.Random(stage.seed + number)
    way = WAYS[(stage.first + number) % len(WAYS)]
    native = way == "loop closed"
    path = stage.folder / f"endings{number}.jsonl"
    options = {
        "address": stage.address,
        "key": KEY,
        "queue": QUEUE,
        "seed": rng.getrandbits(32),
        "way": way,
        "by": rng.choice(("wrap", "wrap", "connect")),
        "longest": LONGEST,
        "backend": rng.choice(("asyncio", "uvloop") if native else ("asyncio", "uvloop", "trio")),
        "transport": rng.choice(TRANSPORTS),
        "defect": stage.defect,
    }
    program = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.chaos.programs.endings", str(path),
         json.dumps(options)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    with program:
        try:
            if way == "interrupted":
                until(lambda: path.exists() and b'"delivered"' in path.read_bytes(), "it gets", 20)
                time.sleep(rng.uniform(0, LONGEST))
                program.send_signal(signal.SIGINT)
            _, errors = program.communicate(timeout=PROGRAM_SECONDS)
        except (Stuck, subprocess.TimeoutExpired) as exc:
            stage.hung(f"{options}: {exc}")
            return
        finally:
            program.kill()
    stage.note("ended", who=path.stem)
    expected = EXIT_CODES.get(way, 0)
    fine = expected is None or program.returncode == expected
    stage.check(fine, f"{options} ended with {program.returncode}: {errors.decode()[-500:]}")


_OPTIONS = {
    "short": 12,
    "long": 600,
    "at_once": 24,
    "seconds": 200.0,
    # A get that is given up may bring an item back behind others, at a stock host.
    "rules": Rules(in_order=False),
}
F26 = Fault(
    code="F26a",
    title="every way of ending, with gets given up",
    inject=endings,
    **_OPTIONS,  # type: ignore[arg-type]
)
F26_STOCK = Fault(
    code="F26b",
    title="the same at a stock host",
    inject=endings_at_stock_hosts,
    queues=None,
    **_OPTIONS,  # type: ignore[arg-type]
)
ALL = (F26, F26_STOCK)
