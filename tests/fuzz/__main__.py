"""Executes the targets on bytes as often as it is told, and says what came of it.

With atheris (`pip install --group fuzz`) the bytes are led by what they reach in the package;
without it they are random.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import platform
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LONGEST = 512  # bytes of one input
SLOW = 10  # seconds after which one execution hangs
MEMORY_LIMIT = 4 * 1024**3  # of addresses
GROWTH = 20.0  # megabytes
SETTLED = 0.2  # of the executions, after which memory is not to grow


def main() -> int:
    """Fuzz in a process of its own, which may die of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--executions", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", default="any_target", help="one alone; see targets.py")
    engine = "random" if importlib.util.find_spec("atheris") is None else "atheris"
    parser.add_argument("--engine", choices=("atheris", "random"), default=engine)
    options = parser.parse_args()

    arguments = f"{options.target!r}, {options.engine!r}, {options.executions}, {options.seed}"
    program = f"from tests.fuzz.__main__ import fuzz; fuzz({arguments})"
    began = time.monotonic()
    run = subprocess.run(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    seconds = time.monotonic() - began
    memory = {when: float(size) for when, size in re.findall(r"memory (\w+): (\S+)", run.stdout)}
    whole = run.returncode == 0 and "end" in memory
    grown = memory.get("end", 0.0) - memory.get("settled", 0.0)
    if not whole:
        print(run.stdout[-10_000:])
    print(
        f"{options.executions} executions of {options.target} ({options.engine}, seed "
        f"{options.seed}, Python {platform.python_version()}): "
        f"{'no failure' if whole else 'FAILED'}, {options.executions / seconds:.0f} a second, "
        f"peak memory {memory.get('peak', 0.0):.0f} MB, grown by {grown:.1f} MB after the first "
        f"{SETTLED:.0%}"
    )
    return int(not whole or grown > GROWTH)


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
        from tests.fuzz import targets

        call = getattr(targets, target)
        rng = random.Random(seed)
        for _ in range(executions):
            execute(rng.randbytes(rng.randrange(LONGEST)))
        return

    import atheris

    with atheris.instrument_imports(include=["aiomanager"]):
        from tests.fuzz import targets
    call = getattr(targets, target)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        # A run, and not executions more than that, begins with some that measure an empty corpus.
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
