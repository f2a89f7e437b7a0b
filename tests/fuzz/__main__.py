"""Executes the targets on bytes as often as it is told, and says what came of it.

With atheris (`pip install --group fuzz`) the bytes are led by what they reach in the package;
without it they are random.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import platform
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LONGEST = 512  # bytes of one input
SLOW = 10  # seconds after which one execution hangs
MEMORY_LIMIT = 4 * 1024**3  # of addresses
GROWTH = 20.0  # megabytes
SETTLED = 0.2  # of the executions, after which memory is not to grow


@dataclass(frozen=True)
class Outcome:
    """What came of one target.

    Attributes:
        memory: megabytes at the peak, and by how many they grew after the first fifth.
        output: what is to be read where it failed.
    """

    target: str
    failed: bool
    executions: int
    seconds: float
    memory: tuple[float, float]
    output: str

    def __str__(self) -> str:
        peak, grown = self.memory
        return (
            f"| {self.target} | {self.executions:,} | {'FAILED' if self.failed else 'no failure'} "
            f"| {self.executions / self.seconds:,.0f} | {peak:.0f} | {grown:+.1f} |"
        )


def main() -> int:
    """Fuzz each target in a process of its own, which may die of it; 1 where one failed."""
    from tests.fuzz.targets import TARGETS

    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--executions", type=int, default=1_000_000, help="of all targets together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", action="append", choices=TARGETS, help="these alone")
    engine = "random" if importlib.util.find_spec("atheris") is None else "atheris"
    parser.add_argument("--engine", choices=("atheris", "random"), default=engine)
    options = parser.parse_args()

    targets = options.target or list(TARGETS)
    share = -(-options.executions // len(targets))
    began = time.monotonic()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        outcomes = list(
            pool.map(lambda name: run(name, options.engine, share, options.seed), targets)
        )
    for outcome in outcomes:
        if outcome.failed:
            print(outcome.output[-10_000:])
    print(
        f"Python {platform.python_version()}, engine {options.engine}, seed {options.seed}, "
        f"{time.monotonic() - began:.0f} s\n\n"
        "| target | executions | outcome | a second | peak MB | grown by MB |\n"
        "| --- | ---: | --- | ---: | ---: | ---: |"
    )
    print(*outcomes, sep="\n")
    return int(any(outcome.failed for outcome in outcomes))


def run(target: str, engine: str, executions: int, seed: int) -> Outcome:
    """Fuzz a target in another process."""
    arguments = f"{target!r}, {engine!r}, {executions}, {seed}"
    began = time.monotonic()
    process = subprocess.run(
        [sys.executable, "-c", f"from tests.fuzz.__main__ import fuzz; fuzz({arguments})"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    seconds = time.monotonic() - began
    said = re.findall(r"memory (\w+): (\S+)", process.stdout)
    memory = {when: float(megabytes) for when, megabytes in said}
    grown = memory.get("end", 0.0) - memory.get("settled", 0.0)
    failed = process.returncode != 0 or "end" not in memory or grown > GROWTH
    peak = memory.get("peak", 0.0)
    return Outcome(target, failed, executions, seconds, (peak, grown), process.stdout)


def fuzz(target: str, engine: str, executions: int, seed: int) -> None:
    """Execute a target in this process; at the first failure it ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    logging.disable()
    executed = 0
    call: Any

    def execute(data: bytes) -> None:
        nonlocal executed
        executed += 1
        call(data)
        if executed == round(executions * SETTLED):
            print(f"memory settled: {_memory()}", flush=True)
        if executed == executions:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"memory peak: {peak}\nmemory end: {_memory()}", flush=True)

    if engine == "random":
        from tests.fuzz.targets import TARGETS

        call = TARGETS[target]
        rng = random.Random(seed)
        for _ in range(executions):
            execute(rng.randbytes(rng.randrange(LONGEST)))
        return

    import atheris

    with atheris.instrument_imports(include=["aiomanager"]):
        from tests.fuzz.targets import TARGETS
    call = TARGETS[target]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        atheris.Setup(
            [
                "fuzz",
                f"-runs={executions}",
                f"-seed={seed}",
                f"-max_len={LONGEST}",
                f"-timeout={SLOW}",
                f"-artifact_prefix={folder}/",
            ],
            execute,
        )
        atheris.Fuzz()


def _memory() -> float:
    """Megabytes that this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1024**2


if __name__ == "__main__":
    sys.exit(main())
