"""Long queues: the time for an item, and its memory, as the queue grows."""

from __future__ import annotations

import pickle
import time
from collections.abc import Sequence
from typing import Any

from . import _memory
from ._drive import put_all, small_items, take, verify
from ._results import Claim, Panel, Plot, Report, Samples, Table, figure
from ._runner import Benchmark, Case
from .peers import OURS, Peer, run
from .peers.ours import Ours

LENGTHS = (1_000, 10_000, 100_000, 1_000_000)
CONCURRENCY = 64
BATCH = 1_000
EXTRA = 4_096
# The extra time that an item may take in the longest queue and still be called flat.
FLAT = 1.5
STEPS = {
    "fill": f"put_many of {BATCH:,}, into a queue that grows to that length",
    "at": f"put, then get, by {CONCURRENCY} coroutines, at that length",
    "drain": f"get_many of {BATCH:,}, until it is empty",
}


def cases(quick: bool) -> list[Case]:
    return [Case(OURS, {"lengths": LENGTHS[:2] if quick else LENGTHS})]


def sample(lengths: Sequence[int]) -> dict[str, list[float]]:
    """For each length, microseconds for an item in each step; and what an item adds to the host's
    memory, in bytes, beside the bytes of its pickle."""

    async def work(opened: Peer) -> dict[str, list[float]]:
        assert isinstance(opened, Ours)
        (host,) = _memory.children()
        await _once(opened, BATCH, host)  # warm
        empty = _memory.resident(host)
        found: dict[str, list[float]] = {name: [] for name in (*STEPS, "bytes")}
        for length in lengths:
            repeats = [await _once(opened, length, host) for _ in range(max(1, 20_000 // length))]
            for name in STEPS:
                times = sorted(repeat[name] for repeat in repeats)
                found[name].append(times[len(times) // 2] * 1e6)
            found["bytes"] = [
                (repeats[0]["resident"] - empty) / length,
                sum(len(pickle.dumps(item, 5)) for item in small_items(length)) / length,
            ]
        return found | {"lengths": list(lengths)}

    return run(OURS, work)


async def _once(opened: Ours, length: int, host: int) -> dict[str, float]:
    """Seconds for an item, in each step."""
    queue = opened.queue
    items: list[Any] = [*small_items(length)]
    start = time.perf_counter()
    for position in range(0, length, BATCH):
        await queue.put_many(items[position : position + BATCH])
    fill = time.perf_counter() - start
    resident = _memory.resident(host)
    extra = [f"Extra {number}" for number in range(EXTRA)]
    put = await put_all(opened, extra, CONCURRENCY)
    get, got = await take(opened, EXTRA, CONCURRENCY)
    start = time.perf_counter()
    while len(got) < length + EXTRA:
        got += await queue.get_many(BATCH)
    drain = time.perf_counter() - start
    verify(got, items + extra)
    return {
        "fill": fill / length,
        "at": (put + get) / EXTRA,
        "drain": drain / length,
        "resident": resident,
    }


def summarise(samples: Samples) -> Report:
    lengths = samples.medians(OURS, "lengths")
    steps = {what: samples.medians(OURS, name) for name, what in STEPS.items()}
    claims = [
        Claim(
            f"time of an item, {LENGTHS[-1]:,} queued to {LENGTHS[0]:,}: {what}",
            times[-1] / times[0] if len(times) == len(LENGTHS) else None,
            "<=",
            FLAT,
        )
        for what, times in steps.items()
    ]
    tables = [
        Table(
            "microseconds for an item, by items queued",
            ["", *(f"{length:,.0f}" for length in lengths)],
            [[what, *map(figure, times)] for what, times in steps.items()],
        )
    ]
    if size := samples.medians(OURS, "bytes"):
        tables.append(
            Table(
                "memory of a queued small item at the host",
                ["", "bytes"],
                [
                    ["the host grows by", figure(size[0])],
                    ["its pickle", figure(size[1])],
                ],
            )
        )
    lines = {what: (lengths, times) for what, times in steps.items()}
    plot = Plot("depth", [Panel("long queues", "items queued", "microseconds for an item", lines)])
    return Report(claims, tables, [plot])


BENCHMARK = Benchmark("depth", "long queues", cases, summarise, rounds=3)
