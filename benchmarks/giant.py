"""An item of 1 GiB on its way, and what that means to the host and to its other clients."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiomanager

from . import _memory
from ._results import Claim, Report, Samples, Table, figure
from ._runner import Benchmark, Case, start_child
from .peers.managers import StockManager, start_stock_host

Call = Callable[[], Awaitable[Any]]

LABELS = {"ours": "aiomanager", "stock": "stock host, blocking proxies"}


def cases(quick: bool) -> list[Case]:
    size = 64 * _memory.MIB if quick else 1024**3
    return [Case(key, {"host": key, "size": size}) for key in LABELS]


def sample(host: str, size: int) -> dict[str, float]:
    """Milliseconds of the slowest call of another client while the item was put and got, the
    host's peak memory as a multiple of the item, and the seconds that it all took."""
    return asyncio.run(_ours(size) if host == "ours" else _stock(size))


async def _ours(size: int) -> dict[str, float]:
    async with aiomanager.host(queues={"jobs0": 0, "jobs1": 0}) as manager:
        queue = manager.queue("jobs1")
        return await observe(
            "carry", manager.address, manager.authkey, size, lambda: queue.put(1), queue.get
        )


async def _stock(size: int) -> dict[str, float]:
    manager = start_stock_host(queues=2)
    proxy = manager.jobs1()

    async def put() -> None:
        proxy.put(1)

    async def get() -> None:
        proxy.get()

    return await observe("carry_blocking", manager.address, manager.authkey, size, put, get)


async def observe(
    carrier: str, address: Any, authkey: bytes, size: int, put: Call, get: Call
) -> dict[str, float]:
    """Put and get on another queue while a process carries the item."""
    for _ in range(20):
        await put()
        await get()
    (host,) = _memory.children()
    process = start_child(
        __name__,
        carrier,
        {"address": address, "authkey": authkey.hex(), "size": size},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    await asyncio.to_thread(process.stdout.readline)  # it has its item
    before = _memory.resident(host)
    _memory.reset_peak(host)
    start = time.perf_counter()
    process.stdin.close()
    worst = 0.0
    while process.poll() is None:
        for call in (put, get):
            began = time.perf_counter()
            await call()
            worst = max(worst, time.perf_counter() - began)
        await asyncio.sleep(0.001)
    if process.returncode:
        raise RuntimeError("the process that carries the item failed")
    return {
        "worst": worst * 1000,
        "peak": (_memory.peak(host) - before) / size,
        "seconds": time.perf_counter() - start,
    }


def carry(address: str, authkey: str, size: int) -> None:
    """Put the item and get it back."""

    async def main() -> None:
        item = _item(size)
        async with aiomanager.connect(address, bytes.fromhex(authkey)) as manager:
            queue = manager.queue("jobs0")
            await queue.put(item)
            if await queue.get() != item:
                raise AssertionError("another item came back")

    asyncio.run(main())


def carry_blocking(address: str, authkey: str, size: int) -> None:
    """The same with blocking proxies."""
    StockManager.register("jobs0")
    manager: Any = StockManager(address, authkey=bytes.fromhex(authkey))
    manager.connect()
    proxy = manager.jobs0()
    item = _item(size)
    proxy.put(item)
    if proxy.get() != item:
        raise AssertionError("another item came back")


def _item(size: int) -> bytes:
    """Make the item and wait for the word to begin."""
    item = secrets.token_bytes(_memory.MIB) * (size // _memory.MIB)
    print("ready", flush=True)
    sys.stdin.read()
    return item


def summarise(samples: Samples) -> Report:
    claims = [
        Claim(
            "slowest call of another client while a 1 GiB item is put and got",
            samples.median("ours", "worst"),
            "<=",
            100,
            "ms",
        ),
        Claim("the host's peak memory, to the item", samples.median("ours", "peak"), "<=", 1.2),
    ]
    rows = [
        [label, *(figure(samples.median(key, name)) for name in ("worst", "peak", "seconds"))]
        for key, label in LABELS.items()
        if samples.has(key)
    ]
    table = Table(
        "a 1 GiB item is put and got",
        ["", "slowest other call, ms", "host's peak, items", "seconds"],
        rows,
    )
    return Report(claims, [table])


BENCHMARK = Benchmark("giant", "an item of 1 GiB", cases, summarise, rounds=3, timeout=180)
