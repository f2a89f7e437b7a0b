"""A host on a thread of the test's own process, which tests look into."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from aiomanager._host.server import QueueServer
from tests.support.hosts import serving


@pytest.fixture
def host() -> Iterator[QueueServer]:
    """A host of two queues."""
    with serving() as server:
        yield server
