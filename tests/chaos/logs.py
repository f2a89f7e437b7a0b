"""What a program did, line by line, written while it did it and read when it may be gone."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class Log:
    """The log of one process, which only ever grows. A line is one write, so that a process that
    is killed leaves whole lines; `t` is the monotonic clock, which all processes share.

    An operation has two lines: what is tried, then how it ended (`ok`, `fail`, `unknown`).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._operations = itertools.count(1)

    def write(self, event: str, **fields: object) -> None:
        """Add a line."""
        line = json.dumps({"t": time.monotonic(), "e": event, **fields}, separators=(",", ":"))
        os.write(self._descriptor, line.encode() + b"\n")

    def attempt(self, event: str, **fields: object) -> int:
        """Say that an operation begins; return its number."""
        operation = next(self._operations)
        self.write(event, op=operation, **fields)
        return operation

    def close(self) -> None:
        """Write no more."""
        os.close(self._descriptor)


def read(path: Path) -> Iterator[Record]:
    """The whole lines of a log, as records."""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)


class Tail:
    """Follows a log that is still being written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        self.records: list[Record] = []

    def update(self) -> list[Record]:
        """All records up to now."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._position)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._position += len(line)
                    self.records.append(json.loads(line))
        except FileNotFoundError:
            pass
        return self.records

    def count(self, event: str) -> int:
        """How many records of an event there are."""
        return sum(record["e"] == event for record in self.update())
