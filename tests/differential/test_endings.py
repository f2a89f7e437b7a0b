"""What a program holds for nobody is back in the queue within a second of its end, by every way
that a program ends short of a kill."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.differential import ending
from tests.differential.conftest import FULL, QUICK
from tests.differential.world import PATIENCE, World
from tests.support.programs import PROJECT
from tests.support.waiting import POLL_INTERVAL, while_busy

# Seconds from the end of a program to its item being there for others.
BACK = 1.0
# Seconds for a get that was given up to take the item, which it does where it is at a stock host.
TAKEN = 0.3


def _cases() -> Iterator[tuple[str, ...]]:
    """Each way of ours, and each hold with it unless it is to be quick; with any one combination
    of the rest unless it is to be full."""
    holds = list(ending.HOLDS)
    for turn, way in enumerate(ending.WAYS):
        if way not in {"loop_closed", "thread_left"} and not QUICK:
            yield "standard", "stock", "wrap", "timed_out", way
        for hold in [holds[turn % len(holds)]] if QUICK else holds:
            rest = [case for case in _rest() if _makes_sense(*case, hold, way)]
            number = zlib.crc32(f"{way} {hold}".encode())
            for face, kind, by in rest if FULL else [rest[number % len(rest)]]:
                yield face, kind, by, hold, way


def _rest() -> list[tuple[str, str, str]]:
    kinds = ("stock", "ours", "joinable") if FULL else ("stock", "ours")
    return list(itertools.product(("asyncio", "trio"), kinds, ("wrap", "connect")))


def _makes_sense(face: str, kind: str, by: str, hold: str, way: str) -> bool:
    if face == "trio" and {hold, way} & ending.ASYNCIO_ONLY:
        return False
    # A child is given a proxy.
    return not (by == "connect" and way.startswith("child"))


@pytest.mark.parametrize("face, kind, by, hold, way", list(_cases()))
def test_the_item_is_back(
    differential_hosts: Callable[[str], Any], face: str, kind: str, by: str, hold: str, way: str
) -> None:
    """Within a second, once, and `join` waits for nothing else."""
    host = differential_hosts(kind)
    world = World(host, kind, "standard", "fork")
    try:
        _try(world, face, by, hold, way)
    finally:
        world.close()


def _try(world: World, face: str, by: str, hold: str, way: str) -> None:
    name = world.unused()
    host = world.host
    queue = host.get_queue(name) if world.kind == "ours" else getattr(host, name)()
    options = {
        "face": face,
        "by": by,
        "hold": hold,
        "way": way,
        "name": name,
        "address": host.address,
        "key": bytes(host._authkey).hex(),
    }
    program = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", ending.__name__, json.dumps(options)],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with program:
        try:
            assert program.stdout is not None
            line = program.stdout.readline()
            if line != "left\n":
                pytest.fail(program.communicate(timeout=PATIENCE)[1])
            if hold not in ending.PUT | ending.PUT_LATE:
                queue.put("item")
                _until_taken(queue)
            _tell(program, way)
            errors = program.communicate(timeout=while_busy(PATIENCE))[1]
        finally:
            program.kill()
    ended = time.monotonic()
    if hold in ending.PUT_LATE:
        queue.put("item")
    expected = ending.WAYS[way]
    assert expected is None or program.returncode == expected, errors
    assert queue.get(True, while_busy(BACK)) == "item", errors
    assert time.monotonic() - ended < while_busy(BACK)
    queue.task_done()
    assert queue.qsize() == 0
    world.thread(queue.join).get()


def _until_taken(queue: Any) -> None:
    deadline = time.monotonic() + TAKEN
    while queue.qsize() and time.monotonic() < deadline:
        time.sleep(POLL_INTERVAL)


def _tell(program: subprocess.Popen[str], way: str) -> None:
    if way == "interrupted":
        program.send_signal(signal.SIGINT)
    else:
        assert program.stdin is not None
        program.stdin.write("end\n")
        program.stdin.flush()
