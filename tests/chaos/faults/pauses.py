"""F11: consumers that are stopped for longer than their leases last, and then go on."""

from __future__ import annotations

from tests.chaos.faults import Fault
from tests.chaos.stage import Stage

LEASE = 0.3
AT_ONCE = 5
KINDS = ("deliveries", "deliveries", "iterate", "consume")


def stopped_consumers(stage: Stage, trials: int) -> None:
    """A consumer is stopped at work until somebody else has its message; what it then says of it
    is refused and changes nothing."""
    for count in stage.rounds(trials, AT_ONCE):
        # Whoever has a message keeps it until told, so that no load of the machine decides who
        # has what when.
        told, others_told = (
            stage.folder / f"{who}-told-{stage.trials}" for who in ("victims", "others")
        )
        hold = {"work_until": str(told), "concurrency": 1}
        victims = [stage.consumer(stage.rng.choice(KINDS), **hold) for _ in range(count)]
        stage.until_waiting(victims)
        stage.put(count)
        for victim in victims:
            victim.until("delivered")
            victim.stop()
        hold = {"work_until": str(others_told), "concurrency": 1}
        others = [stage.consumer("deliveries", **hold) for _ in victims]
        for other in others:
            other.until("delivered")
        # What the victims now say is of messages that the others have.
        told.touch()
        for victim in victims:
            victim.resume()
        for victim in victims:
            victim.until("processed")
        others_told.touch()
        for other in others:
            other.until("processed")
        if stage.hosting == "ours":
            stage.until_statistics(lambda counts: not counts["unfinished"], "all is done")
        for program in (*victims, *others):
            stage.end(program)


F11 = Fault(
    code="F11",
    title="consumer stopped (SIGSTOP) past its lease, then acks",
    short=20,
    long=500,
    control=5,
    at_once=50,
    seconds=150.0,
    inject=stopped_consumers,
    settings={"lease_timeout": LEASE},
)
ALL = (F11,)
