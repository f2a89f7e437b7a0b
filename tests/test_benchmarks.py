"""The benchmarks run: not how fast anything is, which no test can say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.tricks import COSTS, TRICKS

PEERS = ("--peer=ours", "--peer=blocking", "--peer=anyio")
ROOT = Path(__file__).parent.parent


def run(*arguments: str) -> str:
    """What a quick run prints."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_benchmark_prints_its_claims_and_its_table():
    """Nothing but the test dependencies is needed for these peers."""
    printed = run("--only=latency", *PEERS)
    assert "median of one awaited put, to the blocking proxy's" in printed
    for label in ("aiomanager, stream transport", "blocking proxy", "anyio.to_thread"):
        assert f"\n  {label}  " in printed, printed
    assert "not measured" not in printed


def test_a_trick_is_measured_with_it_and_without_it():
    """One that is a constant, one that is a function, and what is no trick but a cost."""
    printed = run("--only=tricks", "--peer=halves-get", "--peer=plain", "--peer=seals")
    for label in ("halves, gets of 256 tasks", "plain requests read at once, stock calls"):
        assert f"\n  {label}  " in printed, printed
    assert "seals over TCP, one put after the other, to without" in printed
    assert "!" not in printed, printed


def test_each_trick_is_there_to_be_switched_off():
    """A name that is not in the package any more would measure nothing."""
    names = {trick.without for trick in (*TRICKS.values(), *COSTS.values())}
    calls = "; ".join(f"_without.{name}()" for name in sorted(names))
    code = f"from benchmarks import _without; {calls}"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, check=True)
