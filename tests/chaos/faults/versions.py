"""F24: stock programs of every Python that is here against our host, and our clients against
their hosts, with MD5 and without."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.chaos.checker import Rules
from tests.chaos.faults import Fault
from tests.chaos.logs import Tail
from tests.chaos.processes import ROOT
from tests.chaos.stage import KEY, QUEUE, Stage
from tests.chaos.waits import until
from tests.support import pythons

COUNT = 20  # messages
# From here on the handshake names its digest, and both sides can do without MD5.
NAMES_DIGESTS = (3, 12)


def versions(stage: Stage, trials: int) -> None:
    """Each other Python's standard library against ours, in both directions."""
    found = pythons.installed()
    cases = [
        (python, direction, without_md5)
        for python in found
        for direction in (_their_clients, _their_host)
        for without_md5 in (False, True)
    ]
    for _ in stage.rounds(min(trials, len(cases))):
        python, direction, without_md5 = cases[stage.trials % len(cases)]
        version = tuple(map(int, python.split(".")))
        works = not without_md5 or version >= NAMES_DIGESTS
        direction(stage, found[python], works, without_md5=without_md5)
        stage.notes["pythons"] = " ".join(found)


def _their_clients(stage: Stage, python: str, works: bool, *, without_md5: bool) -> None:
    number = stage.trials
    host = stage.start_host({QUEUE: 0})
    options = {"count": COUNT, "without_md5": without_md5, "seed": number, "name": f"their{number}"}
    with (
        _their(stage, python, "producer", f"producer{number}", **options) as producer,
        _their(stage, python, "consumer", f"consumer{number}", **options) as consumer,
    ):
        for process, tail in (producer, consumer):
            stage.check(process.wait(20) == 0, f"{python}: a stock client failed")
            refused = any(record["e"] == "refused" for record in tail.update())
            stage.check(refused != works, f"{python}: a stock client was refused: {refused}")
    stage.forget_connections()
    stage.end(host)
    stage.host = None


def _their_host(stage: Stage, python: str, works: bool, *, without_md5: bool) -> None:
    number = stage.trials
    path = str(stage.folder / f"s{number}.sock")
    options: dict[str, Any] = {"address": path, "without_md5": without_md5}
    with _their(stage, python, "host", f"theirhost{number}", **options) as (process, tail):
        until(lambda: any(r["e"] == "listening" for r in tail.update()), "their host listens")
        options["may_be_refused"] = not works
        clients = [
            stage.start(program, f"our{program}{number}", count=COUNT, kind="get", **options)
            for program in ("producer", "consumer")
        ]
        if works:
            stage.see_end(clients[0])
            until(lambda: clients[1].log.count("processed") == COUNT, "all came", 20)
            stage.end(clients[1])
        else:
            for client in clients:
                client.until("refused")
                stage.see_end(client)
        process.kill()


@contextmanager
def _their(
    stage: Stage, python: str, program: str, log: str, /, **options: Any
) -> Iterator[tuple[subprocess.Popen[bytes], Tail]]:
    path = stage.folder / f"{log}.jsonl"
    filled = {"address": stage.address, "key": KEY, "queue": QUEUE, **options}
    process = subprocess.Popen(
        [python, "-m", "tests.chaos.programs.stock", program, str(path), json.dumps(filled)],
        cwd=ROOT,
    )
    try:
        yield process, Tail(path)
    finally:
        process.kill()
        process.wait()


F24 = Fault(
    code="F24",
    title="stock clients and hosts of every Python, with and without MD5",
    short=16,
    long=48,
    inject=versions,
    queues=None,
    rules=Rules(exactly_once=True),
)
ALL = (F24,)
