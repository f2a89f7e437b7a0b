"""Contract: `consume()` over each kind of queue, on each event loop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.queue.consumer.hosting import STOCK_KINDS, Hosting, serve


@pytest.fixture(params=["memory", "ours", *STOCK_KINDS])
def hosting(request: pytest.FixtureRequest) -> Iterator[Hosting]:
    """Every kind of host, with nothing in its queues."""
    yield from serve(request.param)


@pytest.fixture
def ours() -> Iterator[Hosting]:
    """A host process of ours."""
    yield from serve("ours")


@pytest.fixture
def impatient() -> Iterator[Hosting]:
    """A host of ours which takes back what is kept for longer than a moment."""
    yield from serve("ours", lease_timeout=0.2)


@pytest.fixture
def memory() -> Iterator[Hosting]:
    """Queues in this process."""
    yield from serve("memory")
