"""J1: `join()` beside consumers that are killed, that say twice that an item is done, and that say
so when it is not theirs any more."""

from __future__ import annotations

import pickle

from tests.chaos.checker import Rules
from tests.chaos.faults import Fault
from tests.chaos.messages import digest
from tests.chaos.raw import RawClient
from tests.chaos.stage import KEY, QUEUE, Stage


def meddled_joins(stage: Stage, trials: int) -> None:
    """Of three items one is taken, and said to be done twice; one is leased, and settled twice;
    and one is worked on by a consumer that is killed. `join()` returns when that one is done."""
    for _ in stage.rounds(trials):
        stage.put(3)
        victim = stage.consumer("deliveries", hold=True)
        victim.until("delivered")
        with RawClient(stage.address, KEY, f"meddler{stage.trials}") as meddler:
            run = meddler.run
            ((taken, _, first), (leased, _, second)) = meddler.own(QUEUE, "receive", 2, 0)
            meddler.own(QUEUE, "take", [taken])
            operation, join = stage.attempt("join"), meddler.ask(QUEUE, "join")
            _done(stage, first, taken=True)
            counted = [meddler.own(QUEUE, "task_done", 1, run) for _ in range(2)]
            stage.check(counted == [1, 0], f"done twice: {counted}")
            _done(stage, second)
            settled = [meddler.own(QUEUE, "settle", [(leased, "ack", 0.0)]) for _ in range(2)]
            stage.check(settled == [[True], [False]], f"settled twice: {settled}")
            if early := meddler.answered(join):
                stage.note("ok", op=operation)
            stage.kill(victim)
            worker = stage.consumer("deliveries")
            worker.until("processed")
            if not early:
                meddler.answer(join)
                stage.note("ok", op=operation)
            stage.end(worker)


def _done(stage: Stage, data: bytes, *, taken: bool = False) -> None:
    message = pickle.loads(data)
    stage.note("delivered", id=message["id"], sha=digest(message), attempt=1, taken=taken)
    stage.note("processed", id=message["id"])


J1 = Fault(
    code="J1",
    title="join() beside consumers that are killed, or say done twice",
    short=5,
    long=200,
    at_once=50,
    inject=meddled_joins,
    rules=Rules(exactly_once=True),
)
ALL = (J1,)
