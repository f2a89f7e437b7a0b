"""Contract: the options of a manager's queue, where several parts of a program ask for it."""

from __future__ import annotations

from typing import Any

import pytest

import aiomanager
from aiomanager import NO_SENTINEL, ConfigurationError

pytestmark = [pytest.mark.anyio, pytest.mark.every_python]


async def test_options_that_are_left_out_are_those_it_has():
    """Whoever asks first decides; the same options may be said again."""
    async with aiomanager.connect("memory://") as manager:
        first = manager.queue("jobs", sentinel="stop", prefetch=8)
        assert manager.queue("jobs") is first
        assert manager.queue("jobs", sentinel="st" + "op", prefetch=8) is first
        other = manager.queue("others")
        assert (other.sentinel, other.prefetch) == (None, 1)
        assert manager.queue("others", sentinel=None, prefetch=1) is other


@pytest.mark.parametrize(
    "options", [{"sentinel": NO_SENTINEL}, {"sentinel": 0}, {"prefetch": 8}, {"prefetch": 0}]
)
async def test_other_options_than_it_has_are_refused(options: dict[str, Any]):
    """They would be another's as well, whose loop might never end; the error names both."""
    (name,) = options
    async with aiomanager.connect("memory://") as manager:
        queue = manager.queue("jobs")
        has = getattr(queue, name)
        refusal = f"'jobs' has {name}={has!r} .* cannot have {name}={options[name]!r}"
        with pytest.raises(ConfigurationError, match=refusal):
            manager.queue("jobs", **options)
        assert getattr(queue, name) == has
