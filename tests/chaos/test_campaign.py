"""The long run: how often each fault is carried out in the time there is, and what is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import __main__ as command
from tests.chaos import campaign
from tests.chaos.campaign import Tally
from tests.chaos.catalogue import FAULTS
from tests.chaos.checker import Report
from tests.chaos.faults import Fault
from tests.chaos.processes import Nursery
from tests.chaos.results import Results
from tests.chaos.stage import Stage

pytestmark = pytest.mark.every_python


def lose(stage: Stage, trials: int) -> None:
    """Put what is acknowledged and never comes out, in every other run."""
    for _ in stage.rounds(trials):
        if stage.seed % 2:
            operation = stage.attempt("put", ids=[f"x:{stage.trials}"], sha=[""])
            stage.note("ok", op=operation)


LOSING = Fault(
    code="F99", title="every other run loses", short=3, long=10, at_once=3, control=2, inject=lose
)


def test_a_fault_is_repeated_on_stages_of_their_own(nursery: Nursery) -> None:
    """As often as was asked, each time with the next seed; the seeds that failed are named."""
    tally = campaign.repeat(LOSING, nursery, 8, seed=1, seconds=60)
    assert (tally.trials, tally.stages) == (8, 3)
    assert tally.invalid == [1, 3]
    assert len(tally.report.lost) == 3 + 2


def test_time_is_shared_out_by_weight() -> None:
    """What one fault leaves is for those that come after it."""
    light, heavy = Fault(**{**vars(LOSING), "seconds": 1}), Fault(**{**vars(LOSING), "seconds": 3})
    given = [round(seconds) for _, seconds in campaign.shares([light, heavy, light], 100)]
    assert given == [20, 75, 100]


def test_rows_of_other_faults_stay(tmp_path: Path) -> None:
    """A run of one fault replaces its row in the table and no other; a whole run begins anew."""
    path = tmp_path / "RESULTS.md"
    other = Fault(**{**vars(LOSING), "code": "F98"})
    first = Results(path, "python -m tests.chaos --long", 1)
    for fault, report in ((other, Report(acked=5)), (LOSING, Report(acked=7, lost=["x:1"]))):
        first.add(fault, Tally(fault=fault, asked=9, trials=9, seed=1, report=report), None)
    assert not first.valid
    Results(path, "python -m tests.chaos --long --fault F99", 1).add(
        LOSING, Tally(fault=LOSING, asked=9, trials=8, seed=1, report=Report(acked=6)), None
    )
    assert "--long\n    python -m tests.chaos --long --fault F99\n\n" in path.read_text()
    rows = [line.split(" | ") for line in path.read_text().splitlines() if "| F9" in line]
    assert [(row[0], row[3], row[6], row[10]) for row in rows] == [
        ("| F98", "9", "5", "0"),
        ("| F99", "8", "6", "0"),
    ]


def test_the_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It carries out what it is asked for, writes the table, and says with its exit code whether
    all went well; what a stock host loses is no failure."""
    monkeypatch.setattr(command, "RESULTS", tmp_path / "RESULTS.md")
    monkeypatch.setitem(FAULTS, LOSING.code, LOSING)
    chosen = ["--fault", "F99"]
    monkeypatch.setattr("sys.argv", ["chaos", "--long", *chosen, "--seed", "2"])
    assert command.main() == 1
    assert "| F99 | every other run loses | 10 | 10 |" in (tmp_path / "RESULTS.md").read_text()
    monkeypatch.setattr("sys.argv", ["chaos", "--stock", *chosen])
    assert command.main() == 0
    assert "2 trials: lost 2" in capsys.readouterr().out
