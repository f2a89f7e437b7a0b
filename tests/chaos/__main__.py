"""The faults from the command line, each as often as in the test suite, or as often as it takes to
bound its rate: see `python -m tests.chaos --help`."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from tests.chaos import campaign
from tests.chaos.campaign import Tally
from tests.chaos.catalogue import FAULTS
from tests.chaos.processes import Nursery
from tests.chaos.results import Results

RESULTS = Path(__file__).with_name("RESULTS.md")
MINUTES = 60.0
CONTROL_SECONDS = 60.0  # for each fault


def main() -> int:
    """Do as the arguments say; 1 where a host of ours has shown a problem."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument(
        "--long", action="store_true", help=f"the long figures; writes {RESULTS.name} as well"
    )
    parser.add_argument(
        "--stock", action="store_true", help="only the negative control, the same at a stock host"
    )
    parser.add_argument(
        "--fault", action="append", choices=FAULTS, help="this one alone; may be repeated"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the first run of each fault")
    parser.add_argument(
        "--minutes", type=float, default=MINUTES, help="for all together (default: %(default)g)"
    )
    arguments = parser.parse_args()
    faults = [FAULTS[code] for code in arguments.fault or FAULTS]
    command = shlex.join(["python", "-m", "tests.chaos", *sys.argv[1:]])
    results = Results(RESULTS if arguments.long else None, command, arguments.seed)
    nursery = Nursery()
    try:
        for fault, seconds in campaign.shares(faults, arguments.minutes * 60):
            ours: Tally | None = None
            if not arguments.stock:
                trials = fault.long if arguments.long else fault.short
                ours = campaign.repeat(fault, nursery, trials, arguments.seed, seconds=seconds)
            stock: Tally | None = None
            if fault.control and (arguments.long or arguments.stock):
                stock = campaign.repeat(
                    fault,
                    nursery,
                    fault.control,
                    arguments.seed,
                    seconds=CONTROL_SECONDS,
                    hosting="queue",
                )
            results.add(fault, ours, stock)
    finally:
        nursery.close()
    print(results.text())  # noqa: T201
    return 0 if results.valid else 1


if __name__ == "__main__":
    sys.exit(main())
