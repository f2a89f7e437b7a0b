"""Many client processes that put at once."""

from __future__ import annotations

import contextlib
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import anyio

import aiomanager

from . import _memory
from ._drive import small_item, small_items, verify
from ._results import Claim, Panel, Plot, Report, Samples, Table, figure
from ._runner import Benchmark, Case
from .peers import Peer
from .peers.echo import Echo, start_echo
from .peers.managers import FORK, StockManager, start_stock_host

COUNTS = (1, 4, 16, 100)
FEW, MANY = 4, 100
TASKS = 16
LABELS = {
    "ours": f"aiomanager, {TASKS} coroutines each",
    "blocking-ours": "blocking proxies, aiomanager's host",
    "blocking": "blocking proxies, stock host",
    "echo": f"floor: asyncio socket echo, {TASKS} coroutines each",
}


def cases(quick: bool) -> list[Case]:
    counts = (1, FEW) if quick else COUNTS
    items = 4_000 if quick else 40_000
    return [
        Case(f"{kind} {count}", {"kind": kind, "processes": count, "items": items})
        for kind in LABELS
        for count in counts
    ]


@dataclass
class _Host:
    """Where they put.

    Attributes:
        work: what a client process does: its arguments are `place`, which of the items it puts,
            and what `sample` needs to hear of it.
        got: takes out so many items; None where nothing is kept.
    """

    pid: int
    work: Callable[..., None]
    place: tuple[Any, ...]
    got: Callable[[int], list[Any]] | None


def sample(kind: str, processes: int, items: int) -> dict[str, float]:
    """Puts a second of all processes together, and what each adds to the host."""
    with _host(kind) as host:
        memory, threads = _memory.resident(host.pid), _memory.threads(host.pid)
        barrier = FORK.Barrier(processes + 1)
        results = FORK.SimpleQueue()
        shares = [range(number, items, processes) for number in range(processes)]
        clients = [
            FORK.Process(target=host.work, args=(*host.place, share, barrier, results), daemon=True)
            for share in shares
        ]
        for client in clients:
            client.start()
        barrier.wait()  # all are connected
        memory = _memory.resident(host.pid) - memory
        threads = _memory.threads(host.pid) - threads
        barrier.wait()
        times = [results.get() for _ in clients]
        seconds = max(end for _, end in times) - min(start for start, _ in times)
        if host.got is not None:
            expected = [*small_items(items), *["warm"] * processes]
            verify(host.got(len(expected)), expected)
        barrier.wait()
    return {
        "puts": items / seconds,
        "host KiB": memory / 1024 / processes,
        "host threads": threads,
    }


@contextlib.contextmanager
def _host(kind: str) -> Iterator[_Host]:
    if kind == "echo":
        with tempfile.TemporaryDirectory() as folder:
            partner = start_echo(f"{folder}/socket")
            yield _Host(partner.pid, _put_to_echo, (f"{folder}/socket",), None)
            partner.end()
        return
    manager: Any
    if kind == "blocking":
        manager = start_stock_host()
    else:
        manager = aiomanager.QueueManager(
            authkey=secrets.token_bytes(32), queues={"jobs0": 0}, ctx=FORK
        )
        manager.start()
    (pid,) = _memory.children()
    place = manager.address, bytes(manager._authkey)

    def got(count: int) -> list[Any]:
        proxy = _proxy(*place)
        return [proxy.get() for _ in range(count)]

    yield _Host(pid, _put if kind == "ours" else _put_blocking, place, got)


def _proxy(address: Any, authkey: bytes) -> Any:
    StockManager.register("jobs0")
    client: Any = StockManager(address, authkey)
    client.connect()
    return client.jobs0()


def _put(address: Any, authkey: bytes, share: range, barrier: Any, results: Any) -> None:
    async def main() -> None:
        async with aiomanager.connect(address, authkey) as client:
            await _put_all(client.queue("jobs0"), share, barrier, results)

    anyio.run(main)


def _put_to_echo(path: str, share: range, barrier: Any, results: Any) -> None:
    async def main() -> None:
        async with Echo(path) as echo:
            await _put_all(echo, share, barrier, results)

    anyio.run(main)


async def _put_all(
    queue: aiomanager.AsyncQueue[Any] | Peer, share: range, barrier: Any, results: Any
) -> None:
    await queue.put("warm")
    items = iter(_own(share))
    barrier.wait()

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


def _put_blocking(address: Any, authkey: bytes, share: range, barrier: Any, results: Any) -> None:
    proxy = _proxy(address, authkey)
    proxy.put("warm")
    items = _own(share)
    barrier.wait()
    barrier.wait()
    start = time.perf_counter()
    for item in items:
        proxy.put(item)
    results.put((start, time.perf_counter()))
    barrier.wait()


def _own(share: range) -> list[str]:
    """The items that a process puts, made there: of what it has from its parent, it would copy a
    page for each item, as the count of an item's references stands beside it."""
    return [small_item(number) for number in share]


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
    falls = Table(
        f"puts a second of {MANY} client processes, to those of {FEW} of the same kind",
        ["", "times"],
        [
            [label, figure(samples.ratio(f"{kind} {MANY}", f"{kind} {FEW}", "puts"))]
            for kind, label in LABELS.items()
            if samples.has(f"{kind} {MANY}")
        ],
    )
    lines: dict[str, tuple[list[float], list[float]]] = {}
    for kind, label in LABELS.items():
        found = [count for count in COUNTS if samples.has(f"{kind} {count}")]
        lines[label] = (
            [float(count) for count in found],
            [samples.median(f"{kind} {count}", "puts") or 0.0 for count in found],
        )
    panel = Panel("putting at once", "client processes", "puts a second, all together", lines)
    return Report([claim], [table, falls], [Plot("clients", [panel])])


BENCHMARK = Benchmark("clients", "many client processes", cases, summarise, rounds=3)
