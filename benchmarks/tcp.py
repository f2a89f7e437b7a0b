"""TCP on the loopback interface beside a unix socket, at the sizes that stall a stock host."""

from __future__ import annotations

import statistics
import time

import aiomanager

from ._drive import rates, sized_items, small_items
from ._results import Claim, Report, Samples, Table, figure
from ._runner import Benchmark, Case
from .peers import BLOCKING, OURS, PEERS, Peer, run
from .peers.managers import BlockingProxy
from .peers.ours import Ours

LOOPBACK = ("127.0.0.1", 0)
SIZES = (17_000, 40_000, 65_000)
CONNECTS = 20
CONCURRENCY = 16


def cases(quick: bool) -> list[Case]:
    return [
        Case(
            f"{peer} {transport}",
            {"peer": peer, "transport": transport, "seconds": 0.3 if quick else 1.5},
        )
        for peer in (OURS, BLOCKING)
        for transport in ("unix", "tcp")
    ]


def sample(peer: str, transport: str, seconds: float) -> dict[str, float]:
    """For each size: put, get and task_done a second, one call after the other, and puts and
    gets of several coroutines. For ours also: milliseconds from `connect` to the first put done."""

    async def work(opened: Peer) -> dict[str, float]:
        assert isinstance(opened, (Ours, BlockingProxy))
        found: dict[str, float] = {}
        for size in SIZES:
            found[f"serial {size}"] = await _serial(opened, size, seconds)
            if isinstance(opened, Ours):
                items = sized_items(512, size)
                put, get = await rates(opened, items, CONCURRENCY, seconds / 3)
                found |= {f"put {size}": put, f"get {size}": get}
        if isinstance(opened, Ours):
            found["connect"] = statistics.median(
                [await _connect_and_put(opened) for _ in range(CONNECTS)]
            )
        return found

    return run(peer, work, address=LOOPBACK if transport == "tcp" else None)


async def _serial(opened: Ours | BlockingProxy, size: int, seconds: float) -> float:
    (item,) = sized_items(1, size)
    done = -1  # the first is to warm up
    start = deadline = 0.0
    while done < 0 or time.perf_counter() < deadline:
        await opened.put(item)
        if await opened.get() != item:
            raise AssertionError("another item came back")
        await opened.task_done()
        done += 1
        if done == 0:
            start = time.perf_counter()
            deadline = start + seconds
    return done / (time.perf_counter() - start)


async def _connect_and_put(opened: Ours) -> float:
    (item,) = small_items(1)
    start = time.perf_counter()
    async with aiomanager.connect(opened.manager.address, opened.manager.authkey) as client:
        await client.queue("jobs").put(item)
        milliseconds = (time.perf_counter() - start) * 1000
    await opened.get()
    return milliseconds


def summarise(samples: Samples) -> Report:
    tcp, unix = f"{OURS} tcp", f"{OURS} unix"
    claims = [
        Claim(
            f"put, get and task_done of {size:,} bytes over TCP, to the rate over a unix socket",
            samples.ratio(tcp, unix, f"serial {size}"),
            ">=",
            0.5,
        )
        for size in SIZES
    ]
    claims += [
        Claim(
            f"{what}s of {CONCURRENCY} coroutines, {size:,} bytes: TCP to unix socket",
            samples.ratio(tcp, unix, f"{what} {size}"),
            ">=",
            0.5,
        )
        for what in ("put", "get")
        for size in SIZES
    ]
    connect = samples.median(tcp, "connect")
    claims.append(Claim("from connect to the first put done, TCP", connect, "<", 10, "ms"))
    keys = [case.key for case in cases(quick=False) if samples.has(case.key)]
    tables = [
        Table(
            "put, get and task_done a second, one after the other, by bytes of the item",
            ["", "", *(f"{size:,}" for size in SIZES)],
            [
                [
                    PEERS[key.split()[0]].label,
                    key.split()[1],
                    *(figure(samples.median(key, f"serial {size}")) for size in SIZES),
                ]
                for key in keys
            ],
        ),
        Table(
            "from connect to the first put done",
            ["", "ms"],
            [
                [f"{PEERS[OURS].label}, {key.split()[1]}", figure(samples.median(key, "connect"))]
                for key in (unix, tcp)
                if samples.has(key)
            ],
        ),
    ]
    return Report(claims, tables)


BENCHMARK = Benchmark("tcp", "TCP beside a unix socket", cases, summarise)
