"""F9 and F10: calls that are cancelled, and calls that a signal interrupts."""

from __future__ import annotations

import signal

from tests.chaos.checker import Rules
from tests.chaos.faults import Fault
from tests.chaos.programs.cancels import EVERY_CALL
from tests.chaos.stage import BACKENDS, LANES, QUEUE, Stage
from tests.chaos.waits import Stuck

INTERRUPTED_AT_ONCE = 3


def cancelled_calls(stage: Stage, trials: int) -> None:
    """Calls of every kind are cancelled at any instant, by every means of every event loop."""
    if stage.hosting != "ours":
        stage.consumer("stock")
        stage.see_end(stage.start("stock canceller", "canceller", count=trials), 10 + trials / 10)
        stage.trials += trials
        return
    share = -(-trials // len(BACKENDS))
    programs = [
        stage.start(
            "canceller",
            f"canceller-{backend}",
            backend=backend,
            lane=stage.rng.choice(LANES),
            calls=EVERY_CALL,
            count=share,
            tasks=6,
        )
        for backend in BACKENDS
    ]
    for program in programs:
        stage.see_end(program, 10 + trials / 100)
        stage.trials += share


def interrupted_calls(stage: Stage, trials: int) -> None:
    """SIGINT ends event loops with calls under way; their processes go on with new ones."""
    share = -(-trials // INTERRUPTED_AT_ONCE)
    kind = "interrupted" if stage.hosting == "ours" else "stock interrupted"
    programs = [
        stage.start(kind, f"interrupted{number}", calls=EVERY_CALL, count=share, backend=backend)
        for number, backend in enumerate(BACKENDS[:INTERRUPTED_AT_ONCE])
    ]
    for number in range(1, share + 1):
        for program in programs:
            program.until("calling", number)
            stage.sleep(0.01)
            program.signal(signal.SIGINT)
        for program in programs:
            try:
                program.until("interrupted", number)
            except Stuck as exc:
                stage.hung(f"{exc} {program.errors[-300:]}")
                stage.trials += 1
                return
            stage.trials += 1
        if stage.time_is_up:
            for program in programs:
                stage.kill(program)
            return
    for program in programs:
        stage.see_end(program)


F9 = Fault(
    code="F9",
    title="get, put, join, ack cancelled at any instant",
    short=2000,
    long=100_000,
    at_once=5000,
    seconds=250.0,
    control=100,
    inject=cancelled_calls,
    queues={QUEUE: 20},
    rules=Rules(exactly_once=True, in_order=False),
)
F10 = Fault(
    code="F10",
    title="SIGINT during every call",
    short=102,
    long=2000,
    control=60,
    inject=interrupted_calls,
    rules=Rules(exactly_once=True, in_order=False),
)
ALL = (F9, F10)
