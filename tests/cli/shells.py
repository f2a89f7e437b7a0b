"""A shell: commands with an environment of their own, and how they ended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

import anyio
from typer.testing import CliRunner

import aiomanager
from aiomanager import AsyncManager, QueueStatistics
from aiomanager.cli._app import app

T = TypeVar("T")


TIMEOUT = 30.0


KEY = "a key that only this test knows"


@dataclass
class Shell:
    """Runs commands with an environment of its own."""

    folder: Path
    environ: dict[str, str] = field(default_factory=dict)

    def start(
        self, *arguments: str | bytes, out: int | IO[bytes] = subprocess.PIPE
    ) -> subprocess.Popen[bytes]:
        """Start a command, with pipes to it and from it."""
        environ = {k: v for k, v in os.environ.items() if not k.startswith("AIOMANAGER_A")}
        return subprocess.Popen(
            [sys.executable, "-m", "aiomanager", *arguments],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.PIPE,
            cwd=self.folder,
            env=environ | ROOT | self.environ,
        )

    def run(self, *arguments: str | bytes, stdin: bytes = b"", code: int = 0) -> Result:
        """Run a command to its end, which must be the exit code."""
        with self.start(*arguments) as process:
            out, err = process.communicate(stdin, TIMEOUT)
        result = Result(process.returncode, out, err.decode())
        assert result.code == code, result
        assert "Traceback" not in result.err
        return result

    def fail(self, *arguments: str | bytes, stdin: bytes = b"") -> str:
        """Run a command that ends with an error, and return its one line."""
        result = self.run(*arguments, stdin=stdin, code=1)
        assert result.err.count("\n") == 1, result.err
        assert result.err.startswith("error: ")
        return result.err

    def call(self, *arguments: str, code: int = 0) -> Result:
        """Run a command in this process, which is quicker: for those that leave the descriptors of
        standard input and output alone."""
        environ = self.environ | {"COLUMNS": "200"}
        result = CliRunner().invoke(app, arguments, env=environ, catch_exceptions=False)
        assert result.exit_code == code, result.output
        return Result(code, result.stdout_bytes, result.stderr)

    # What a test needs beside the command that it is about goes without one.

    def put(self, queue: str, *items: Any) -> None:
        """Put items."""
        self._ask(lambda manager: manager.queue(queue).put_many(items))

    def items(self, queue: str) -> list[Any]:
        """Empty a queue."""

        async def get_all(manager: AsyncManager) -> list[Any]:
            jobs = manager.queue(queue)
            items: list[Any] = []
            while count := await jobs.qsize():
                items += await jobs.get_many(count)
            return items

        return self._ask(get_all)

    def counts(self, queue: str) -> QueueStatistics:
        """What the host counts."""
        return self._ask(lambda manager: manager.queue(queue).statistics())

    def _ask(self, question: Callable[[AsyncManager], Awaitable[T]]) -> T:
        async def ask() -> T:
            address, key = (self.environ[f"AIOMANAGER_{name}"] for name in ("ADDRESS", "AUTHKEY"))
            async with aiomanager.connect(address, key) as manager:
                return await question(manager)

        return anyio.run(ask)


# The package may not be installed.
ROOT = {"PYTHONPATH": str(Path(aiomanager.__file__).parent.parent), "COLUMNS": "200"}


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: bytes
    err: str


def first_line(process: subprocess.Popen[bytes]) -> str:
    """The first line on standard output."""
    assert process.stdout is not None
    return process.stdout.readline().decode()


def stop(process: subprocess.Popen[bytes], number: int) -> Result:
    """Send a signal, and see how the process ends."""
    process.send_signal(number)
    out, err = process.communicate(timeout=TIMEOUT)
    return Result(process.returncode, out, err.decode())


QUEUES = {"jobs": 0, "small": 100, "failed": 0}
