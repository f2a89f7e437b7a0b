"""Throughput over the size of the items."""

from __future__ import annotations

from collections.abc import Sequence

from ._drive import both, rates, sized_items
from ._results import Panel, Plot, Report, Samples, Table, figure
from ._runner import Benchmark, Case
from .peers import OURS, PEERS, Peer, run

CONCURRENCY = 16
SIZES = (100, 1_000, 10_000, 64 * 1024, 256 * 1024, 1024**2)
# What one batch puts at most, in items and in bytes.
COUNT = 1024
BYTES = 64 * 1024**2


def cases(quick: bool) -> list[Case]:
    sizes = (100, 64 * 1024) if quick else SIZES
    return [
        Case(key, {"peer": key, "sizes": sizes, "seconds": 0.1 if quick else 0.4}, entry.needs)
        for key, entry in PEERS.items()
        if key not in ("ours-trio", "ours-uvloop", "blocking-ours")
    ]


def sample(peer: str, sizes: Sequence[int], seconds: float) -> dict[str, list[float]]:
    """Puts and gets a second, for each size."""

    async def work(opened: Peer) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {"sizes": list(sizes), "put": [], "get": []}
        for size in sizes:
            items = sized_items(min(COUNT, BYTES // size), size)
            await both(opened, items[:CONCURRENCY], CONCURRENCY)  # warm
            put, get = await rates(opened, items, CONCURRENCY, seconds)
            found["put"].append(put)
            found["get"].append(get)
        return found

    return run(peer, work)


def summarise(samples: Samples) -> Report:
    shown = [key for key in PEERS if samples.has(key)]
    sizes = samples.medians(shown[0], "sizes") if shown else []
    tables = []
    for what in ("put", "get"):
        ours = samples.medians(OURS, what)
        tables.append(
            Table(
                f"{what}s of {CONCURRENCY} coroutines: the stream transport's rate to each",
                ["", *(_size(size) for size in sizes)],
                [
                    [
                        PEERS[key].label,
                        *(
                            figure(mine / theirs)
                            for mine, theirs in zip(ours, samples.medians(key, what), strict=False)
                        ),
                    ]
                    for key in shown
                    if ours
                ],
            )
        )
        tables.append(
            Table(
                f"{what}s a second, by size",
                ["", *(_size(size) for size in sizes)],
                [
                    [PEERS[key].label, *(figure(rate) for rate in samples.medians(key, what))]
                    for key in shown
                ],
            )
        )
    panels = [
        Panel(
            f"{what}, {CONCURRENCY} coroutines",
            "bytes of an item",
            "MB a second",
            {
                PEERS[key].label: (
                    sizes,
                    [
                        rate * size / 1e6
                        for rate, size in zip(samples.medians(key, what), sizes, strict=True)
                    ],
                )
                for key in shown
            },
        )
        for what in ("put", "get")
    ]
    return Report((), tables, [Plot("sizes", panels)])


def _size(size: float) -> str:
    for unit, factor in (("MiB", 1024**2), ("KiB", 1024)):
        if size >= factor and size % factor == 0:
            return f"{size / factor:.0f} {unit}"
    return f"{size:.0f} B"


BENCHMARK = Benchmark("sizes", "small items to large ones", cases, summarise, rounds=3)
