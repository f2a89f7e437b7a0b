"""A stock host for each test, and clients of it on both transports."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import aiomanager
from tests.engines.stock.host import StockHost
from tests.support.faults import KEY


@pytest.fixture
def host(socket_path: str) -> Iterator[StockHost]:
    """A stock host."""
    with StockHost(socket_path) as running:
        yield running


@pytest.fixture(params=["stream", "thread"])
def connect(request: pytest.FixtureRequest, host: StockHost) -> Any:
    """What connects to it, on each transport."""

    def connect_by_transport(path: str = host.path, **options: Any) -> aiomanager.AsyncManager:
        return aiomanager.connect(path, KEY, transport=request.param, **options)

    return connect_by_transport
