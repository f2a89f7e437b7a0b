"""A hosted queue without a process, a socket or real time, and two who use it."""

from __future__ import annotations

import pytest

from aiomanager._broker.queue import HostedQueue
from tests.support.hosted_calls import FakeTimers, Owner


@pytest.fixture
def clock() -> FakeTimers:
    """A clock that stands until it is moved."""
    return FakeTimers()


@pytest.fixture
def queue(clock: FakeTimers) -> HostedQueue:
    """A queue without bounds."""
    return HostedQueue(clock)


@pytest.fixture
def small(clock: FakeTimers) -> HostedQueue:
    """A queue with room for two."""
    return HostedQueue(clock, maxsize=2)


@pytest.fixture
def one(queue: HostedQueue) -> Owner:
    """One who uses the queue."""
    return Owner(queue, "one")


@pytest.fixture
def other(queue: HostedQueue) -> Owner:
    """Another who uses the queue."""
    return Owner(queue, "other")
