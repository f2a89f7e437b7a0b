"""The faults of reliability's list, each by its number, and how one is carried out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.checker import Report, Rules
from tests.chaos.processes import Nursery
from tests.chaos.stage import QUEUE, Stage
from tests.chaos.waits import Stuck, patience


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something that goes wrong.

    Attributes:
        code: its number, with a letter where one number is several.
        title: what goes wrong, in a few words.
        short, long: how often, in the test suite and in the long run.
        at_once: how often on one stage in the long run, at least.
        control: how often at a stock host, to see it fail there; 0 where it says nothing.
        patience: seconds that are waited there for what will not happen.
        inject: starts what is to go wrong and lets it, so many times.
        queues, settings: of the host that is there before; None for `inject` to start its own.
        rules: what the logs have to show.
        tcp: whether the host listens on loopback.
        side_by_side: stages at the same time in the long run, where each of them mostly waits.
        seconds: that it may take in the long run of an hour, or more where others take less.
    """

    code: str
    title: str
    short: int
    long: int
    inject: Callable[[Stage, int], None]
    queues: dict[str, int] | None = field(default_factory=lambda: {QUEUE: 0})
    settings: dict[str, Any] = field(default_factory=dict)
    rules: Rules = field(default_factory=Rules)
    tcp: bool = False
    seconds: float = 100.0
    at_once: int = 100
    side_by_side: int = 1
    control: int = 0
    patience: float = 2.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a fault: `notes` are measurements beside the report."""

    fault: Fault
    trials: int
    seconds: float
    report: Report
    notes: dict[str, Any]


def carry_out(
    fault: Fault,
    nursery: Nursery,
    trials: int,
    seed: int,
    *,
    hosting: str = "ours",
    defect: str | None = None,
    seconds: float = 3600.0,
    longest_wait: float = math.inf,
    first: int = 0,
) -> Outcome:
    """Let it go wrong so many times, or for so many seconds, and check what the logs say.

    Args:
        longest_wait: seconds after which whatever does not happen is stuck, where it is less than
            what is usual for it.
        first: how often it has happened before, on other stages.
    """
    began = time.monotonic()
    with (
        patience(longest_wait),
        Stage(
            nursery,
            seed,
            hosting=hosting,
            defect=defect,
            tcp=fault.tcp,
            seconds=seconds,
            first=first,
        ) as stage,
    ):
        try:
            if fault.queues is not None:
                stage.start_host(fault.queues, **fault.settings)
            fault.inject(stage, trials)
        except (Stuck, OSError, EOFError) as exc:
            stage.hung(f"{type(exc).__name__}: {exc}")
            stage.trials += 1  # the one that it got stuck in
            stage.broken = True
        report = stage.finish(fault.rules)
        return Outcome(
            fault=fault,
            trials=stage.trials,
            seconds=time.monotonic() - began,
            report=report,
            notes=stage.notes,
        )
