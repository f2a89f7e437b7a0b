"""Batches of puts and gets, the same for every peer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import anyio

from .peers import Peer

Items = Sequence[Any]


def small_item(number: int) -> str:
    """An item of the articles: a short string, different from the others."""
    return f"Task {number}"


def small_items(count: int) -> list[str]:
    """The first so many of them."""
    return [small_item(number) for number in range(count)]


def sized_items(count: int, size: int) -> list[bytes]:
    """Bytes that do not repeat themselves, each item different from the others."""
    import random

    body = random.Random(size).randbytes(min(size, 1024**2))
    body *= -(-size // len(body))
    return [number.to_bytes(4, "big") + body[4:size] for number in range(count)]


async def put_all(peer: Peer, items: Items, concurrency: int) -> float:
    """Put each item, by so many coroutines; the seconds that it took."""

    async def work(share: Items) -> None:
        put = peer.put
        for item in share:
            await put(item)

    concurrency = min(concurrency, len(items), peer.most_at_once)
    start = time.perf_counter()
    async with anyio.create_task_group() as group:
        for number in range(concurrency):
            group.start_soon(work, items[number::concurrency])
    return time.perf_counter() - start


async def take(peer: Peer, count: int, concurrency: int) -> tuple[float, list[Any]]:
    """Get so many items, by so many coroutines; the seconds that it took, and the items."""
    got: list[Any] = []

    async def work(share: int) -> None:
        get, keep = peer.get, got.append
        for _ in range(share):
            keep(await get())

    concurrency = min(concurrency, count, peer.most_at_once)
    start = time.perf_counter()
    async with anyio.create_task_group() as group:
        for number in range(concurrency):
            group.start_soon(work, len(range(number, count, concurrency)))
    return time.perf_counter() - start, got


def verify(got: Items, items: Items) -> None:
    """Every item arrived, once."""
    if sorted(got) != sorted(items):
        raise AssertionError(f"{len(items)} items were put, and others were got")


async def both(peer: Peer, items: Items, concurrency: int) -> tuple[float, float]:
    """Put all, then get all; the seconds of each."""
    put = await put_all(peer, items, concurrency)
    await peer.turn(len(items))
    seconds, got = await take(peer, len(items), concurrency)
    verify(got, items)
    return put, seconds


async def rates(
    peer: Peer, items: Items, concurrency: int, seconds: float, most: int = 20
) -> tuple[float, float]:
    """Puts and gets a second: the medians of batches, one after the other for so long."""
    import statistics

    results: list[tuple[float, float]] = []
    deadline = time.perf_counter() + seconds
    while not results or (time.perf_counter() < deadline and len(results) < most):
        results.append(await both(peer, items, concurrency))
    puts, gets = zip(*results, strict=True)
    return len(items) / statistics.median(puts), len(items) / statistics.median(gets)
