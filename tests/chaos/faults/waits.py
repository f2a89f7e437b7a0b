"""W1: two hundred processes, each with a get that waits, and how soon one of them wakes."""

from __future__ import annotations

import statistics

from tests.chaos.checker import Rules
from tests.chaos.faults import Fault
from tests.chaos.processes import Program
from tests.chaos.stage import Stage
from tests.chaos.waits import until

WAKE_MS = 50.0  # in the median
PUTS = 100
AT_ONCE = 20


def waiting_processes(stage: Stage, trials: int) -> None:
    """Each trial is a process that waits; a message wakes the one that has waited longest."""
    assert stage.host is not None
    process = stage.host.process
    before = process.memory_info().rss
    programs: list[Program] = []
    for count in stage.rounds(trials, AT_ONCE):
        # In batches: what is measured is the waiting, and not the starting.
        # Twenty interpreters that start at once may take longer than clients wait by default.
        programs += [stage.consumer("get", connect_timeout=30.0) for _ in range(count)]
        stage.until_waiting(programs)
    stage.notes["waiting"] = len(programs)
    stage.notes["host_mb"] = round(process.memory_info().rss / 1e6)
    grown = process.memory_info().rss - before
    stage.notes["host_kb_each"] = round(grown / len(programs) / 1e3, 1)
    stage.notes["host_threads"] = process.num_threads()
    stage.check(process.num_threads() <= 2, "a waiting get costs the host a thread")
    sent: list[tuple[str, float]] = []
    for _ in range(PUTS):
        (message,) = stage.put()
        sent.append((message["id"], stage.last_put))
        until(lambda: stage.statistics()["done"] >= len(sent), "it was done")
    taken = {
        record["id"]: record["t"]
        for program in programs
        for record in program.log.update()
        if record["e"] == "delivered"
    }
    wakes = [(taken[ident] - at) * 1000 for ident, at in sent]
    stage.notes["wake_ms_median"] = round(statistics.median(wakes), 2)
    stage.notes["wake_ms_p99"] = round(statistics.quantiles(wakes, n=100)[98], 2)
    stage.check(
        statistics.median(wakes) < WAKE_MS, f"wakes took {stage.notes['wake_ms_median']} ms"
    )


W1 = Fault(
    code="W1",
    title="processes with a waiting get each, then puts",
    short=40,
    long=200,
    at_once=200,
    inject=waiting_processes,
    rules=Rules(exactly_once=True),
)
ALL = (W1,)
