"""Programs in processes of their own: to start, to read from as they go, and to end."""

from __future__ import annotations

import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
EXAMPLES = PROJECT / "examples"


class Program:
    """A Python script that runs, as it stands, until the end of a `with` block at the latest.

    What it writes, to both outputs, is read as it comes, so that it never waits for a reader.

    Attributes:
        output: the lines that were read so far.
    """

    def __init__(
        self,
        path: Path,
        *args: str,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        python: str = sys.executable,
    ) -> None:
        # Blank as in a user's shell: an error in an example must not pass for a warning.
        self.process = subprocess.Popen(
            [python, str(path), *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=cwd,
            env=env,
        )
        self.output: list[str] = []
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def wait_for(self, pattern: str, timeout: float = 20.0) -> re.Match[str]:
        """Read until a line matches."""
        deadline = time.monotonic() + timeout
        while (line := self._next(deadline, f"a line like {pattern!r}")) is not None:
            if match := re.search(pattern, line):
                return match
        pytest.fail(f"the program ended without a line like {pattern!r}:\n{self.text}")

    def end(self, timeout: float = 30.0) -> int:
        """Read to the end of the output; return the exit code."""
        deadline = time.monotonic() + timeout
        while self._next(deadline, "its end") is not None:
            pass
        return self.process.wait(timeout)

    def interrupt(self) -> int:
        """Press Ctrl-C; return the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.end()

    @property
    def text(self) -> str:
        """The output so far."""
        return "\n".join(self.output)

    def _next(self, deadline: float, awaited: str) -> str | None:
        try:
            line = self._lines.get(timeout=max(0.01, deadline - time.monotonic()))
        except queue.Empty:
            pytest.fail(f"not in time: {awaited}; the program said:\n{self.text}")
        if line is not None:
            self.output.append(line)
        else:
            self._lines.put(None)  # for whoever asks again
        return line

    def __enter__(self) -> Program:  # noqa: PYI034 - nobody inherits from it
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


def free_port() -> int:
    """A TCP port of this machine that nobody uses at the moment."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
