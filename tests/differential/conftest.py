"""Which face meets which host under which start method.

A scenario is a test that takes a `world`. It runs with the standard library's face, the oracle, and
with ours in several arrangements of event loops, at a stock host and at ours. One that starts
processes is marked `processes`, and meets each start method besides. By default it is met once, by
one arrangement of ours. With $AIOMANAGER_TESTS=differential each face, host and start method is,
the oracle included, and CPython's own tests run; with "full" each combination.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import multiprocessing
import os
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.differential import hosts
from tests.differential.world import World

LEVEL = os.environ.get("AIOMANAGER_TESTS")
FULL = LEVEL == "full"
# Each scenario once takes half a minute, the rest several: by a command of its own.
QUICK = LEVEL not in {"full", "differential"}
if QUICK:
    collect_ignore = ["test_cpython.py"]

FACES = ("standard", "asyncio", "trio", "asyncio-a-call", "asyncio-a-thread", "trio-a-call")
KINDS = ("stock", "joinable", "ours")
METHODS = tuple(
    method
    for method in ("fork", "spawn", "forkserver")
    if method in multiprocessing.get_all_start_methods()
)

_CANCEL_ALL_TASKS: Any = getattr(asyncio.runners, "_cancel_all_tasks")  # noqa: B009 - not in stubs

# Which face meets which host, and under which start method where there are processes.
PAIRS = (
    ("standard", "stock"),
    ("standard", "ours"),
    ("asyncio", "stock"),
    ("asyncio", "ours"),
    ("trio", "stock"),
    ("trio", "ours"),
    ("asyncio-a-call", "stock"),
    ("asyncio-a-call", "ours"),
)
TRIPLES = (
    ("standard", "stock", "fork"),
    ("standard", "ours", "spawn"),
    ("asyncio", "stock", "fork"),
    ("trio", "stock", "spawn"),
    ("asyncio-a-call", "stock", "forkserver"),
    ("trio", "ours", "fork"),
    ("asyncio-a-call", "ours", "fork"),
    ("asyncio", "ours", "spawn"),
    ("trio", "ours", "forkserver"),
)


def pytest_configure(config: pytest.Config) -> None:
    """Say what the marks of these tests mean."""
    config.addinivalue_line("markers", "processes: a scenario that starts processes")
    config.addinivalue_line(
        "markers",
        "only(applies, faces=..., methods=...): where a scenario says much; `applies` is called "
        "with a face and a kind of host, and the others are met instead of those of the default",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a scenario its faces, hosts and start methods."""
    if "world" not in metafunc.fixturenames:
        return
    chosen = list(_choose(metafunc.definition))
    metafunc.parametrize("world", chosen, indirect=True, ids=["-".join(one) for one in chosen])


def _choose(definition: Any) -> Iterator[tuple[str, ...]]:
    mark = definition.get_closest_marker("only")
    applies: Callable[..., bool] = mark.args[0] if mark and mark.args else lambda face, kind: True
    options: dict[str, Any] = mark.kwargs if mark else {}
    faces, methods = options.get("faces", FACES), options.get("methods", METHODS)
    some: Any
    if definition.get_closest_marker("processes") is None:
        every: Any = itertools.product(faces, KINDS)
        some = itertools.product(faces, KINDS[::2]) if "faces" in options else PAIRS
    else:
        every = itertools.product(faces, KINDS, methods)
        some = [one for one in TRIPLES if one[2] in METHODS]
        if methods != METHODS:  # then what the others meet is met under this one
            some = dict.fromkeys((face, kind, methods[0]) for face, kind, _ in some)
    chosen = [tuple(one) for one in (every if FULL else some) if applies(one[0], one[1])]
    if QUICK:
        chosen = [one for one in chosen if one[0] != "standard"]
        chosen = [chosen[zlib.crc32(definition.name.encode()) % len(chosen)]]
    yield from chosen


@pytest.fixture(scope="session")
def differential_hosts(scratch: object) -> Iterator[Callable[[str], Any]]:
    """A host process of each kind that is asked for."""
    with contextlib.ExitStack() as stack:
        running: dict[str, Any] = {}

        def host(kind: str) -> Any:
            if kind not in running:
                running[kind] = stack.enter_context(contextlib.closing(_Running(kind))).host
            return running[kind]

        for kind in KINDS if FULL else KINDS[::2]:
            host(kind)
        yield host


class _Running:
    """A host, with a connection that stays, so that the standard library does not close this
    thread's with the last proxy of each test."""

    def __init__(self, kind: str) -> None:
        self.host = hosts.start(kind)
        self._kept = self.host.dict()
        self._kept.copy()

    def close(self) -> None:
        del self._kept
        self.host.shutdown()


@pytest.fixture
def world(
    request: pytest.FixtureRequest,
    differential_hosts: Callable[[str], Any],
    no_leaks: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[World]:
    """The world of one scenario."""
    face, kind, *method = request.param
    world = World(differential_hosts(kind), kind, face, *(method or ["fork"]))
    # What was wrapped needs no closing. What it runs in a loop ends with the loop, and loops end
    # here as they do in programs, not after a time for tasks that are none of a test's.
    monkeypatch.setattr(asyncio.runners, "_cancel_all_tasks", _CANCEL_ALL_TASKS)
    yield world
    world.close()
