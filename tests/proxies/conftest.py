"""`wrap` over real processes of the standard library's `SyncManager`: contract tests."""

from __future__ import annotations

import pytest

from tests.support import objects


@pytest.fixture(scope="module")
def manager():
    """One stock manager for all tests here."""
    with objects.running() as running:
        yield running


@pytest.fixture(scope="module")
def our_host():
    """A host of ours, with objects beside its queue."""
    with objects.OurManager(None, objects.KEY, queues={"jobs": 0}, ctx="spawn") as host:
        yield host
