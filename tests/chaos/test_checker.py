"""The checker, on logs made by hand: what it has to see, and what it must not."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import logs
from tests.chaos.checker import PARENT, Report, Rules, check, check_records

pytestmark = pytest.mark.every_python

_times = itertools.count(1)


def event(name: str, **fields: Any) -> dict[str, Any]:
    """A record, later than all before it."""
    return {"e": name, "t": float(next(_times)), **fields}


def put(op: int, ident: str, outcome: str | None = "ok") -> list[dict[str, Any]]:
    """The records of a put."""
    tried = event("put", op=op, ids=[ident], sha=["s"])
    return [tried] if outcome is None else [tried, event(outcome, op=op)]


def got(ident: str, attempt: int | None = 1, *, sha: str = "s", taken: bool = False) -> Any:
    """The records of a message that was received and processed."""
    fields: dict[str, Any] = {"id": ident, "sha": sha, "attempt": attempt, "taken": taken}
    return [event("delivered", **fields), event("processed", id=ident)]


def acked(ident: str) -> list[dict[str, Any]]:
    """The records of an ack that was accepted."""
    return [event("ack", op=9, id=ident), event("ok", op=9)]


def report(rules: Rules | None = None, **records: list[dict[str, Any]]) -> Report:
    """What the checker says of the logs of processes."""
    return check_records(records, rules or Rules())


def test_what_went_well_is_valid():
    """Put, delivered, processed, joined: nothing to say."""
    found = report(
        p=put(1, "p:0") + put(2, "p:1"),
        c=[*got("p:0"), *got("p:1"), event("join", op=1), event("ok", op=1)],
    )
    assert found.valid
    assert (found.attempts, found.acked, found.processed, found.duplicated) == (2, 2, 2, 0)


@pytest.mark.parametrize(
    "name, records",
    {
        "lost": {"p": put(1, "p:0"), "c": []},
        "lost, though delivered": {"p": put(1, "p:0"), "c": got("p:0")[:1]},
        "unexpected": {"p": [], "c": got("p:0")},
        "unexpected, as its put failed": {"p": put(1, "p:0", "fail"), "c": got("p:0")},
        "unexpected, with other bytes": {"p": put(1, "p:0"), "c": got("p:0", sha="x")},
        "enqueued_twice": {"p": put(1, "p:0"), "c": got("p:0"), "d": got("p:0")},
        "enqueued_twice, as it was taken": {
            "p": put(1, "p:0"), "c": got("p:0", None, taken=True), "d": got("p:0", 2),
        },
        "hung": {"p": put(1, "p:0", None), "c": []},
        "hung, says the parent": {PARENT: [event("hung", why="x")]},
        "disordered": {"p": put(1, "p:0") + put(2, "p:1"), "c": [*got("p:1"), *got("p:0")]},
        "left_behind": {PARENT: [event("left", why="a thread")]},
        "failures": {"c": [event("error", why="TypeError")]},
        "early_joins": {
            "p": put(1, "p:0"), "j": [event("join", op=1), event("ok", op=1)], "c": got("p:0"),
        },
        "stale_acks": {
            "p": put(1, "p:0"), "c": got("p:0"),
            "d": got("p:0", 2),
        },
    }.items(),
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_must_not_be_is_seen(name: str, records: dict[str, Any]):
    """Each kind of problem is found, and no other beside it."""
    kind = name.partition(",")[0]
    if kind == "stale_acks":
        records = {**records, "c": [*records["c"], *acked("p:0")]}
    assert list(report(**records).problems) == [kind]


def test_unknown_puts_may_come_out_or_not():
    """A put whose producer was killed is neither lost nor unexpected; what came out of such ones
    is counted, and is wrong where it had been waiting for room."""
    records = {
        "parent": [event("killed", who="p")],
        "p": put(1, "p:0", "unknown") + put(2, "p:1", "unknown") + put(3, "p:2", None),
        "c": got("p:1"),
    }
    found = report(**records)
    assert found.valid
    assert (found.unknown, found.recovered) == (3, 1)
    assert report(Rules(no_ghosts=True), **records).ghosts == ["p:1"]


def test_where_nothing_may_be_redone_a_duplicate_is_a_problem():
    """A message that was processed twice is counted, and is wrong where nobody was killed."""
    records = {"p": put(1, "p:0"), "c": got("p:0"), "d": got("p:0", 2)}
    assert report(**records).valid
    assert report(**records).duplicated == 1
    assert report(Rules(exactly_once=True), **records).processed_twice == ["p:0"]


def test_whoever_is_interrupted_says_no_more_of_what_was_under_way():
    """It is unknown what came of it; it does not hang."""
    found = report(p=[*put(1, "p:0", None), event("interrupted"), *put(2, "p:1")], c=got("p:1"))
    assert found.valid
    assert (found.unknown, found.acked) == (1, 1)


def test_a_delivery_of_an_older_lease_may_come_late():
    """Where connections end with messages on them, who had a message before may see it after the
    one who took it; what is taken twice, or acked by who no longer has it, is wrong there too."""
    rules = Rules(overtaken=True)
    puts, taken, late = put(1, "p:0"), got("p:0", None, taken=True), got("p:0", None)
    assert report(rules, p=puts, c=taken, d=late).valid
    assert report(p=puts, c=taken, d=late).enqueued_twice == ["p:0"]
    again = got("p:0", None, taken=True)
    assert report(rules, p=puts, c=taken, d=again).enqueued_twice == ["p:0"]
    first, older, second = got("p:0", 2), got("p:0", None), got("p:0", 3)
    settled = acked("p:0")
    assert report(rules, p=puts, c=first + settled, d=older).valid
    assert report(rules, p=puts, c=first + settled, d=second).stale_acks == ["c: p:0"]


def test_what_a_dead_host_had_is_not_lost():
    """It is counted apart; what was put after the host's death is not excused by it."""
    before = put(1, "p:0")
    death = [event("host-killed")]
    found = report(parent=death, p=before + put(2, "p:1"), c=[])
    assert (found.gone_with_host, found.lost) == (1, ["p:1"])


def test_the_delay_of_a_redelivery_counts_from_the_kill():
    """It is what passed between the end of who had it and the next delivery."""
    puts, first = put(1, "p:0"), got("p:0")[:1]
    kill = [event("killed", who="c")]
    found = report(parent=kill, p=puts, c=first, d=got("p:0", 2))
    assert found.valid
    assert found.max_redelivery_delay == 1.0


def test_a_log_that_was_cut_off_is_read_up_to_there(tmp_path: Path):
    """A process that was killed while it wrote leaves half a line, which says nothing."""
    log = logs.Log(tmp_path / "p.jsonl")
    operation = log.attempt("put", ids=["p:0"], sha=["s"])
    log.write("ok", op=operation)
    log.close()
    with (tmp_path / "p.jsonl").open("ab") as file:
        file.write(b'{"e":"put","op":2,"ids":["p:1')
    found = check(tmp_path, Rules())
    assert (found.attempts, found.lost) == (1, ["p:0"])
