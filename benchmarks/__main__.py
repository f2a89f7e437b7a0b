"""The command: `python -m benchmarks`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from . import (
    _machine,
    _page,
    clients,
    depth,
    giant,
    job,
    large,
    latency,
    sizes,
    tcp,
    throughput,
    tricks,
    waiters,
)
from ._runner import ROOT, measure
from ._text import aligned, report_text
from .peers import PEERS

BENCHMARKS = {
    module.BENCHMARK.name: module.BENCHMARK
    for module in (
        throughput,
        latency,
        job,
        waiters,
        large,
        giant,
        tcp,
        clients,
        depth,
        sizes,
        tricks,
    )
}


def main() -> None:
    """Measure, print, and write the page."""
    arguments = _parse()
    chosen = arguments.only or list(BENCHMARKS)
    folder = arguments.output
    if folder is None and not (arguments.only or arguments.peer or arguments.quick):
        folder = ROOT / "docs"
    machine = _machine.description()
    print(aligned(["", ""], machine), flush=True)
    start = time.monotonic()

    def progress(what: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\x1b[K{time.monotonic() - start:5.0f} s  {what}", end="", file=sys.stderr)

    sections = []
    for name in chosen:
        benchmark = BENCHMARKS[name]
        rounds = arguments.rounds or (1 if arguments.quick else 5)
        samples = measure(
            benchmark,
            quick=arguments.quick,
            rounds=rounds,
            peers=arguments.peer,
            progress=progress,
        )
        report = benchmark.summarise(samples)
        progress("")
        print(f"\n{report_text(name, benchmark.title, report)}", flush=True)
        for trouble in dict.fromkeys(samples.troubles):
            print(f"  ! {trouble}", flush=True)
        sections.append(_page.Section(benchmark, report, samples))
    claims = [claim for section in sections for claim in section.report.claims]
    if claims:
        met = sum(claim.verdict == "ok" for claim in claims)
        print(f"{met} of {len(claims)} claims are met; {time.monotonic() - start:.0f} s in all")
    if folder is not None:
        command = " ".join(["python -m benchmarks", *sys.argv[1:]])
        print(f"written: {_page.write(folder, command, machine, sections)}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure aiomanager beside its peers (`pip install --group bench`).",
    )
    parser.add_argument("--quick", action="store_true", help="little work: to see that it runs")
    parser.add_argument(
        "--only",
        action="append",
        choices=BENCHMARKS,
        metavar="NAME",
        help=f"one benchmark, may be repeated: {', '.join(BENCHMARKS)}",
    )
    parser.add_argument(
        "--peer",
        action="append",
        choices=[*PEERS, *tricks.TRICKS, *tricks.COSTS],
        metavar="PEER",
        help=f"one peer, or one of the tricks, may be repeated: {', '.join(PEERS)}",
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="5 unless told otherwise")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="write the page and the plots there; docs/ where everything was measured",
    )
    arguments = parser.parse_args()
    # Now, and not when all has been measured.
    if arguments.output is not None and arguments.output.exists() and not arguments.output.is_dir():
        parser.error(f"--output: {arguments.output} is a file; give a folder")
    if arguments.rounds is not None and arguments.rounds < 1:
        parser.error(f"--rounds: {arguments.rounds} is too few; give 1 or more")
    return arguments


if __name__ == "__main__":
    main()
