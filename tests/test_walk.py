"""A put and a get go a short way, which a reader can follow."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests import walk

# The files of the package that one call may pass through at each side, by what it does today.
# Where it has to come to: 12 at the client and 6 at the host.
MOST_FILES = {"client": 19, "host": 18}


@pytest.fixture(scope="module")
def found() -> walk.Walk:
    """The walk, in a process of its own, in which no detector of the tests joins it."""
    command = [sys.executable, "-m", "tests.walk", "--json"]
    output = subprocess.run(command, cwd=walk.PROJECT, stdout=subprocess.PIPE, check=True).stdout
    walked: walk.Walk = json.loads(output)
    return walked


@pytest.mark.parametrize("side", MOST_FILES)
@pytest.mark.parametrize("direction", ["put", "get"])
def test_the_way_is_short(found, direction, side):
    """A call passes through no more files than a reader keeps in mind."""
    files = list(found[direction][side])
    assert len(files) <= MOST_FILES[side], files


@pytest.mark.parametrize("direction", ["put", "get"])
def test_the_way_begins_at_the_queue_and_ends_at_the_queue(found, direction):
    """The walk is that of an item, from `AsyncQueue` to the queue in the host."""
    assert next(iter(found[direction]["client"])) == "_queue/queue.py"
    assert "_broker/queue.py" in found[direction]["host"]
