"""Programs as whoever injects faults holds them: started, followed by their logs, and signalled."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import psutil

from tests.chaos.logs import Record, Tail
from tests.chaos.waits import until

ROOT = Path(__file__).parents[2]


class Nursery:
    """The process that forks programs. Ends with `close`, and with this process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.zygote"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._lock = threading.Lock()

    def order(self, *order: object) -> Any:
        """Give an order and return its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())

    def start(self, program: str, log: Path, options: dict[str, Any]) -> Program:
        """Start a program that writes to `log`, where it does not wait for anything yet."""
        return Program(self, self.order("start", program, str(log), options), log)

    def close(self) -> None:
        """End the nursery and all that it started."""
        self._process.communicate(timeout=20)


class Program:
    """A process that runs one of the programs.

    Attributes:
        name: of its log.
    """

    def __init__(self, nursery: Nursery, pid: int, log: Path) -> None:
        self.name = log.stem
        self.pid = pid
        self.log = Tail(log)
        self._nursery = nursery
        self._errors = log.with_suffix(".err")

    def __repr__(self) -> str:
        return f"{self.name} ({self.pid})"

    def signal(self, number: int) -> bool:
        """Send a signal; whether it was still there."""
        return bool(self._nursery.order("signal", self.pid, number))

    def kill(self) -> None:
        """End it at once, and see that it has."""
        self.signal(signal.SIGKILL)
        self.wait(5)

    def stop(self) -> None:
        """SIGSTOP."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        code: int | None = self._nursery.order("status", self.pid)
        return code

    def wait(self, timeout: float = 20.0) -> int:
        """Wait for its end; return the exit code."""
        until(lambda: self.code is not None, f"{self} ends", timeout)
        code = self.code
        assert code is not None
        return code

    def until(self, event: str, count: int = 1, timeout: float = 20.0) -> Record:
        """Wait until its log has an event, so many times; return the last of those records."""

        def found() -> list[Record]:
            matching = [record for record in self.log.update() if record["e"] == event]
            return matching if len(matching) >= count else []

        return until(found, f"{self}: {event} x{count}", timeout)[count - 1]

    @property
    def errors(self) -> str:
        """What it wrote to its standard error."""
        try:
            return self._errors.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    @property
    def process(self) -> psutil.Process:
        """What the system knows of it."""
        return psutil.Process(self.pid)
