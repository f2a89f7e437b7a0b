"""The processes that play the roles of the demonstration, as their parent sees them."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from .._options import AUTHKEY_VARIABLE
from .._running import CommandError
from .roles import READY

# Seconds for a process to start, or to come to the next item.
PATIENCE = 60.0

_LONGEST_LINE = 1000

# As `host()` starts its interpreter: no file in the working folder stands in for a module.
_PROGRAM = (
    "import sys; sys.path.append(sys.argv.pop(1)); "
    "from aiomanager.cli._demo.roles import main; main()"
)
_FOLDER = str(Path(__file__).parents[3])


class Player:
    """A process that plays a role; it is killed where the `async with` block is left early.

    Args:
        role: which, by its name in `ROLES`.
        address: where the host is.
        authkey: the host's, which no command line shows.
        items: how many it is about.
    """

    def __init__(self, role: str, address: str, authkey: bytes, items: int) -> None:
        self._role = role
        self._authkey = authkey
        self._arguments = [role, address, str(items)]
        self._process: Process | None = None

    async def __aenter__(self) -> Self:
        self._process = await anyio.open_process(
            [sys.executable, "-P", "-c", _PROGRAM, _FOLDER, *self._arguments],
            stderr=None,
            start_new_session=True,  # Ctrl-C is for the parent alone, which ends them all
            env=os.environ | {AUTHKEY_VARIABLE: self._authkey.decode()},
        )
        assert self._process.stdout is not None
        self._lines = BufferedByteReceiveStream(self._process.stdout)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process is not None:
            if self._process.returncode is None:
                self._process.kill()
            with anyio.CancelScope(shield=True):
                await self._process.aclose()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    async def ready(self) -> None:
        """Wait until it is connected."""
        if await self._line() != READY:
            raise CommandError(f"the {self._role} did not start")

    async def go(self) -> None:
        """Let it begin."""
        assert self._process is not None
        assert self._process.stdin is not None
        await self._process.stdin.send(b"go\n")

    async def counts(self) -> AsyncIterator[int]:
        """How many items it has come to, again and again until it ends."""
        while line := await self._line():
            if line != READY:
                yield int(line)

    async def end(self) -> None:
        """Wait until it ends."""
        assert self._process is not None
        with anyio.fail_after(PATIENCE):
            code = await self._process.wait()
        if code != 0:
            raise CommandError(f"the {self._role} ended with exit code {code}")

    async def _line(self) -> str:
        """The next line that it says, "" at its end."""
        try:
            with anyio.fail_after(PATIENCE):
                return (await self._lines.receive_until(b"\n", _LONGEST_LINE)).decode()
        except anyio.IncompleteRead:
            return ""
        except TimeoutError:
            raise CommandError(f"the {self._role} hangs") from None
