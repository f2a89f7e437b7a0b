"""Takes samples: each in a fresh process, all cases in turn, round after round."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ._results import Report, Sample, Samples

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Case:
    """One thing to measure.

    Attributes:
        parameters: what the benchmark's `sample` is called with.
        needs: modules without which the case is left out.
    """

    key: str
    parameters: Mapping[str, Any]
    needs: Sequence[str] = ()


@dataclass(frozen=True)
class Benchmark:
    """A benchmark as its module describes it.

    Attributes:
        cases: given whether to be quick.
        rounds: at most this many, as more would not say more.
        timeout: seconds for one sample.
    """

    name: str
    title: str
    cases: Callable[[bool], Sequence[Case]]
    summarise: Callable[[Samples], Report]
    rounds: int = 100
    timeout: float = 120.0
    module: str = field(default="")


class SampleFailed(Exception):
    """A sample's process raised, or did not end in time."""


def measure(
    benchmark: Benchmark,
    *,
    quick: bool,
    rounds: int,
    peers: Collection[str] | None,
    progress: Callable[[str], None],
) -> Samples:
    """Take the samples of a benchmark. Rounds are interleaved, and each begins with another case,
    so that neither a busy machine nor the order favours anybody.

    Args:
        peers: the first words of the keys of the cases to measure; None for all cases.
    """
    samples = Samples()
    cases: list[Case] = []
    for case in benchmark.cases(quick):
        if peers and case.key.split()[0] not in peers:
            continue
        missing = [name for name in case.needs if importlib.util.find_spec(name) is None]
        if missing:
            samples.troubles.append(f"{case.key}: left out, {', '.join(missing)} is not installed")
        else:
            cases.append(case)
    rounds = min(rounds, benchmark.rounds)
    for number in range(rounds):
        first = number * len(cases) // rounds
        for case in cases[first:] + cases[:first]:
            progress(f"{benchmark.name} {number + 1}/{rounds} {case.key}")
            try:
                sample: Sample | None = run_child(
                    f"benchmarks.{benchmark.module or benchmark.name}",
                    "sample",
                    case.parameters,
                    benchmark.timeout,
                )
            except SampleFailed as exc:
                sample = None
                samples.troubles.append(f"{case.key}: {exc}")
            samples.add(case.key, sample)
    return samples


def start_child(
    module: str, function: str, parameters: Mapping[str, Any], **options: Any
) -> subprocess.Popen[bytes]:
    """Start a process that calls a function and prints what it returns."""
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks._child", module, function, json.dumps(parameters)],
        cwd=ROOT,
        **options,
    )


def run_child(
    module: str, function: str, parameters: Mapping[str, Any], timeout: float
) -> dict[str, Any]:
    """Call a function in a process of its own, and end whatever that process leaves behind."""
    # Files, not pipes: a process that is left behind would hold a pipe open.
    with (
        tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as scratch,
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryFile() as errors,
    ):
        process = start_child(
            module,
            function,
            parameters,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
            env={**os.environ, "TMPDIR": scratch},
        )
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise SampleFailed(f"did not end within {timeout:.0f} s") from None
        finally:
            # The session was made for this process, so nothing else is in its group.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        text = _content(output)
        if code != 0 or not text:
            raise SampleFailed(_last_error(_content(errors)) or f"ended with code {code}")
        result: dict[str, Any] = json.loads(text.splitlines()[-1])
        return result


def _last_error(text: str) -> str:
    """The message of a traceback, also of one within the frames of an exception group."""
    lines = [line.strip(" |+-") for line in text.splitlines()]
    return next((line for line in reversed(lines) if re.match(r"[\w.]+: ", line)), "")


def _content(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace").strip()
