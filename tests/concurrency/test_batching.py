"""How puts come to travel together."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest

from aiomanager import AsyncQueue
from aiomanager._concurrency.batching import MANY
from aiomanager._concurrency.futures import Future
from aiomanager.engines.base import Ticket
from aiomanager.engines.memory import MemoryClient, MemoryEngine, MemoryHost
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.every_python]


class HeldEngine(MemoryEngine):
    """Keeps what it has to answer to a put until it is told.

    Attributes:
        sent: how many frames each batch had.
    """

    def __init__(self, client: MemoryClient) -> None:
        super().__init__(client, "jobs")
        self.sent: list[int] = []
        self._held: tuple[
            Future[tuple[int, Exception | None]], Future[tuple[int, Exception | None]]
        ]

    def put(
        self, frames: Sequence[bytes], timeout: float | None, ticket: Ticket
    ) -> Future[tuple[int, Exception | None]]:
        self.sent.append(len(frames))
        self._held = super().put(frames, timeout, ticket), Future()
        return self._held[1]

    async def answer(self) -> None:
        """Answer the last batch, and wait for the next."""
        batches = len(self.sent)
        put, answer = self._held
        put.add_done_callback(lambda future: answer.set_result(future.value))
        await wait_until(lambda: len(self.sent) > batches, description="the next batch")
        await anyio.wait_all_tasks_blocked()


@pytest.fixture
async def engine():
    """An engine whose puts wait."""
    client = MemoryClient(MemoryHost(None))
    yield HeldEngine(client)
    client.close()


async def put_by(count: int, engine: HeldEngine, answers: int) -> Sequence[int]:
    """Have so many coroutines put one item after the other; the batches that were sent."""
    queue: AsyncQueue[int] = AsyncQueue(lambda: engine, "jobs")

    async def put() -> None:
        while True:
            await queue.put(1)

    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(put)
        await anyio.wait_all_tasks_blocked()
        for _ in range(answers):
            await engine.answer()
        group.cancel_scope.cancel()
    return engine.sent


async def test_one_put_leaves_at_once(engine):
    """It has nobody to wait for."""
    assert await put_by(1, engine, 3) == [1, 1, 1, 1]


async def test_few_puts_gather(engine):
    """Whom one batch has woken leaves with the next, all of them together."""
    assert await put_by(5, engine, 4) == [1, 4, 5, 5, 5]


async def test_many_puts_travel_in_halves(engine):
    """One half is on its way while the other comes back from its own."""
    sent = await put_by(4 * MANY, engine, 6)
    half = 2 * MANY
    assert sent == [1, 2 * half - 1, half - 1, half + 1, half - 1, half + 1, half - 1]
