"""Locks of a stock manager through `wrap`: who has them, and that nobody keeps one who has left."""

from __future__ import annotations

import pytest

from tests.support import objects


@pytest.fixture(scope="module")
def manager():
    """One stock manager for all tests here."""
    with objects.running() as running:
        yield running
