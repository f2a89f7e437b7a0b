"""F23 and F25: processes that fork or spawn with a live client, beside which children come and go,
and interpreters that end with gets pending."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from tests.chaos.checker import Rules
from tests.chaos.faults import Fault
from tests.chaos.logs import Tail
from tests.chaos.processes import ROOT
from tests.chaos.stage import KEY, QUEUE, TRANSPORTS, Stage

WAYS = ("os.fork", "fork", "spawn", "forkserver")
EXITS = ("in the block", "out of the block")
# For a whole program. What is asked is that its end takes less than one second, which the notes
# show: a machine under load is no fault.
EXIT_SECONDS = 20.0
EXITS_AT_ONCE = 5
# At once, and how many children each has.
PARENTS = 2
CHILDREN = 10


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


def busy_parents(stage: Stage, trials: int) -> None:
    """Children of busy parents come, do this or that, and end in every way. Nothing of it reaches
    a parent: each acknowledged put is there once, in order, and no lease is lost."""
    for count in stage.rounds(trials, CHILDREN * PARENTS):
        shares = [count // PARENTS] * (PARENTS - 1) + [count - count // PARENTS * (PARENTS - 1)]
        programs = [
            stage.start("parent", f"parent{stage.trials}-{number}", count=share)
            for number, share in enumerate(shares)
            if share
        ]
        for program in programs:
            stage.see_end(program, 25)


def exits(stage: Stage, trials: int) -> None:
    """Interpreters end with twenty gets pending each: at once, and the host forgets them."""
    for count in stage.rounds(trials, EXITS_AT_ONCE):
        # Some at once, since it takes a busy machine for one thread to lag behind another.
        numbers = range(stage.trials, stage.trials + count)
        with ThreadPoolExecutor(EXITS_AT_ONCE) as pool:
            times = [took for took in pool.map(partial(_exit, stage), numbers) if took is not None]
        slowest = max(times, default=0.0)
        stage.notes["slowest_exit_s"] = round(max(slowest, stage.notes.get("slowest_exit_s", 0)), 2)
        stage.until_statistics(lambda counts: not counts["waiting_getters"], "nobody waits", 2)
    stage.put(trials)


def _exit(stage: Stage, number: int) -> float | None:
    """Let an interpreter end; return how long that took."""
    rng = random.Random(stage.seed + number)
    path = stage.folder / f"exits{number}.jsonl"
    options = {
        "address": stage.address,
        "key": KEY,
        "queue": QUEUE,
        "way": EXITS[number % len(EXITS)],
        "backend": rng.choice(("asyncio", "uvloop")),
        "transport": rng.choice(TRANSPORTS),
    }
    try:
        run = subprocess.run(
            [sys.executable, "-m", "tests.chaos.programs.exits", str(path), json.dumps(options)],
            cwd=ROOT,
            timeout=EXIT_SECONDS,
            capture_output=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        stage.hung(f"it does not end: {options}")
        return None
    ended = time.monotonic()
    exiting = [record["t"] for record in Tail(path).update() if record["e"] == "exiting"]
    stage.check(run.returncode == 0 and exiting, f"{options}: {run.stderr.decode()[-500:]}")
    return ended - exiting[0] if exiting else None


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
F25 = Fault(
    code="F25",
    title="fork and end of a child beside a busy parent",
    short=20,
    long=1000,
    at_once=40,
    seconds=150.0,
    inject=busy_parents,
    rules=Rules(exactly_once=True),
)
ALL = (F23, F23_EXIT, F25)
