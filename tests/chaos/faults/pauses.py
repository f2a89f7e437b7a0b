"""F11: consumers that are stopped for longer than their leases last, and then go on."""

from __future__ import annotations

from tests.chaos.faults import Fault
from tests.chaos.stage import Stage
from tests.chaos.waits import until

LEASE = 0.3
WORK = 0.15  # long enough to be stopped in, and shorter than the lease
AT_ONCE = 5


def stopped_consumers(stage: Stage, trials: int) -> None:
    """A consumer is stopped at work until somebody else has its message; what it then says of it
    is refused and changes nothing."""
    kinds = ("deliveries", "deliveries", "iterate", "consume")
    for count in stage.rounds(trials, AT_ONCE):
        victims = [
            stage.consumer(stage.rng.choice(kinds), work_at_least=WORK, concurrency=1)
            for _ in range(count)
        ]
        stage.until_waiting(victims)
        stage.put(count)
        for victim in victims:
            victim.until("delivered")
            victim.stop()
        other = stage.consumer("deliveries")
        held = [victim.log.update()[-1]["id"] for victim in victims]
        until(
            lambda other=other, held=held: (
                set(held)  # type: ignore[misc]
                <= {r["id"] for r in other.log.update() if r["e"] == "processed"}
            ),
            "somebody else did the work",
        )
        stage.end(other)
        for victim in victims:
            victim.resume()
            victim.until("processed")
            stage.end(victim)


F11 = Fault(
    code="F11",
    title="consumer stopped (SIGSTOP) past its lease, then acks",
    short=20,
    long=500,
    inject=stopped_consumers,
    settings={"lease_timeout": LEASE},
)
ALL = (F11,)
