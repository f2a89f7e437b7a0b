"""One awaited put at a time, and one get: how long each takes."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from ._drive import both, small_items, verify
from ._results import Claim, Panel, Plot, Report, Samples, Table, figure
from ._runner import Benchmark, Case
from .peers import BLOCKING, OURS, PEERS, Peer, run

# Positions of the distribution, in percent.
PERCENTS = (*range(1, 100), 99.9)
SHOWN = (50, 90, 99, 99.9)


def cases(quick: bool) -> list[Case]:
    return [
        Case(key, {"peer": key, "count": 300 if quick else 3000}, entry.needs)
        for key, entry in PEERS.items()
    ]


def sample(peer: str, count: int) -> dict[str, Any]:
    """The medians and the distributions of puts and of gets, in microseconds."""

    async def work(opened: Peer) -> dict[str, Any]:
        items = small_items(count)
        await both(opened, items[: count // 10], 1)  # warm
        puts: list[float] = []
        for item in items:
            await _timed(lambda item=item: opened.put(item), puts)  # type: ignore[misc]
        await opened.turn(count)
        gets: list[float] = []
        got = [await _timed(opened.get, gets) for _ in items]
        verify(got, items)
        return {
            "put": _at(puts, 50),
            "get": _at(gets, 50),
            "puts": [_at(puts, percent) for percent in PERCENTS],
            "gets": [_at(gets, percent) for percent in PERCENTS],
        }

    return run(peer, work)


async def _timed(call: Callable[[], Awaitable[Any]], times: list[float]) -> Any:
    start = time.perf_counter()
    result = await call()
    times.append((time.perf_counter() - start) * 1e6)
    return result


def _at(times: list[float], percent: float) -> float:
    times = sorted(times)
    return times[min(len(times) - 1, int(len(times) * percent / 100))]


def summarise(samples: Samples) -> Report:
    claims = [
        Claim(
            "median of one awaited put, to the blocking proxy's",
            samples.ratio(OURS, BLOCKING, "put"),
            "<=",
            1.5,
        ),
        Claim(
            "median of one awaited put, to anyio.to_thread's",
            samples.ratio(OURS, "anyio", "put"),
            "<=",
            0.5,
        ),
    ]
    shown = [key for key in PEERS if samples.has(key)]
    tables = [
        Table(
            f"one {what} at a time: to the blocking proxy's median, and microseconds",
            ["", "times", *(f"{percent} %" for percent in SHOWN)],
            [
                [
                    PEERS[key].label,
                    figure(samples.ratio(key, BLOCKING, what)),
                    *(
                        figure(samples.medians(key, f"{what}s")[PERCENTS.index(percent)])
                        for percent in SHOWN
                    ),
                ]
                for key in shown
            ],
        )
        for what in ("put", "get")
    ]
    panels = [
        Panel(
            f"one {what} at a time",
            "microseconds",
            "percent that took no longer",
            {PEERS[key].label: (samples.medians(key, f"{what}s"), PERCENTS) for key in shown},
            log="x",
        )
        for what in ("put", "get")
    ]
    return Report(claims, tables, [Plot("latency", panels)])


BENCHMARK = Benchmark("latency", "one awaited call at a time", cases, summarise)
