"""F9 and F10: calls that are cancelled, and calls that a signal interrupts."""

from __future__ import annotations

import signal

from tests.chaos.checker import Rules
from tests.chaos.faults import Fault
from tests.chaos.processes import Program
from tests.chaos.programs.cancels import EVERY_CALL
from tests.chaos.stage import BACKENDS, QUEUE, TRANSPORTS, Stage
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
            transport=stage.rng.choice(TRANSPORTS),
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
    enough = stage.folder / "enough"
    options = {"calls": EVERY_CALL, "count": share, "enough": str(enough)}
    programs = [
        stage.start(kind, f"interrupted{number}", backend=backend, **options)
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
        if stage.time_is_up and number < share:
            enough.touch()
            for program in programs:
                program.until("calling", number + 1)
                program.signal(signal.SIGINT)
            break
    for program in programs:
        stage.see_end(program)
    if stage.hosting == "ours":
        _finish_for_them(stage, programs)


def _finish_for_them(stage: Stage, programs: list[Program]) -> None:
    """Whoever is interrupted in `task_done` cannot know whether it was counted. What he had taken
    is his, so that `join` waits for it for ever, and rightly; and there are no more of these."""
    stage.consumer("deliveries")
    stage.until_statistics(
        lambda counts: not (counts["qsize"] or counts["leased"] or counts["delayed"]),
        "what nobody has taken is done",
    )
    taken = stage.statistics()["unfinished"]
    unknown = sum(_unknown_acks(program) for program in programs)
    stage.check(taken <= unknown, f"{taken} items are taken, but {unknown} were left in task_done")
    stage.task_done(taken)


def _unknown_acks(program: Program) -> int:
    records = program.log.update()
    acks = {record["op"] for record in records if record["e"] == "ack"}
    ended = {record["op"] for record in records if record["e"] in ("ok", "fail")}
    return len(acks - ended)


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
    seconds=200.0,
    control=60,
    inject=interrupted_calls,
    # An ack with which an event loop ends may not have been sent.
    rules=Rules(in_order=False),
)
ALL = (F9, F10)
