"""Runs CPython's own tests of managers, of `cpython`, under a start method.

    python -m tests.differential.cpython_runner METHOD [CLASS...]

It writes a line of JSON for each test as it begins, and for what came of it.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import unittest
from typing import Any

from tests.differential import cpython, loops


class Lines(unittest.TestResult):
    """Writes what came of each test."""

    def _say(self, test: Any, outcome: str, details: str = "") -> None:
        name = test.id().removeprefix(f"{cpython.__name__}.")
        sys.stdout.write(json.dumps([name, outcome, details]) + "\n")
        sys.stdout.flush()

    def startTest(self, test: Any) -> None:  # noqa: N802 - unittest's name
        super().startTest(test)
        self._say(test, "hung")  # unless there is another line

    def addSuccess(self, test: Any) -> None:  # noqa: N802
        self._say(test, "passed")

    def addFailure(self, test: Any, err: Any) -> None:  # noqa: N802
        super().addFailure(test, err)
        self._say(test, "failed", self.failures[-1][1])

    def addError(self, test: Any, err: Any) -> None:  # noqa: N802
        super().addError(test, err)
        self._say(test, "failed", self.errors[-1][1])

    def addSkip(self, test: Any, reason: str) -> None:  # noqa: N802
        self._say(test, "skipped", reason)

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:  # noqa: N802
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._say(test, "failed", (self.failures + self.errors)[-1][1])


def main(method: str, *classes: str) -> None:
    """Run the classes, all if none is named."""
    multiprocessing.set_forkserver_preload([*cpython.suite.PRELOAD, cpython.__name__])
    multiprocessing.set_start_method(method, force=True)
    result = Lines()
    load = unittest.defaultTestLoader.loadTestsFromTestCase
    unittest.TestSuite(load(cpython.TESTS[short]) for short in classes or cpython.TESTS).run(result)
    loops.stop_all()


if __name__ == "__main__":
    main(*sys.argv[1:])
