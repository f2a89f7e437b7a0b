"""The process at the other end of a peer that has no host of its own."""

from __future__ import annotations

import subprocess
from typing import Any

import anyio
import anyio.to_thread

from .._runner import start_child


class Partner:
    """A child that runs a function. It says "ready" on its standard output and answers each line
    on its standard input with one; it ends when its input does."""

    def __init__(self, module: str, function: str, **parameters: Any) -> None:
        self._process = start_child(
            module, function, parameters, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def answer(self) -> str:
        """Wait for a line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline().decode().strip()
        if not line:
            raise RuntimeError(f"the partner ended with code {self._process.wait()}")
        return line

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    async def ask(self, line: str) -> str:
        """Send a line and wait for the answer, without blocking the event loop."""
        self.tell(line)
        return await anyio.to_thread.run_sync(self.answer)

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
