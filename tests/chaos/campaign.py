"""A fault carried out again and again, each time on a stage of its own with another seed, until it
was as often as is asked or its time is up; and what came of it all together."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.checker import Report
from tests.chaos.faults import Fault, carry_out
from tests.chaos.processes import Nursery

LEAST_SECONDS = 10.0  # for a fault, however little time is left


@dataclass(kw_only=True)
class Tally:
    """What came of a fault.

    Attributes:
        asked: how often it was to happen.
        trials: how often it did.
        stages: how many runs that took, with the seeds from `seed` on.
        report: of all runs together.
        invalid: the seeds of the runs that showed a problem.
    """

    fault: Fault
    asked: int
    seed: int
    trials: int = 0
    stages: int = 0
    seconds: float = 0.0
    report: Report = field(default_factory=Report)
    notes: dict[str, Any] = field(default_factory=dict)
    invalid: list[int] = field(default_factory=list)


def repeat(
    fault: Fault, nursery: Nursery, trials: int, seed: int, *, seconds: float, hosting: str = "ours"
) -> Tally:
    """Carry a fault out as often as that, or for as long as that."""
    tally = Tally(fault=fault, asked=trials, seed=seed)
    began = time.monotonic()
    control = hosting != "ours"
    at_once = fault.control if control else max(fault.short, fault.at_once)
    claimed = 0
    lock = threading.Lock()

    def repeat_alone() -> None:
        nonlocal claimed
        while (left := seconds - (time.monotonic() - began)) > 0:
            with lock:
                first, count = claimed, min(at_once, trials - claimed)
                claimed += count
                tally.stages += bool(count)
                run = seed + tally.stages - 1
            if not count:
                break
            outcome = carry_out(
                fault,
                nursery,
                count,
                run,
                hosting=hosting,
                seconds=left,
                longest_wait=fault.patience if control else float("inf"),
                first=first,
            )
            with lock:
                claimed -= count - outcome.trials  # for whoever has time left
                tally.trials += outcome.trials
                tally.report.add(outcome.report)
                _merge(tally.notes, outcome.notes)
                if not outcome.report.valid:
                    tally.invalid.append(outcome.report.seed)
                line = f"{fault.code} {tally.trials}/{trials} {outcome.report}\n"
                sys.stderr.write(line)
            if not outcome.trials:
                break  # what cannot happen once need not be tried again

    with ThreadPoolExecutor(fault.side_by_side) as threads:
        for ended in [threads.submit(repeat_alone) for _ in range(fault.side_by_side)]:
            ended.result()
    tally.seconds = time.monotonic() - began
    return tally


def shares(faults: list[Fault], seconds: float) -> Iterator[tuple[Fault, float]]:
    """Each fault with the time that it may take; what one leaves is the others'."""
    end = time.monotonic() + seconds
    weight = sum(fault.seconds for fault in faults)
    for fault in faults:
        share = (end - time.monotonic()) * fault.seconds / weight
        weight -= fault.seconds
        yield fault, max(share, LEAST_SECONDS)


def _merge(into: dict[str, Any], notes: dict[str, Any]) -> None:
    """The worst of all runs, where a note is a number."""
    for name, value in notes.items():
        before = into.get(name)
        if isinstance(value, (int, float)) and isinstance(before, (int, float)):
            value = max(value, before)  # noqa: PLW2901
        into[name] = value
