"""F1 to F4: clients that are killed, while they wait, while they work, and at any instant."""

from __future__ import annotations

import contextlib

from tests.chaos.checker import Rules
from tests.chaos.faults import Fault
from tests.chaos.messages import SMALL
from tests.chaos.processes import Program
from tests.chaos.programs.consumers import LEASING
from tests.chaos.stage import QUEUE, Stage
from tests.chaos.waits import Stuck

EVERY_KIND = ("get", *LEASING, "stock")
AT_ONCE = 4  # trials
BATCH = 100  # messages
FULL_BATCH = 500
MESSAGES_A_KILL = 10_000


def waiting_consumers(stage: Stage, trials: int) -> None:
    """Consumers of every kind are killed while they wait, and then messages are put."""
    kinds = EVERY_KIND if stage.hosting == "ours" else ("stock",)
    other = stage.consumer("get" if stage.hosting == "ours" else "stock")
    for count in stage.rounds(trials, AT_ONCE):
        if stage.hosting == "ours":
            # What a new victim got from before it could be killed with, and nobody would do.
            stage.until_statistics(lambda counts: not counts["unfinished"], "all is done")
        victims = [stage.consumer(stage.rng.choice(kinds)) for _ in range(count)]
        stage.until_waiting([other, *victims])
        for victim in victims:
            stage.kill(victim)
        stage.put(count + 1)


def working_consumers(stage: Stage, trials: int) -> None:
    """Consumers are killed with a message in their hands that is not acknowledged."""
    kinds = LEASING if stage.hosting == "ours" else ("stock", "deliveries")
    other = stage.consumer("deliveries" if stage.hosting == "ours" else "stock")
    for count in stage.rounds(trials, AT_ONCE):
        if stage.hosting == "ours":
            # What a new victim had from before it would hold, and wait for nothing.
            stage.until_statistics(lambda counts: not counts["unfinished"], "all is done")
        victims = [
            stage.consumer(stage.rng.choice(kinds), hold=True, concurrency=1) for _ in range(count)
        ]
        stage.until_waiting([other, *victims])
        # The other one is the first in line, and when it has its message it is the last; but the
        # stock queues do not all keep their waiters in line.
        stage.put(count)
        while not all(victim.log.count("delivered") for victim in victims):
            stage.put()
            stage.sleep(0.01)
        for victim in victims:
            stage.kill(victim)


def consumers_under_load(stage: Stage, trials: int) -> None:
    """Consumers are killed at any instant of a busy life, and others take their places."""
    producers = [stage.producer(batch=BATCH) for _ in range(3)] + [stage.producer("stock")]
    stage.consumer("get")
    stage.consumer("stock")
    victims = [stage.consumer(stage.rng.choice(LEASING), work=0.0005) for _ in range(4)]
    for victim in victims:
        victim.until("delivered")
    for _ in stage.rounds(trials):
        stage.sleep(0.03)
        position = stage.rng.randrange(len(victims))
        stage.kill(victims[position])
        victims[position] = stage.consumer(stage.rng.choice(LEASING), work=0.0005)
    _end_producers(stage, producers)


def consumers_under_full_load(stage: Stage, trials: int) -> None:
    """The same with as many messages as go through the queue: thousands for each kill."""
    producers = [stage.producer(batch=FULL_BATCH, sizes=SMALL) for _ in range(2)]
    victims = [stage.consumer(kind) for kind in LEASING]
    for _ in stage.rounds(trials):
        enough = stage.statistics()["done"] + MESSAGES_A_KILL
        stage.until_statistics(lambda counts, n=enough: counts["done"] >= n, "thousands", 120)  # type: ignore[misc]
        position = stage.rng.randrange(len(victims))
        stage.kill(victims[position])
        victims[position] = stage.consumer(LEASING[position])
    _end_producers(stage, producers)


def producers_under_load(stage: Stage, trials: int) -> None:
    """Producers are killed at any instant, in the middle of a message too."""
    for kind in ("deliveries", "stock" if stage.hosting != "ours" else "get"):
        stage.consumer(kind)
    sizes = ((1, 50, 3), (50, 300_000, 2), (300_000, 3_000_000, 1))
    for count in stage.rounds(trials, AT_ONCE):
        victims = [
            stage.producer(stage.rng.choice(("ours", "stock")), sizes=sizes) for _ in range(count)
        ]
        for victim in victims:
            victim.until("put")
        stage.sleep(0.05)
        for victim in victims:
            stage.kill(victim)


def blocked_producers(stage: Stage, trials: int) -> None:
    """Producers are killed while they wait for room: what they wanted to put must not appear,
    as nobody is there who would know of it."""
    kinds = ("ours", "stock") if stage.hosting == "ours" else ("stock",)
    stage.put(1)
    for count in stage.rounds(trials, AT_ONCE):
        victims = [
            stage.producer(stage.rng.choice(kinds), sizes=SMALL, batch=1) for _ in range(count)
        ]
        for victim in victims:
            victim.until("put")
        stage.until_waiting(victims, "waiting_putters")
        for victim in victims:
            stage.kill(victim)
        if stage.hosting == "ours":
            with contextlib.suppress(Stuck):  # then they are ghosts, as will be seen
                stage.until_statistics(lambda counts: not counts["waiting_putters"], "gone", 3)


def _end_producers(stage: Stage, producers: list[Program]) -> None:
    for producer in producers:
        if stage.hosting == "ours" and producer.log.update()[0]["program"] == "producer":
            stage.end(producer)
        else:
            stage.kill(producer)


F1 = Fault(
    code="F1",
    title="consumer killed while it waits, then put",
    short=100,
    long=3000,
    control=40,
    seconds=250.0,
    inject=waiting_consumers,
    rules=Rules(exactly_once=True),
)
F2 = Fault(
    code="F2",
    title="consumer killed with a message in hand",
    short=100,
    long=3000,
    control=40,
    seconds=250.0,
    inject=working_consumers,
)
F3 = Fault(
    code="F3",
    title="consumer killed at any instant under load",
    short=50,
    long=1000,
    at_once=50,
    control=20,
    seconds=600.0,
    inject=consumers_under_load,
    queues={QUEUE: 1000},
)
F3_LOADED = Fault(
    code="F3b",
    title="consumer killed beside each 10,000 messages",
    short=0,
    long=100,
    at_once=10,
    seconds=1200.0,
    inject=consumers_under_full_load,
    queues={QUEUE: 5000},
)
F4 = Fault(
    code="F4",
    title="producer killed at any instant, mid-message too",
    short=50,
    long=1000,
    at_once=50,
    seconds=200.0,
    inject=producers_under_load,
)
F4_GHOSTS = Fault(
    code="F4b",
    title="producer killed while it waits for room",
    short=32,
    long=500,
    control=16,
    inject=blocked_producers,
    queues={QUEUE: 1},
    rules=Rules(exactly_once=True, no_ghosts=True),
)
ALL = (F1, F2, F3, F3_LOADED, F4, F4_GHOSTS)
