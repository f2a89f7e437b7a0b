"""How gets come to be fetched for together."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import anyio.lowlevel
import pytest

from aiomanager import AsyncQueue
from aiomanager._concurrency.futures import Future
from aiomanager._queue.fetcher import MANY
from aiomanager.engines.base import Received
from aiomanager.engines.memory import MemoryClient, MemoryEngine, MemoryHost

pytestmark = [pytest.mark.anyio, pytest.mark.every_python]


async def settled() -> None:
    """Wait until nothing more happens: callbacks wake tasks, which ask for callbacks."""
    for _ in range(3):
        for _ in range(4):
            await anyio.lowlevel.checkpoint()
        await anyio.wait_all_tasks_blocked()


class HeldEngine(MemoryEngine):
    """Keeps what it has to answer until it is told, as if that had to come from far.

    Attributes:
        asked: for how many items each fetch was.
        taken: how many items each take was for.
    """

    messages_are_cheap = True

    def __init__(self, client: MemoryClient) -> None:
        super().__init__(client, "jobs")
        self.asked: list[int] = []
        self.taken: list[int] = []
        self._received: list[tuple[Future[list[Received]], Future[list[Received]]]] = []
        self._takes: list[tuple[Future[list[bool]], Future[list[bool]]]] = []

    def receive(self, count: int, timeout: float | None) -> Future[list[Received]]:
        assert not self._received, "two fetches at once"
        self.asked.append(count)
        self._received.append((super().receive(count, timeout), Future()))
        return self._received[0][1]

    def take(self, received: Sequence[Received], channel: str) -> Future[list[bool]]:
        assert not self._takes, "two takes at once"
        self.taken.append(len(received))
        self._takes.append((super().take(received, channel), Future()))
        return self._takes[0][1]

    async def answer_fetch(self) -> None:
        """Answer the fetch, and wait until nothing more happens."""
        received, answer = self._received.pop()
        received.add_done_callback(lambda future: answer.set_result(future.value))
        await settled()

    async def answer_take(self, *, lost: bool = False) -> None:
        """Answer the take, that all was `lost` meanwhile if so, and wait until nothing more
        happens."""
        taken, answer = self._takes.pop()
        taken.map(lambda owned: [not lost for _ in owned]).add_done_callback(
            lambda future: answer.set_result(future.value)
        )
        await settled()


@pytest.fixture
async def engine():
    """An engine whose gets wait."""
    client = MemoryClient(MemoryHost(None))
    yield HeldEngine(client)
    client.close()


async def get_by(count: int, queue: AsyncQueue[int], group: anyio.abc.TaskGroup) -> list[int]:
    """Have so many coroutines get one of many items after the other; what they have got."""
    await queue.put_many(range(100 * MANY))
    got: list[int] = []

    async def get() -> None:
        while True:
            got.append(await queue.get())

    for _ in range(count):
        group.start_soon(get)
    await settled()
    return got


@pytest.fixture
def queue(engine):
    """Its queue."""
    return AsyncQueue(lambda: engine, "jobs")


async def test_few_gets_gather(engine, queue):
    """Whom one fetch has served come along to the next, all of them together."""
    async with anyio.create_task_group() as group:
        got = await get_by(5, queue, group)
        for turn in range(1, 4):
            assert engine.asked == [5] * turn
            await engine.answer_fetch()
            assert engine.taken == [5] * turn
            assert engine.asked == [5] * turn, "a fetch that those who wake cannot come along to"
            await engine.answer_take()
            assert sorted(got) == list(range(5 * turn))
        group.cancel_scope.cancel()


async def test_many_gets_are_fetched_for_in_halves(engine, queue):
    """While one half takes what it has got, the other is fetched for."""
    async with anyio.create_task_group() as group:
        got = await get_by(2 * MANY, queue, group)
        for turn in range(1, 5):
            assert engine.asked == [MANY] * turn
            await engine.answer_fetch()
            assert engine.taken == [MANY] * turn
            assert engine.asked == [MANY] * (turn + 1), "a fetch that waits for the take"
            await engine.answer_take()
            assert sorted(got) == list(range(MANY * turn))
        group.cancel_scope.cancel()


async def test_many_gets_gather_where_messages_are_dear(engine):
    """As on the thread transport, where a message costs more than what it hides."""
    engine.messages_are_cheap = False
    async with anyio.create_task_group() as group:
        await get_by(2 * MANY, AsyncQueue(lambda: engine, "jobs"), group)
        for turn in range(1, 4):
            assert engine.asked == [2 * MANY] * turn
            await engine.answer_fetch()
            await engine.answer_take()
        group.cancel_scope.cancel()


async def test_who_has_lost_what_was_fetched_is_the_first_to_be_served_again(engine, queue):
    """Also where the next fetch has begun before that came out."""
    async with anyio.create_task_group() as group:
        got = await get_by(2 * MANY, queue, group)
        await engine.answer_fetch()
        await engine.answer_take(lost=True)
        assert got == []
        for turn in range(1, 4):
            await engine.answer_fetch()
            await engine.answer_take()
            assert sorted(got) == list(range(MANY, MANY * (turn + 1)))
        group.cancel_scope.cancel()


async def test_all_have_lost_what_was_fetched_and_nobody_else_waits(engine, queue):
    """Nobody but themselves is there to begin the next fetch."""
    async with anyio.create_task_group() as group:
        await queue.put_many(range(4 * MANY))
        got: list[int] = []

        async def get() -> None:
            got.append(await queue.get())

        for _ in range(2 * MANY):
            group.start_soon(get)
        await settled()
        await engine.answer_fetch()  # the first half's, whose take is on its way
        await engine.answer_fetch()  # the second half's, whose take waits for that
        await engine.answer_take(lost=True)
        await engine.answer_take(lost=True)
        while len(got) < 2 * MANY:
            await engine.answer_fetch()
            await engine.answer_take()
    assert sorted(got) == list(range(2 * MANY, 4 * MANY))


async def test_closing_waits_for_a_take(engine, queue):
    """What it brings may have to go back."""
    ends: list[str] = []

    async def get() -> None:
        await queue.get()
        ends.append("got")

    async def close() -> None:
        await queue.aclose()
        ends.append("closed")

    await queue.put(1)
    async with anyio.create_task_group() as group:
        group.start_soon(get)
        await settled()
        await engine.answer_fetch()
        group.start_soon(close)
        await settled()
        assert ends == []
        await engine.answer_take()
    assert sorted(ends) == ["closed", "got"]
