"""Hosts, lanes and queues for the tests of the contract."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import pytest

from aiomanager import AsyncManager, AsyncQueue
from tests.contract.hosts import KINDS, LANES, Host, Place, memory, running


@pytest.fixture(scope="session", autouse=True)
def host_processes(scratch: object) -> Iterator[Mapping[str, Host]]:
    """A host process of each kind."""
    with contextlib.ExitStack() as stack:
        yield {kind: stack.enter_context(running(kind)) for kind in KINDS if kind != "memory"}


def _places() -> Iterator[Any]:
    for kind in KINDS:
        for lane in LANES:
            if kind != "memory":
                yield pytest.param((kind, lane), id=f"{kind}-{lane}")
            elif lane == LANES[0]:
                yield pytest.param((kind, None), id=kind)


@pytest.fixture(params=_places())
def place(request: pytest.FixtureRequest, host_processes: Mapping[str, Host]) -> Place:
    """Each kind of host, and each lane to it."""
    kind, lane = request.param
    return Place(memory() if kind == "memory" else host_processes[kind], lane)


@pytest.fixture
async def manager(place: Place) -> AsyncIterator[AsyncManager]:
    """A client of the host."""
    async with place.connect() as manager:
        yield manager


@pytest.fixture
async def queue(place: Place, manager: AsyncManager) -> AsyncQueue[Any]:
    """An unbounded queue that nobody has used."""
    return manager.queue(place.host.name())


@pytest.fixture
async def small(place: Place, manager: AsyncManager) -> AsyncQueue[Any]:
    """A queue with room for two items, that nobody has used."""
    return manager.queue(place.host.name(2))
