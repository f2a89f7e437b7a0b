"""Many client processes that put at once."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any

import anyio

import aiomanager

from . import _memory
from ._drive import small_items, verify
from ._results import Claim, Panel, Plot, Report, Samples, Table, figure
from ._runner import Benchmark, Case
from .peers.managers import FORK, StockManager, start_stock_host

COUNTS = (1, 4, 16, 100)
FEW, MANY = 4, 100
TASKS = 16
LABELS = {
    "ours": f"aiomanager, {TASKS} coroutines each",
    "blocking-ours": "blocking proxies, aiomanager's host",
    "blocking": "blocking proxies, stock host",
}


def cases(quick: bool) -> list[Case]:
    counts = (1, FEW) if quick else COUNTS
    items = 4_000 if quick else 40_000
    return [
        Case(f"{kind} {count}", {"kind": kind, "processes": count, "items": items})
        for kind in LABELS
        for count in counts
    ]


def sample(kind: str, processes: int, items: int) -> dict[str, float]:
    """Puts a second of all processes together, and what each adds to the host."""
    manager: Any
    if kind == "blocking":
        manager = start_stock_host()
    else:
        manager = aiomanager.QueueManager(
            authkey=secrets.token_bytes(32), queues={"jobs0": 0}, ctx=FORK
        )
        manager.start()
    (host,) = _memory.children()
    memory, threads = _memory.resident(host), _memory.threads(host)
    barrier = FORK.Barrier(processes + 1)
    results = FORK.SimpleQueue()
    work = _put if kind == "ours" else _put_blocking
    shares = [small_items(items)[number::processes] for number in range(processes)]
    clients = [
        FORK.Process(target=work, args=(manager, share, barrier, results), daemon=True)
        for share in shares
    ]
    for client in clients:
        client.start()
    barrier.wait()  # all are connected
    memory, threads = _memory.resident(host) - memory, _memory.threads(host) - threads
    barrier.wait()
    times = [results.get() for _ in clients]
    seconds = max(end for _, end in times) - min(start for start, _ in times)
    proxy = _proxy(manager)
    expected = [*small_items(items), *["warm"] * processes]
    verify([proxy.get() for _ in expected], expected)
    barrier.wait()
    return {
        "puts": items / seconds,
        "host KiB": memory / 1024 / processes,
        "host threads": threads,
    }


def _proxy(manager: Any) -> Any:
    StockManager.register("jobs0")
    client: Any = StockManager(manager.address, bytes(manager._authkey))
    client.connect()
    return client.jobs0()


def _put(manager: Any, share: Sequence[str], barrier: Any, results: Any) -> None:
    async def main() -> None:
        async with aiomanager.connect(manager.address, bytes(manager._authkey)) as client:
            queue = client.queue("jobs0")
            await queue.put("warm")
            barrier.wait()
            items = iter(share)

            async def put() -> None:
                for item in items:
                    await queue.put(item)

            barrier.wait()
            start = time.perf_counter()
            async with anyio.create_task_group() as group:
                for _ in range(TASKS):
                    group.start_soon(put)
            results.put((start, time.perf_counter()))
            barrier.wait()

    anyio.run(main)


def _put_blocking(manager: Any, share: Sequence[str], barrier: Any, results: Any) -> None:
    proxy = _proxy(manager)
    proxy.put("warm")
    barrier.wait()
    barrier.wait()
    start = time.perf_counter()
    for item in share:
        proxy.put(item)
    results.put((start, time.perf_counter()))
    barrier.wait()


def summarise(samples: Samples) -> Report:
    claim = Claim(
        f"puts a second of {MANY} client processes, to those of {FEW}",
        samples.ratio(f"ours {MANY}", f"ours {FEW}", "puts"),
        ">=",
        1.0,
    )
    rows = [
        [
            label,
            str(count),
            figure(samples.ratio(f"ours {count}", f"{kind} {count}", "puts")),
            figure(samples.median(f"{kind} {count}", "puts")),
            figure(samples.median(f"{kind} {count}", "host KiB")),
            figure(samples.median(f"{kind} {count}", "host threads")),
        ]
        for kind, label in LABELS.items()
        for count in COUNTS
        if samples.has(f"{kind} {count}")
    ]
    table = Table(
        "client processes: aiomanager's rate to each, puts a second, and what the host grows by",
        ["", "processes", "times", "puts/s", "KiB each", "threads"],
        rows,
    )
    lines: dict[str, tuple[list[float], list[float]]] = {}
    for kind, label in LABELS.items():
        found = [count for count in COUNTS if samples.has(f"{kind} {count}")]
        lines[label] = (
            [float(count) for count in found],
            [samples.median(f"{kind} {count}", "puts") or 0.0 for count in found],
        )
    panel = Panel("putting at once", "client processes", "puts a second, all together", lines)
    return Report([claim], [table], [Plot("clients", [panel])])


BENCHMARK = Benchmark("clients", "many client processes", cases, summarise, rounds=3)
