"""Reads the logs of a run and says what became of every message, in Jepsen's manner.

Acknowledged is what a put returned for; unknown, what was on its way when its producer was killed,
cancelled or cut off: it may come out (`recovered`) or not. Everything else is a claim that the
logs can refute.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from tests.chaos import logs
from tests.chaos.messages import origin

# The log of the process that injects the faults.
PARENT = "parent"


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a run has to show beside the loss of nothing.

    Attributes:
        drained: everything was processed at its end, so that what was not is lost.
        exactly_once: nobody was killed, so that nothing may be processed twice.
        in_order: no get was cancelled, so that each consumer meets a producer's messages in order.
        no_ghosts: whoever was killed in a put was waiting for room, so that none may come out.
        overtaken: connections end with messages on them, so that one that comes to its consumer
            late may be of an older lease than what others have logged before.
    """

    drained: bool = True
    exactly_once: bool = False
    in_order: bool = True
    no_ghosts: bool = False
    overtaken: bool = False


@dataclass(kw_only=True)
class Report:
    """What the logs say. Lists hold message ids or sentences, for whoever looks for the reason."""

    seed: int = 0
    attempts: int = 0
    acked: int = 0
    failed: int = 0
    unknown: int = 0
    delivered: int = 0
    processed: int = 0
    recovered: int = 0
    gone_with_host: int = 0
    duplicated: int = 0
    redeliveries: int = 0
    late_settlements: int = 0
    max_redelivery_delay: float = 0.0
    lost: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    enqueued_twice: list[str] = field(default_factory=list)
    hung: list[str] = field(default_factory=list)
    disordered: list[str] = field(default_factory=list)
    stale_acks: list[str] = field(default_factory=list)
    ghosts: list[str] = field(default_factory=list)
    processed_twice: list[str] = field(default_factory=list)
    early_joins: list[str] = field(default_factory=list)
    left_behind: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def add(self, other: Report) -> None:
        """Let this be the report of both runs."""
        for f in fields(self):
            mine, theirs = getattr(self, f.name), getattr(other, f.name)
            worst = f.name == "max_redelivery_delay"
            if f.name != "seed":
                setattr(self, f.name, max(mine, theirs) if worst else mine + theirs)

    @property
    def problems(self) -> dict[str, list[str]]:
        """What must not be, by its name; empty where the run is valid."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in found.items() if isinstance(value, list) and value}

    @property
    def valid(self) -> bool:
        """Whether nothing was lost, doubled, out of nowhere or left hanging."""
        return not self.problems

    def __str__(self) -> str:
        counts = {f.name: getattr(self, f.name) for f in fields(self)}
        parts = [f"{n}={v:.3g}" for n, v in counts.items() if isinstance(v, (int, float)) and v]
        parts += [f"{n.upper()}={len(v)} {v[:5]}" for n, v in self.problems.items()]
        return " ".join(parts)


class _Delivery:
    __slots__ = ("attempt", "taken", "time", "who")

    def __init__(self, time: float, who: str, attempt: int | None, taken: bool) -> None:
        self.time = time
        self.who = who
        self.attempt = attempt  # None where the consumer is not told
        self.taken = taken  # the consumer's from then on, whatever becomes of it


class _Message:
    __slots__ = ("acked", "deliveries", "failed", "processed", "sha", "tried")

    def __init__(self, sha: str, tried: float) -> None:
        self.sha = sha
        self.tried = tried
        self.acked: float | None = None  # when
        self.failed = False
        self.deliveries: list[_Delivery] = []
        self.processed: list[float] = []


def check(folder: Path, rules: Rules, seed: int = 0) -> Report:
    """Read all the logs in a folder."""
    records = {path.stem: logs.read(path) for path in sorted(folder.glob("*.jsonl"))}
    return check_records(records, rules, seed)


def check_records(
    records: Mapping[str, Iterable[logs.Record]], rules: Rules, seed: int = 0
) -> Report:
    """Read records, by the name of the process that wrote them."""
    return _Check(rules, seed).run({who: list(lines) for who, lines in records.items()})


class _Check:
    def __init__(self, rules: Rules, seed: int) -> None:
        self._rules = rules
        self._report = Report(seed=seed)
        self._messages: dict[str, _Message] = {}
        self._killed: dict[str, float] = {}
        self._host_deaths: list[float] = []
        self._acks: list[tuple[str, str, float]] = []
        self._joins: list[tuple[str, float, float]] = []

    def run(self, records: Mapping[str, list[logs.Record]]) -> Report:
        for record in records.get(PARENT, []):
            self._read_parent(record)
        # Puts of all first: a message may come out before its producer knows that it is in.
        for who, lines in records.items():
            self._read_operations(who, lines)
        for who, lines in records.items():
            self._read_deliveries(who, lines)
        self._judge()
        for who, lines in records.items():
            self._judge_order(who, lines)
        return self._report

    # -- reading ------------------------------------------------------------------------------

    def _read_parent(self, record: logs.Record) -> None:
        match record["e"]:
            case "killed":
                self._killed[record["who"]] = record["t"]
            case "host-killed":
                self._host_deaths.append(record["t"])
            case "hung":
                self._report.hung.append(record["why"])
            case "left":
                self._report.left_behind.append(record["why"])
            case "failed":
                self._report.failures.append(record["why"])

    def _read_operations(self, who: str, lines: list[logs.Record]) -> None:
        open_operations: dict[int, logs.Record] = {}
        for record in lines:
            match record["e"]:
                case "put" | "join" | "ack":
                    open_operations[record["op"]] = record
                    if record["e"] == "put":
                        self._tried(record)
                case "ok" | "fail" | "unknown":
                    self._ended(who, open_operations.pop(record["op"]), record)
                case "interrupted":
                    # Between any two lines: what was begun may have ended without a word.
                    for begun in open_operations.values():
                        self._ended(who, begun, {"e": "unknown", "t": record["t"]})
                    open_operations.clear()
                case "error":
                    self._report.failures.append(f"{who}: {record['why']}")
        for record in open_operations.values():
            self._ended(who, record, {"e": "unknown", "t": record["t"]})
            if who not in self._killed:
                self._report.hung.append(f"{who}: {record['e']} {record.get('ids', '')}"[:100])

    def _tried(self, record: logs.Record) -> None:
        for ident, sha in zip(record["ids"], record["sha"], strict=True):
            self._report.attempts += 1
            self._messages[ident] = _Message(sha, record["t"])

    def _ended(self, who: str, tried: logs.Record, ended: logs.Record) -> None:
        report = self._report
        match tried["e"], ended["e"]:
            case "put", outcome:
                # Of a batch that failed the first few may have been put all the same.
                accepted = ended.get("first", len(tried["ids"]) if outcome == "ok" else 0)
                for position, ident in enumerate(tried["ids"]):
                    if position < accepted:
                        self._messages[ident].acked = ended["t"]
                        report.acked += 1
                    elif outcome == "unknown":
                        report.unknown += 1
                    else:
                        self._messages[ident].failed = True
                        report.failed += 1
            case "ack", "fail":
                report.late_settlements += 1
            case "ack", "ok":
                self._acks.append((who, tried["id"], tried["t"]))
            case "join", "ok":
                self._joins.append((who, tried["t"], ended["t"]))

    def _read_deliveries(self, who: str, lines: list[logs.Record]) -> None:
        for record in lines:
            if record["e"] not in ("delivered", "processed"):
                continue
            message = self._messages.get(record["id"])
            if message is None:
                self._report.unexpected.append(f"{record['id']}: nobody put it")
            elif record["e"] == "processed":
                self._report.processed += 1
                message.processed.append(record["t"])
            else:
                self._report.delivered += 1
                if record["sha"] != message.sha:
                    self._report.unexpected.append(f"{record['id']}: with other bytes")
                attempt, taken = record.get("attempt"), record.get("taken", False)
                message.deliveries.append(_Delivery(record["t"], who, attempt, taken))

    # -- judging ------------------------------------------------------------------------------

    def _judge(self) -> None:
        report = self._report
        last_death = max(self._host_deaths, default=float("-inf"))
        for ident, message in self._messages.items():
            message.deliveries.sort(key=lambda delivery: delivery.time)
            if message.failed and message.deliveries:
                report.unexpected.append(f"{ident}: its put failed")
            if message.acked is None and not message.failed and message.deliveries:
                report.recovered += 1
                if self._rules.no_ghosts:
                    report.ghosts.append(ident)
            if message.acked is not None and not message.processed and self._rules.drained:
                if message.tried <= last_death:
                    report.gone_with_host += 1
                else:
                    report.lost.append(ident)
            if len(message.processed) > 1:
                report.duplicated += 1
                if self._rules.exactly_once:
                    report.processed_twice.append(ident)
            self._judge_deliveries(ident, message)
        for who, ident, tried in self._acks:
            self._judge_ack(who, ident, tried)
        self._judge_joins(last_death)

    def _judge_deliveries(self, ident: str, message: _Message) -> None:
        report = self._report
        deaths = sum(death >= message.tried for death in self._host_deaths)
        firsts = sum(delivery.attempt == 1 for delivery in message.deliveries)
        # What somebody took is out of the queue for good: for others to take, at the least.
        after_take = sum(
            earlier.taken and (later.taken or not self._rules.overtaken)
            for earlier, later in itertools.pairwise(message.deliveries)
        )
        takes = sum(delivery.taken for delivery in message.deliveries)
        if max(firsts, takes, after_take + 1) - 1 > deaths:
            report.enqueued_twice.append(ident)
        for earlier, later in zip(message.deliveries, message.deliveries[1:], strict=False):
            report.redeliveries += 1
            killed = self._killed.get(earlier.who)
            if killed is not None and later.time > killed:
                delay = later.time - killed
                report.max_redelivery_delay = max(report.max_redelivery_delay, delay)

    def _judge_ack(self, who: str, ident: str, tried: float) -> None:
        """An ack that was accepted although the message had been handed to somebody else."""
        message = self._messages.get(ident)
        before = [d for d in (message.deliveries if message else ()) if d.time < tried]
        mine = [position for position, d in enumerate(before) if d.who == who]
        if not mine or before[mine[-1]].taken:
            return
        later = before[mine[-1] + 1 :]
        if self._rules.overtaken:
            later = [d for d in later if (d.attempt or 0) > (before[mine[-1]].attempt or 0)]
        if later:
            self._report.stale_acks.append(f"{who}: {ident}")

    def _judge_joins(self, last_death: float) -> None:
        # Whether an unknown put was in by then nobody can say, nor what a dead host had.
        known = sorted(
            (message.acked, min(message.processed, default=float("inf")), ident)
            for ident, message in self._messages.items()
            if message.acked is not None and message.tried > last_death
        )
        latest = list(itertools.accumulate(((done, ident) for _, done, ident in known), max))
        for who, began, returned in self._joins:
            before = bisect.bisect_left(known, (began,))
            if before and latest[before - 1][0] > returned:
                self._report.early_joins.append(f"{who}: {latest[before - 1][1]} was not done")

    def _judge_order(self, who: str, lines: list[logs.Record]) -> None:
        if not self._rules.in_order or self._host_deaths:
            return
        last: dict[str, int] = {}
        for record in lines:
            if record["e"] == "delivered" and record.get("attempt") == 1:
                producer, number = origin(record["id"])
                if number < last.get(producer, -1):
                    self._report.disordered.append(f"{who}: {record['id']} after {last[producer]}")
                last[producer] = number
