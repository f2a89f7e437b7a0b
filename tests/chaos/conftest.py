"""One nursery for all chaos tests, which need `fork` and sockets with a name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.processes import Nursery

collect_ignore_glob = [] if hasattr(os, "fork") else ["test_*.py"]


@pytest.fixture(scope="session")
def nursery(scratch: Path) -> Iterator[Nursery]:
    """The process that forks the programs under fire."""
    process = Nursery()
    yield process
    process.close()


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The same for a test in every run, and another one in each test."""
    return sum(map(ord, request.node.nodeid))
