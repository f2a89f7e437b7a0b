"""Whatever is killed, stopped, cut off or cancelled, nothing is lost: each fault a few times.

`python -m tests.chaos --long` lets each happen as often as it takes to bound its rate.
"""

from __future__ import annotations

import pytest

from tests.chaos.catalogue import FAULTS
from tests.chaos.faults import Fault, carry_out
from tests.chaos.processes import Nursery

SHORT = [fault for fault in FAULTS.values() if fault.short]


@pytest.mark.parametrize("fault", SHORT, ids=[fault.code for fault in SHORT])
def test_fault(nursery: Nursery, seed: int, fault: Fault) -> None:
    """Nothing is lost, doubled, reordered, left hanging or left behind."""
    outcome = carry_out(fault, nursery, fault.short, seed)
    print(f"seed {seed}: {outcome.report} {outcome.notes}")  # noqa: T201 - shown where it fails
    assert outcome.report.problems == {}
    assert outcome.trials > 0
