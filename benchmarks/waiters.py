"""Gets that wait, in one process: the threads and the memory that they cost, and their waking."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import anyio
import anyio.to_thread

from . import _memory
from ._drive import small_items, verify
from ._results import Claim, Panel, Plot, Report, Samples, Table, figure
from ._runner import Benchmark, Case, start_child
from .peers import OURS, PEERS, THREAD, Peer, run
from .peers.managers import AnyioToThread
from .peers.ours import Ours

MOST = 10_000
COUNTS = (100, 1_000, MOST)
A_THREAD_EACH = "anyio"


def cases(quick: bool) -> list[Case]:
    counts = COUNTS[:2] if quick else COUNTS
    return [
        Case(f"{peer} {count}", {"peer": peer, "count": count}, PEERS[peer].needs)
        for peer, limit in ((OURS, MOST), (THREAD, MOST), (A_THREAD_EACH, 1000), ("redis", 1000))
        for count in counts
        if count <= limit
    ]


def sample(peer: str, count: int) -> dict[str, float]:
    """What `count` waiting gets add to this process and to the host; for ours also the seconds
    from the first put, by another process, until all are served."""

    async def work(opened: Peer) -> dict[str, float]:
        await opened.put("warm")
        await opened.get()
        if isinstance(opened, AnyioToThread):
            get = _with_a_thread_each(opened, count)
        else:
            get = opened.get
        (host,) = _memory.children()
        before = _state(host)
        got: list[Any] = []

        async def wait() -> None:
            got.append(await get())

        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(wait)
            after = await _settled(host)
            result = {
                "threads": after["threads"],
                "MiB": (after["rss"] - before["rss"]) / _memory.MIB,
                "host threads": after["host threads"] - before["host threads"],
                "host MiB": (after["host rss"] - before["host rss"]) / _memory.MIB,
            }
            if not isinstance(opened, Ours):
                _leave(result)
            started = await _put_elsewhere(opened, count)
        result["seconds"] = time.perf_counter() - started
        verify(got, small_items(count))
        return result

    return run(peer, work)


def _leave(result: dict[str, float]) -> NoReturn:
    # Threads that are blocked for ever keep the event loop from ending: there is no other way out.
    print(json.dumps(result), flush=True)
    os._exit(0)


def _with_a_thread_each(peer: AnyioToThread, count: int) -> Callable[[], Awaitable[Any]]:
    limiter = anyio.CapacityLimiter(count)
    return lambda: anyio.to_thread.run_sync(peer.get_blocking, limiter=limiter)


def _state(host: int) -> dict[str, float]:
    return {
        "threads": _memory.threads(),
        "rss": _memory.resident(),
        "host threads": _memory.threads(host),
        "host rss": _memory.resident(host),
    }


async def _settled(host: int) -> dict[str, float]:
    """The state once nothing changes any more: all wait."""
    state = _state(host)
    for _ in range(20):
        await anyio.sleep(0.3)
        before, state = state, _state(host)
        if state == before:
            break
    return state


async def _put_elsewhere(opened: Ours, count: int) -> float:
    """Let another process put; when it began, by the clock that all processes share."""
    putter = start_child(
        __name__,
        "putter",
        {
            "address": opened.manager.address,
            "authkey": opened.manager.authkey.decode(),
            "count": count,
        },
        stdout=subprocess.PIPE,
    )
    output, _ = await anyio.to_thread.run_sync(putter.communicate)
    return float(output)


def putter(address: str, authkey: str, count: int) -> float:
    """The process that wakes them: 64 coroutines that put."""
    import aiomanager

    async def main() -> float:
        async with aiomanager.connect(address, authkey) as manager:
            queue = manager.queue("jobs")
            items = iter(small_items(count))

            async def put() -> None:
                for item in items:
                    await queue.put(item)

            start = time.perf_counter()
            async with anyio.create_task_group() as group:
                for _ in range(64):
                    group.start_soon(put)
            return start

    return anyio.run(main)


def summarise(samples: Samples) -> Report:
    claims = [
        Claim(what, samples.median(f"{OURS} {MOST}", name), relation, required, unit)
        for what, name, relation, required, unit in (
            (f"threads of a process with {MOST:,} waiting gets", "threads", "<=", 8, ""),
            ("memory that they add there", "MiB", "<=", 100, "MiB"),
            ("threads that they add at the host", "host threads", "<=", 6, ""),
            ("from the first of as many puts until all are served", "seconds", "<", 5, "s"),
        )
    ]
    names = ("threads", "MiB", "host threads", "host MiB", "seconds")
    keys = [case.key for case in cases(quick=False) if samples.has(case.key)]
    table = Table(
        "waiting gets: threads of the process, what it and the host grow by, seconds to serve all",
        ["", "waiting", *names],
        [
            [
                PEERS[key.split()[0]].label,
                key.split()[1],
                *(figure(samples.median(key, name)) for name in names),
            ]
            for key in keys
        ],
    )
    panels = [
        Panel(title, "waiting gets", name, _lines(samples, keys, name))
        for title, name in (
            ("threads of the process", "threads"),
            ("memory that they add to the process", "MiB"),
            ("memory that they add to the host", "host MiB"),
        )
    ]
    return Report(claims, [table], [Plot("waiters", panels)])


def _lines(
    samples: Samples, keys: list[str], name: str
) -> dict[str, tuple[list[float], list[float]]]:
    lines: dict[str, tuple[list[float], list[float]]] = {}
    for key in keys:
        peer, count = key.split()
        value = samples.median(key, name)
        if value is not None:
            xs, ys = lines.setdefault(PEERS[peer].label, ([], []))
            xs.append(float(count))
            ys.append(max(value, 0.01))
    return lines


BENCHMARK = Benchmark("waiters", "gets that wait", cases, summarise, rounds=3)
