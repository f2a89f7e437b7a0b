"""The benchmarks run: not how fast anything is, which no test can say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PEERS = ("--peer=ours", "--peer=blocking", "--peer=anyio")
ROOT = Path(__file__).parent.parent


def test_a_benchmark_prints_its_claims_and_its_table():
    """Nothing but the test dependencies is needed for these peers."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--only=latency", *PEERS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "median of one awaited put, to the blocking proxy's" in done.stdout
    for label in ("aiomanager, stream transport", "blocking proxy", "anyio.to_thread"):
        assert f"\n  {label}  " in done.stdout, done.stdout
    assert "not measured" not in done.stdout
