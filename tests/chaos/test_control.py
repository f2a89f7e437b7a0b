"""The negative control: the same faults at a stock host, or with a client of the standard library,
where the checker has to find what is known to go wrong there. What has never failed proves
nothing."""

from __future__ import annotations

import pytest

from tests.chaos.catalogue import FAULTS
from tests.chaos.faults import carry_out
from tests.chaos.processes import Nursery

# What has to be among the problems, and in how many of the trials at least.
EXPECTED: dict[tuple[str, str], dict[str, float]] = {
    ("F1", "queue"): {"lost": 0.8},
    ("F1", "joinable"): {"lost": 0.8},
    ("F2", "queue"): {"lost": 0.8, "hung": 0},  # join()
    ("F2", "joinable"): {"lost": 0.8, "hung": 0},
    ("F3", "queue"): {"lost": 0},
    ("F4b", "queue"): {"ghosts": 0.8},
    ("F6", "queue"): {"hung": 0},  # proxies that never find the new host
    ("F7", "queue"): {"failures": 0},  # exit codes, and files that stay
    ("F8", "queue"): {"left_behind": 1},
    ("F9", "queue"): {"lost": 0, "enqueued_twice": 0},
    ("F10", "queue"): {"failures": 0},  # replies mixed up
    ("F11", "queue"): {"hung": 0},
    ("F13", "queue"): {"lost": 0.8},
    ("F21b", "queue"): {"hung": 0},  # deaf for ever
}


@pytest.mark.parametrize("code, hosting", EXPECTED, ids=["-".join(key) for key in EXPECTED])
def test_a_stock_host_fails(nursery: Nursery, seed: int, code: str, hosting: str) -> None:
    """The checker says what goes wrong there, and how often."""
    fault = FAULTS[code]
    outcome = carry_out(
        fault, nursery, fault.control, seed, hosting=hosting, longest_wait=fault.patience
    )
    print(f"seed {seed}: {outcome.report} {outcome.notes}")  # noqa: T201 - shown where it fails
    for problem, share in EXPECTED[code, hosting].items():
        found = outcome.report.problems.get(problem, [])
        assert len(found) >= max(1, share * outcome.trials), problem
