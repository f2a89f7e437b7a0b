"""Each trick for speed, with and without it, where it is meant to help.

A trick makes the code longer. One that does not make its own workload at least a tenth quicker is
not worth that, unless it keeps a guarantee too.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ._results import Claim, Report, Samples, Table, figure
from ._runner import Benchmark, Case
from .peers._partner import Partner

LEAST = 1.1  # what brings less is out


@dataclass(frozen=True)
class Trick:
    """A trick in one workload.

    Attributes:
        without: the function of `_without` that switches it off.
        workload: the function of `_workloads`, with the items of a batch.
        counts: what it is to spare: time by the clock, or that of both processes' processors.
        guarantee: what it keeps beside speed.
    """

    label: str
    without: str
    workload: str
    items: int
    counts: Literal["seconds", "processor"] = "seconds"
    guarantee: str = ""
    tasks: int = 64
    tcp: bool = False
    batches: int = 12


TRICKS: Mapping[str, Trick] = {
    "none": Trick("none: how far two equal sides differ", "nothing", "put_by_many", 12_000),
    "halves-put": Trick("halves, puts of 1,024 tasks", "halves", "put_by_many", 20_000, tasks=1024),
    "halves-put-512": Trick(
        "halves, puts of 512 tasks", "halves", "put_by_many", 20_000, tasks=512
    ),
    "halves-get": Trick("halves, gets of 256 tasks", "halves", "get_by_many", 8_000, tasks=256),
    "halves-get-128": Trick("halves, gets of 128 tasks", "halves", "get_by_many", 8_000, tasks=128),
    "halves-get-1024": Trick(
        "halves, gets of 1,024 tasks", "halves", "get_by_many", 20_000, tasks=1024
    ),
    "gathering-put-4": Trick(
        "gathering, puts of 4 tasks", "gathering", "put_by_many", 4_000, tasks=4
    ),
    "gathering-put-16": Trick(
        "gathering, puts of 16 tasks", "gathering", "put_by_many", 6_000, tasks=16
    ),
    "gathering-put": Trick("gathering, puts of 64 tasks", "gathering", "put_by_many", 8_000),
    "gathering-get-4": Trick(
        "gathering, gets of 4 tasks", "gathering", "get_by_many", 3_000, tasks=4
    ),
    "gathering-get-16": Trick(
        "gathering, gets of 16 tasks", "gathering", "get_by_many", 4_000, tasks=16
    ),
    "gathering-get": Trick("gathering, gets of 64 tasks", "gathering", "get_by_many", 6_000),
    "busy-put": Trick("busy poll, one put after the other", "busy_poll", "put_one", 2_000),
    "busy-get": Trick("busy poll, one get after the other", "busy_poll", "get_one", 1_000),
    "busy-many": Trick("busy poll, puts of 64 tasks", "busy_poll", "put_by_many", 12_000),
    "future": Trick(
        "futures for events, puts of 64 tasks", "futures", "put_by_many", 12_000, "processor"
    ),
    "scope": Trick(
        "no scope without a timeout, puts of 64 tasks",
        "no_scope",
        "put_by_many",
        12_000,
        "processor",
    ),
    "reader": Trick("the loop's reader, one put after the other", "reader", "put_one", 2_000),
    "told": Trick("reads told later, gets of 64 tasks", "told_later", "get_by_many", 8_000),
    "told-one": Trick("reads told later, one get after the other", "told_later", "get_one", 1_000),
    "mapped": Trick(
        "mapped memory, 64 MiB",
        "mapped",
        "huge",
        3,
        guarantee="what is announced and never comes costs no memory",
    ),
    "released": Trick(
        "released by a thread, slowest call beside 1 GiB",
        "released_apart",
        "beside_giant",
        1024,
        guarantee="nobody waits for it",
        batches=4,
    ),
    "beside": Trick(
        "beside the pickle, 1 MiB",
        "beside",
        "large",
        100,
        guarantee="an item is not copied at the host",
    ),
    "by-hand": Trick("bytes pickled by hand, 1 MiB", "by_hand", "large", 100),
    "by-hand-64": Trick("bytes pickled by hand, 64 MiB", "by_hand", "huge", 3),
    "read-size": Trick(
        "small reads, one put after the other", "read_size", "put_one", 2_000, "processor"
    ),
    "pickler": Trick(
        "C's pickler where it can be, put_many", "plain_pickler", "put_at_once", 20_000
    ),
    "passed": Trick(
        "stock items passed through, puts",
        "passed_through",
        "stock_put",
        2_000,
        guarantee="the host loads no class of a user's",
    ),
    "passed-large": Trick(
        "stock items passed through, 1 MiB",
        "passed_through",
        "stock_large",
        60,
        guarantee="the host loads no class of a user's",
    ),
    "plain": Trick(
        "plain requests read at once, stock calls", "plain_requests", "stock_calls", 2_000
    ),
    "known-plain": Trick(
        "plain requests known, stock calls",
        "known_plain_requests",
        "stock_calls",
        4_000,
        "processor",
    ),
    "known": Trick(
        "requests known, one put after the other", "known_requests", "put_one", 2_000, "processor"
    ),
    "known-put": Trick(
        "requests known, puts of 64 tasks", "known_requests", "put_by_many", 12_000, "processor"
    ),
    "known-many": Trick(
        "requests known, gets of 64 tasks", "known_requests", "get_by_many", 8_000, "processor"
    ),
    "one-send": Trick(
        "answers sent at once, one put after the other", "one_send", "put_one", 3_000, "processor"
    ),
    "calls": Trick(
        "few calls at once, 64 tasks at one object",
        "call_limit",
        "object_calls",
        1_000,
        guarantee="few connections, and threads of the host",
    ),
    "prefetch": Trick("prefetch=32, an iteration", "prefetch", "iterate", 2_000),
}

# What is no trick: how many times as long something may take with it.
COSTS: Mapping[str, Trick] = {
    "seals": Trick("seals over TCP, one put after the other", "seals", "put_one", 2_000, tcp=True),
    "seals-many": Trick(
        "seals over TCP, puts of 64 tasks", "seals", "put_by_many", 12_000, tcp=True
    ),
}
DEAREST = 1.1

# Pairs of batches during which others had more of the machine than this do not count, where there
# are enough that do: with nothing to run on, two processes are no quicker than one. A few times as
# many are tried.
QUIET = 0.15
MOST = 3


def cases(quick: bool) -> list[Case]:
    return [Case(key, {"key": key, "quick": quick}) for key in (*TRICKS, *COSTS)]


def sample(key: str, quick: bool) -> dict[str, float]:
    """How many times as long it takes without the trick: by the clock, and of the processors. Both
    sides are there all the time, and have their turns in pairs, each first as often."""
    trick = {**TRICKS, **COSTS}[key]
    items, batches = (max(1, trick.items // 20), 2) if quick else (trick.items, trick.batches)
    sides = [
        Partner(
            "benchmarks._workloads",
            "work",
            workload=trick.workload,
            without="nothing" if has else trick.without,
            count=items,
            tasks=trick.tasks,
            tcp=trick.tcp,
        )
        for has in (True, False)
    ]
    for side in sides:
        side.answer()
        _batch(side)  # to warm up
    pairs: list[list[dict[str, float]]] = []
    quiet: list[list[dict[str, float]]] = []
    while len(quiet) < batches and len(pairs) < MOST * batches:
        order = sides if len(pairs) % 2 else sides[::-1]
        seen = {side: _batch(side) for side in order}
        pairs.append([seen[side] for side in sides])
        if max(one["others"] for one in seen.values()) < QUIET:
            quiet.append(pairs[-1])
    for side in sides:
        side.end()
    shown = quiet if len(quiet) >= batches / 2 else pairs
    ratios = {
        name: statistics.median(without[name] / has[name] for has, without in shown)
        for name in ("seconds", "processor")
    }
    return {**ratios, "quiet": len(quiet) / len(pairs)}


def _batch(side: Partner) -> dict[str, float]:
    side.tell("go")
    measured: dict[str, float] = json.loads(side.answer())
    return measured


def summarise(samples: Samples) -> Report:
    claims = []
    for key, cost in COSTS.items():
        if key not in samples.by_case:
            continue
        without = samples.median(key, "seconds")
        claims.append(
            Claim(f"{cost.label}, to without", None if not without else 1 / without, "<=", DEAREST)
        )
    rows = [_row(samples, key, trick) for key, trick in TRICKS.items() if samples.has(key)]
    table = Table(
        "without the trick, to with it: time by the clock, that of the processors, and the range "
        "of what counts; and how often nothing else ran",
        ["", "clock", "processors", "lowest", "highest", "quiet", f"at least {LEAST:g}?"],
        rows,
    )
    return Report(claims, [table])


def _row(samples: Samples, key: str, trick: Trick) -> list[str]:
    found = [taken[trick.counts] for taken in samples.by_case[key] if taken]
    return [
        trick.label,
        *(figure(samples.median(key, name)) for name in ("seconds", "processor")),
        figure(min(found)),
        figure(max(found)),
        figure(samples.median(key, "quiet")),
        _verdict(key, trick, found, samples.median(key, "quiet") or 0.0),
    ]


def _verdict(key: str, trick: Trick, found: list[float], quiet: float) -> str:
    if key == "none":
        return "the noise"
    what = "the clock" if trick.counts == "seconds" else "the processors"
    if min(found) >= LEAST:
        return f"yes, by {what}"
    if trick.guarantee:
        return f"stays: {trick.guarantee}"
    if trick.counts == "seconds" and quiet < 0.5:
        return "cannot tell, as others ran"
    return f"under 10 %: out, by {what}" if max(found) < LEAST else f"cannot tell, by {what}"


BENCHMARK = Benchmark("tricks", "tricks for speed", cases, summarise, timeout=240)
