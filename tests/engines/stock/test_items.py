"""Items that this process keeps for nobody, or cannot unpickle."""

from __future__ import annotations

import time
from functools import partial

import anyio
import pytest

from aiomanager import DecodeError, wrap
from tests.engines.contract.foreign import Parcel, lose
from tests.engines.stock.host import StockHost, blocking
from tests.support.waiting import wait_until

pytestmark = pytest.mark.anyio


async def test_looks_count_what_is_kept_here(connect, host):
    """It waits as well as what is at the host."""
    async with connect() as manager:
        queue = manager.queue("jobs")
        await queue.put_many([1, 2])
        async for delivery in queue.deliveries():
            await delivery.nack(delay=60)
            break
        assert await queue.qsize() == 2
        assert (await queue.statistics()).qsize == 2
        assert await queue.get() == 2
        assert await queue.qsize() == 1
        assert not await queue.empty()


async def test_an_item_that_nobody_here_can_unpickle_lets_others_pass(connect, host: StockHost):
    """It goes to the end of the queue, at longer and longer intervals, for others to have."""
    errors = 0
    async with connect() as manager:
        queue = manager.queue("jobs")
        await queue.put(Parcel("goods"))
        await queue.put_many(range(3))
        received: list[int] = []
        with pytest.MonkeyPatch.context() as patch:
            lose(patch)
            while len(received) < 3:
                try:
                    received.append(await queue.get(timeout=5))
                except DecodeError:
                    errors += 1
            assert received == [0, 1, 2]
            assert errors <= 6
            start = time.monotonic()
            for _ in range(4):
                with pytest.raises(DecodeError):
                    await queue.get(timeout=5)
            assert time.monotonic() - start > 0.1
        standard = await blocking(lambda: host.standard().jobs())
        assert await blocking(lambda: standard.get(timeout=8)) == Parcel("goods")


async def test_a_wrapped_queue_whose_host_was_restarted_says_so(host: StockHost):
    """It has no name by which it could be found again."""
    queue = wrap(await blocking(lambda: host.standard().jobs()))
    await queue.put(1)
    await blocking(host.restart)
    with pytest.raises(Exception, match="restarted"):
        await queue.qsize()
    await queue.aclose()


@pytest.mark.may_leave("tasks")
async def test_what_a_closed_loop_has_left_is_back_while_the_program_goes_on(host: StockHost):
    """Whether the queue itself is still there or not."""

    def use_and_leave(backend: str) -> object:
        queue = wrap(host.standard().jobs())

        async def use() -> None:
            await queue.put_many(["leased", "kept"])
            iteration = queue.deliveries()
            await iteration.__anext__()
            await (await iteration.__anext__()).nack(delay=60)
            kept.append(iteration)
            with anyio.move_on_after(0.05):
                await queue.get()

        anyio.run(use, backend=backend)
        return queue

    kept: list[object] = []
    for backend in ("asyncio", "trio"):
        queue = await blocking(partial(use_and_leave, backend))
        jobs = await blocking(lambda: host.standard().jobs())
        await wait_until(
            lambda jobs=jobs: blocking(lambda: jobs.qsize() == 2),  # type: ignore[misc]
            timeout=3,
            description="both are back",
        )
        items = [await blocking(jobs.get) for _ in range(2)]
        assert sorted(items) == ["kept", "leased"]
        del queue
        kept.clear()
