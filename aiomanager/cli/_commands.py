"""Commands that are run for items: one process for each, its standard input the item."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import anyio
from anyio.abc import Process

from aiomanager import DecodeError

from ._items import Form, argument, render
from ._running import CommandError

PLACEHOLDER = "{}"


class CommandFailed(Exception):
    """A command did not do its item: it ended with another code than 0, or never started."""


class Killed(BaseException):
    """The command was killed since nobody wants to wait for it.

    No Exception, as it is no failure of the item, which is to be handed out again.
    """


class Commands:
    """Runs a command for an item, in a session of its own, so that Ctrl-C leaves it alone.

    Args:
        parts: the program and its arguments; `{}` in them stands for the item.
    """

    def __init__(self, parts: Sequence[str], form: Form) -> None:
        self._parts = parts
        self._form = form
        self._running: set[Process] = set()
        self._killed = False

    @property
    def running(self) -> int:
        """How many commands run."""
        return len(self._running)

    def kill(self) -> None:
        """Kill those that run, with their children."""
        self._killed = True
        for process in self._running:
            _kill(process)

    async def __call__(self, item: Any) -> None:
        """Run the command for an item, and wait for its end. Cancelled, it is killed.

        Raises `CommandFailed`, and `Killed` where `kill` was the reason.
        """
        process = await self._start(item)
        self._running.add(process)
        try:
            await _feed(process, render(item, self._form))
            code = await process.wait()
        finally:
            _kill(process)
            with anyio.CancelScope(shield=True):
                await process.aclose()
            self._running.discard(process)
        if code != 0 and self._killed:
            raise Killed
        if code != 0:
            raise CommandFailed(
                f"exit code {code}" if code > 0 else f"killed by {signal.Signals(-code).name}"
            )

    async def _start(self, item: Any) -> Process:
        try:
            text = argument(item, self._form)
            return await anyio.open_process(
                [part.replace(PLACEHOLDER, text) for part in self._parts],
                stdin=subprocess.PIPE,
                stdout=None,
                stderr=None,
                start_new_session=True,
            )
        except (OSError, ValueError, DecodeError, CommandError) as exc:
            raise CommandFailed(f"not started: {exc}") from exc


def describe(parts: Sequence[str], item: Any, form: Form) -> str:
    """The command line for an item, for messages."""
    try:
        text = argument(item, form)
    except (DecodeError, CommandError):
        text = "?"
    if not any(PLACEHOLDER in part for part in parts):
        return f"{shlex.join(parts)} <<< {_short(text)}"
    return shlex.join(part.replace(PLACEHOLDER, _short(text)) for part in parts)


def _short(text: str) -> str:
    text = text.encode("utf-8", "backslashreplace").decode()
    text = text if len(text) <= 60 else f"{text[:59]}…"
    return text if text.isprintable() else ascii(text)


async def _feed(process: Process, data: bytes) -> None:
    assert process.stdin is not None
    # A command that does not care for its input has every right to end before it has read it.
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        await process.stdin.send(data)
    with suppress(anyio.BrokenResourceError, OSError):
        await process.stdin.aclose()


def _kill(process: Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            if sys.platform == "win32":
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL)
