"""CPython's own tests of managers pass on what `wrap` makes of their objects.

They run in the version that this Python has, each class in a process of its own. By default each
start method, kind of host and event loop is met; with $AIOMANAGER_TESTS=full every combination of
them, and the standard library's own proxies as a control: what fails there is not ours to mend.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.differential.conftest import FULL, METHODS
from tests.support.programs import PROJECT
from tests.support.waiting import while_busy

pytest.importorskip("test._test_multiprocessing", reason="this Python came without its tests")

from tests.differential import cpython

# Seconds for a class: the longest sleeps, in one test after the other.
LIMIT = 120.0

# Without processes of their own, or slow: one start method says as much as two.
ONCE = frozenset({"Containers", "MyManager", "ManagerRestart", "RemoteManager", "Pool", "Barrier"})


class Run(NamedTuple):
    """A class of tests under a start method."""

    kind: str
    method: str
    face: str
    host: str


def _runs() -> Iterator[Run]:
    for kind, tests in cpython.names().items():
        if not tests:
            continue
        if FULL:
            for method in METHODS:
                for face in ("standard", "asyncio", "trio"):
                    for host in ("stock", "ours"):
                        yield Run(kind, method, face, host)
            continue
        yield Run(kind, "forkserver", "asyncio", "stock")
        if kind not in ONCE:
            yield Run(kind, "spawn", "trio", "ours")


def _cases() -> list[Any]:
    return [
        pytest.param(
            run, test, id=f"{'-'.join(run)}-{test}", marks=pytest.mark.xdist_group(run.kind)
        )
        for run in _runs()
        for test in cpython.names()[run.kind]
    ]


@functools.cache
def outcomes(run: Run) -> dict[str, tuple[str, str]]:
    """What came of each test of a class, and what unittest says of it."""
    env = {**os.environ, "DIFFERENTIAL_FACE": run.face, "DIFFERENTIAL_HOST": run.host}
    command = [sys.executable, "-m", "tests.differential.cpython_runner", run.method, run.kind]
    limit = while_busy(LIMIT)
    # All of it is one group of processes, so that nothing outlives a run that hangs.
    process = subprocess.Popen(
        command,
        cwd=PROJECT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            output, errors = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            output, errors = process.communicate()
    found: dict[str, tuple[str, str]] = {}
    for line in output.splitlines():
        name, outcome, details = json.loads(line)
        if found.get(name, ("hung",))[0] != "failed":  # one of its subtests
            found[name] = (outcome, details)
    found[""] = ("", errors)
    return found


@pytest.mark.timeout(0)
@pytest.mark.parametrize("run, test", _cases())
def test_of_cpython(run: Run, test: str) -> None:
    """It passes, or skips itself where it is not for managers."""
    found = outcomes(run)
    outcome, details = found.get(f"{run.kind}.{test}", ("not run", found[""][1]))
    if outcome == "skipped":
        pytest.skip(details)
    assert outcome == "passed", details or found[""][1]


def test_these_are_all_of_them() -> None:
    """75 tests at least, so that none is missed where a class is renamed; and what is left out is
    a test that there is."""
    tests = {f"{kind}.{test}" for kind, found in cpython.names().items() for test in found}
    assert len(tests) + len(cpython.NOT_APPLICABLE) >= 70
    for name in cpython.NOT_APPLICABLE:
        kind, _, test = name.partition(".")
        assert hasattr(cpython.TESTS[kind], test), name
