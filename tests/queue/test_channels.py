"""What a queue may rely on at its engine: in each channel one call at a time, so that the last
answer of each is all that a host has to remember for a client that has to ask again."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest

from aiomanager import AsyncQueue
from aiomanager._concurrency.futures import Future
from aiomanager.engines.base import Received
from aiomanager.engines.memory import MemoryClient, MemoryEngine, MemoryHost
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.every_python]


class HeldEngine(MemoryEngine):
    """Keeps what it has to answer to a take until it is told."""

    def __init__(self, client: MemoryClient) -> None:
        super().__init__(client, "jobs")
        self.held: dict[str, tuple[Future[list[bool]], Future[list[bool]]]] = {}

    def take(self, received: Sequence[Received], channel: str) -> Future[list[bool]]:
        assert channel not in self.held, f"a call in {channel!r} while another goes on"
        answer: Future[list[bool]] = Future()
        self.held[channel] = super().take(received, channel), answer
        return answer

    def release(self) -> None:
        """Answer."""
        for taken, answer in self.held.values():
            taken.map(answer.set_result)


async def test_who_waits_and_who_does_not_take_beside_one_another():
    """Each in a channel of its own."""
    client = MemoryClient(MemoryHost(None))
    engine = HeldEngine(client)
    queue: AsyncQueue[str] = AsyncQueue(lambda: engine, "jobs")
    await queue.put_many(["a", "b"])
    got: list[str] = []

    async def get(block: bool) -> None:
        got.append(await queue.get(block))

    async with anyio.create_task_group() as group:
        group.start_soon(get, True)
        group.start_soon(get, False)
        await wait_until(lambda: len(engine.held) == 2, description="both take")
        engine.release()
    assert sorted(got) == ["a", "b"]
    client.close()
