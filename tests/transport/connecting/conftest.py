"""Transports to connect by."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from aiomanager._ground.addresses import parse
from aiomanager._host.server import QueueServer
from aiomanager._transport.stream import StreamTransport
from aiomanager._transport.thread import ThreadTransport
from tests.support.hosts import KEY, serving

MakeTransport = Callable[..., Any]


@pytest.fixture(params=["stream", "thread"])
def transport_name(request: pytest.FixtureRequest) -> Any:
    """Both transports, as `connect` names them."""
    return request.param


@pytest.fixture
def transport(transport_name: str) -> MakeTransport:
    """Makes a transport to an address."""

    def make(
        address: Any, timeout: float = 5.0, key: bytes = KEY
    ) -> StreamTransport | ThreadTransport:
        kind = StreamTransport if transport_name == "stream" else ThreadTransport
        return kind(parse(address), key, timeout)

    return make


@pytest.fixture(scope="module")
def host() -> Iterator[QueueServer]:
    """A host at 127.0.0.1."""
    with serving(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Names of hosts, each with the IP addresses that a look-up finds, or what it does instead."""
    known: dict[str, Sequence[str] | Callable[[], Any]] = {}
    _teach(monkeypatch, known)
    return known


def _teach(monkeypatch: pytest.MonkeyPatch, known: Mapping[str, Any]) -> None:
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *args: Any, **kwds: Any) -> Any:
        found = known.get(host)
        if found is None:
            return real(host, port, *args, **kwds)
        if callable(found):
            return found()
        return [entry for ip in found for entry in real(ip, port, *args, **kwds)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
