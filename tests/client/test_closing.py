"""A manager that closes while very many calls are pending."""

from __future__ import annotations

import time
from typing import Any

import anyio
import pytest

import aiomanager
from aiomanager import ConnectionLostError
from tests.support.faults import RestartableHost
from tests.support.hosts import KEY
from tests.support.waiting import while_busy

pytestmark = pytest.mark.every_python

CALLS = 20_000


# Not with asyncio's debug mode, which takes as long for so many tasks as all the rest.
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_manager_closes_with_many_calls_pending(
    socket_path, transport: Any, backend, monkeypatch
):
    """All end at once, at whatever depth they stand, and say whether they may have happened."""
    monkeypatch.setattr("aiomanager._client.manager.CLOSE_TIMEOUT", 0.2)
    known: list[bool] = []
    begun = ended = 0.0

    async def main(host: RestartableHost) -> None:
        nonlocal begun, ended
        async with anyio.create_task_group() as group:
            manager = aiomanager.connect(host.path, KEY, transport=transport)
            await manager.__aenter__()
            queue = manager.queue("jobs")
            await queue.put("before")
            host.freeze()

            async def put() -> None:
                try:
                    await queue.put(b"x" * 300)
                except ConnectionLostError as exc:
                    known.append(exc.outcome_known)

            for _ in range(CALLS):
                group.start_soon(put)
            await anyio.wait_all_tasks_blocked()
            begun = time.monotonic()
            await manager.aclose()
        ended = time.monotonic()

    with RestartableHost(socket_path) as host:
        anyio.run(main, host, backend=backend)
        host.thaw()
    assert len(known) == CALLS
    assert set(known) == {True, False}, "what was sent is unknown, the rest is not"
    assert ended - begun < while_busy(3)
