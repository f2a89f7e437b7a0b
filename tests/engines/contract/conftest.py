"""Hosts, transports and queues for the tests of the contract.

Each transport to each kind of host is tried on one event loop or more, so that every transport
and nearly every kind of host meets every loop. With $AIOMANAGER_TESTS=full everything is tried on
each loop, which takes twice as long.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from aiomanager import AsyncManager, AsyncQueue
from tests.engines.contract.hosts import (
    KINDS,
    TRANSPORTS,
    WITHOUT_PROCESS,
    Host,
    Place,
    running,
    without_process,
)

LOOPS: Mapping[tuple[str, str | None], set[str]] = {
    **{(kind, None): {"asyncio", "trio"} for kind in WITHOUT_PROCESS},
    ("documented", None): {"asyncio"},
    ("ours", "stream"): {"asyncio", "uvloop", "trio"},
    ("ours", "thread"): {"trio"},
    ("stock-queue", "stream"): {"asyncio", "trio"},
    ("stock-queue", "thread"): {"uvloop"},
    ("stock-joinable", "stream"): {"uvloop"},
    ("stock-joinable", "thread"): {"asyncio"},
}
EVERY_PYTHON = {("ours", "stream", "asyncio"), ("stock-queue", "stream", "trio")}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Choose the event loops for each kind of host, and what every Python has to pass."""
    full = os.environ.get("AIOMANAGER_TESTS") == "full"
    chosen: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        if not item.path.is_relative_to(Path(__file__).parent) or "place" not in parameters:
            chosen.append(item)
            continue
        loop, loops = _loops(parameters)
        if (*parameters["place"], loop) in EVERY_PYTHON:
            item.add_marker("every_python")
        (chosen if full or loop in loops else left_out).append(item)
    items[:] = chosen
    config.hook.pytest_deselected(items=left_out)


def _loops(parameters: Mapping[str, Any]) -> tuple[str, set[str]]:
    """The event loop of a test, and those on which it is to run."""
    loops = LOOPS[parameters["place"]]
    if "anyio_backend" in parameters:
        backend, options = parameters["anyio_backend"]
        return "uvloop" if options.get("use_uvloop") else backend, loops
    factory = parameters["_asyncio_loop_factory"]  # pytest-asyncio's
    return factory.__module__.partition(".")[0], loops & {"asyncio", "uvloop"} or {"asyncio"}


@pytest.fixture(scope="session", autouse=True)
def host_processes(scratch: object) -> Iterator[Mapping[str, Host]]:
    """A host process of each kind."""
    with contextlib.ExitStack() as stack:
        yield {
            kind: stack.enter_context(running(kind))
            for kind in KINDS
            if kind not in WITHOUT_PROCESS
        }


@pytest.fixture(scope="session")
def tcp_processes(scratch: object) -> Iterator[Mapping[str, Host]]:
    """Host processes that listen on TCP."""
    with contextlib.ExitStack() as stack:
        yield {
            kind: stack.enter_context(running(kind, ("127.0.0.1", 0)))
            for kind in ("ours", "stock-queue")
        }


def _places() -> Iterator[Any]:
    for kind in KINDS:
        if kind in WITHOUT_PROCESS:
            yield pytest.param((kind, None), id=kind)
        else:
            for transport in TRANSPORTS:
                yield pytest.param((kind, transport), id=f"{kind}-{transport}")


@pytest.fixture(params=_places())
def place(
    request: pytest.FixtureRequest, host_processes: Mapping[str, Host], tmp_path: Path
) -> Place:
    """Each kind of host, and each transport to it."""
    kind, transport = request.param
    if kind in WITHOUT_PROCESS:
        return Place(without_process(kind, str(tmp_path / "host")), transport)
    return Place(host_processes[kind], transport)


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
