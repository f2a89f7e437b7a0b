"""Large items, one at a time."""

from __future__ import annotations

import statistics

from . import _memory
from ._drive import both, sized_items
from ._results import Claim, Report, Samples, Table, figure
from ._runner import Benchmark, Case
from .peers import BLOCKING, OURS, PEERS, Peer, run

SHOWN = (BLOCKING, OURS, "ours-thread", "blocking-ours", "anyio", "redis", "zmq", "echo")
# Size in MiB, and how many of them.
ITEMS = ((1, 40), (64, 6))


def cases(quick: bool) -> list[Case]:
    return [
        Case(
            f"{peer} {size}",
            {"peer": peer, "size": size * _memory.MIB, "count": 2 if quick else count},
            PEERS[peer].needs,
        )
        for size, count in ITEMS
        for peer in SHOWN
    ]


def sample(peer: str, size: int, count: int) -> dict[str, float]:
    """Milliseconds for a put, for a get, and for both; medians."""

    async def work(opened: Peer) -> dict[str, float]:
        (item,) = sized_items(1, size)
        await both(opened, [item], 1)  # warm
        times = [await both(opened, [item], 1) for _ in range(count)]
        return {
            "put": 1000 * statistics.median(put for put, _ in times),
            "get": 1000 * statistics.median(get for _, get in times),
            "both": 1000 * statistics.median(put + get for put, get in times),
        }

    return run(peer, work)


def summarise(samples: Samples) -> Report:
    claims = [
        Claim(
            f"put and get of a {size} MiB item, to the blocking proxy's time",
            samples.ratio(f"{OURS} {size}", f"{BLOCKING} {size}", "both"),
            "<=",
            1.5,
        )
        for size, _ in ITEMS
    ]
    tables = [
        Table(
            f"{size} MiB: to the blocking proxy's time, and milliseconds",
            ["", "put, times", "get, times", "both, times", "put", "get"],
            [
                [
                    PEERS[peer].label,
                    *(
                        figure(samples.ratio(f"{peer} {size}", f"{BLOCKING} {size}", what))
                        for what in ("put", "get", "both")
                    ),
                    *(figure(samples.median(f"{peer} {size}", what)) for what in ("put", "get")),
                ]
                for peer in SHOWN
                if samples.has(f"{peer} {size}")
            ],
        )
        for size, _ in ITEMS
    ]
    return Report(claims, tables)


BENCHMARK = Benchmark("large", "items of 1 and of 64 MiB", cases, summarise)
