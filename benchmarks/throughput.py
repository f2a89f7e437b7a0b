"""Small items, put and got by many coroutines at once."""

from __future__ import annotations

from collections.abc import Sequence

from ._drive import both, rates, small_items
from ._results import Claim, Panel, Plot, Report, Samples, Table, figure
from ._runner import Benchmark, Case
from .peers import BLOCKING, OURS, PEERS, Peer, run

LEVELS = (1, 4, 16, 64, 256, 1024)
CLAIMED = 64


def cases(quick: bool) -> list[Case]:
    levels = (1, CLAIMED) if quick else LEVELS
    return [
        Case(
            key,
            {
                "peer": key,
                "levels": levels,
                "count": 1024 if quick else 4096,
                "seconds": 0.2 if quick else 0.5,
            },
            entry.needs,
        )
        for key, entry in PEERS.items()
    ]


def sample(peer: str, levels: Sequence[int], count: int, seconds: float) -> dict[str, list[float]]:
    """Puts and gets a second, for each number of coroutines."""

    async def work(opened: Peer) -> dict[str, list[float]]:
        items = small_items(count)
        await both(opened, items[: count // 4], 16)  # warm
        found: dict[str, list[float]] = {"levels": [], "put": [], "get": []}
        for level in levels:
            if found["levels"] and opened.most_at_once == 1:
                # It does one thing at a time, however many coroutines there are.
                put, get = found["put"][0], found["get"][0]
            else:
                put, get = await rates(opened, items, level, seconds)
            found["levels"].append(level)
            found["put"].append(put)
            found["get"].append(get)
            if level == CLAIMED:
                found |= {"put 64": put, "get 64": get}  # type: ignore[dict-item]
        return found

    return run(peer, work)


def summarise(samples: Samples) -> Report:
    def times(peer: str, what: str) -> float | None:
        return samples.ratio(OURS, peer, f"{what} {CLAIMED}")

    claims = [
        Claim(
            f"{what} of {CLAIMED} coroutines, to {PEERS[peer].label}",
            times(peer, what),
            relation,
            required,
        )
        for what, peer, relation, required in (
            ("put", "aioprocessing", ">=", 10.0),
            ("put", BLOCKING, ">=", 4.0),
            ("put", "zmq", ">", 1.0),
            ("get", "aioprocessing", ">=", 10.0),
            ("get", BLOCKING, ">=", 4.0),
            ("get", "zmq", ">=", 3.0),
        )
    ]
    rows = [
        [
            entry.label,
            *(figure(times(key, what)) for what in ("put", "get")),
            *(figure(samples.median(key, f"{what} {CLAIMED}")) for what in ("put", "get")),
        ]
        for key, entry in PEERS.items()
        if samples.has(key)
    ]
    tables = [
        Table(
            f"{CLAIMED} coroutines: the stream transport's rate to each, and items a second",
            ["", "put, times", "get, times", "put/s", "get/s"],
            rows,
        ),
        *(_levels(samples, what) for what in ("put", "get")),
    ]
    panels = [
        Panel(
            f"{what} of small items",
            "coroutines",
            f"{what}s a second",
            {
                entry.label: (samples.medians(key, "levels"), samples.medians(key, what))
                for key, entry in PEERS.items()
                if samples.has(key)
            },
        )
        for what in ("put", "get")
    ]
    return Report(claims, tables, [Plot("throughput", panels)])


def _levels(samples: Samples, what: str) -> Table:
    levels = next(
        (found for key in PEERS if (found := samples.medians(key, "levels"))), list[float]()
    )
    return Table(
        f"{what}s a second, by the number of coroutines",
        ["", *(f"{level:.0f}" for level in levels)],
        [
            [entry.label, *(figure(rate) for rate in samples.medians(key, what))]
            for key, entry in PEERS.items()
            if samples.has(key)
        ],
    )


BENCHMARK = Benchmark("throughput", "many coroutines, small items", cases, summarise)
