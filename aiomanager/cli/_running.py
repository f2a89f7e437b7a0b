"""How a command runs and ends: one red line instead of a traceback, and the exit code."""

from __future__ import annotations

import asyncio
import logging
import re
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

import anyio
import typer

from aiomanager import AioManagerError

from . import _standard

# 128 and the number of the signal, as a shell reports it.
INTERRUPTED = 130
TERMINATED = 143

# What the messages of the library advise, and how that is said here.
_OPTIONS = {
    "connect(..., wait=10)": "--wait 10",
    "authkey= or": "--authkey-file or",
    "allow_short_key=True": "--allow-short-key",
    "a (host, port) pair, a socket path": "host:port, a path",
    "unix:///path, memory:// or memory://name": "or unix:///path",
}
# A message that begins with an argument which is an option here, too.
_ARGUMENT = re.compile(r"^(dead_letter|handshake_timeout|lease_timeout)\b")


class CommandError(Exception):
    """A command cannot go on; the message is for the user."""


def run(main: Callable[[], Coroutine[Any, Any, int | None]]) -> NoReturn:
    """Run a command on an event loop, and exit with the code that it returns, None being 0.

    What went wrong is one line on standard error, and exit code 1. Ctrl-C exits with 130 and
    SIGTERM with 143, both in peace and without a word. Other exceptions than ours and the system's
    are bugs, and keep their traceback.
    """
    raise typer.Exit(run_to_code(main))


def run_to_code(main: Callable[[], Coroutine[Any, Any, int | None]]) -> int:
    """As `run`, but return the exit code."""
    show_warnings()
    try:
        # Always asyncio, whatever else is installed.
        return anyio.run(_until_terminated, main, backend="asyncio")
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as exc:
        error = _innermost(exc)
        if isinstance(error, BrokenPipeError):
            _standard.discard_output()  # whoever reads has enough
            return 0
        if not isinstance(error, (AioManagerError, CommandError, OSError)):
            raise
        complain(one_line(error))
        return 1


async def _until_terminated(main: Callable[[], Coroutine[Any, Any, int | None]]) -> int:
    """Let SIGTERM do what Ctrl-C does: cancel, so that what is held goes back to its queue."""
    with anyio.CancelScope() as scope:
        if sys.platform != "win32":
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, scope.cancel)
        return await main() or 0
    return TERMINATED


def complain(message: str) -> None:
    """Print an error on standard error."""
    _say("error", "bold red", message)


def warn(message: str) -> None:
    """Print a warning on standard error."""
    _say("warning", "yellow", message)


def note(message: str) -> None:
    """Print on standard error what a user at a terminal wants to know and no program has to."""
    _print((message, "dim"))


def one_line(error: BaseException) -> str:
    """What an exception says, on one line and in the words of the command line."""
    return _translated(_joined(error))


def _translated(message: str) -> str:
    for argument, option in _OPTIONS.items():
        message = message.replace(argument, option)
    return _ARGUMENT.sub(lambda match: f"--{match[0].replace('_', '-')}", message)


def _joined(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" -")]
    if len(lines) > 1 and lines[0].startswith("Traceback"):
        return lines[-1]
    return " ".join(lines) or type(error).__name__


def _say(word: str, style: str, message: str) -> None:
    _print((f"{word}: ", style), (message, style))


def _print(*parts: tuple[str, str]) -> None:
    # Imported, and made, when there is something to say: most commands say nothing.
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True, highlight=False).print(Text.assemble(*parts), soft_wrap=True)


def _innermost(exc: BaseException) -> BaseException:
    """The one exception in groups of one."""
    parts: tuple[BaseException, ...] = getattr(exc, "exceptions", ())
    return _innermost(parts[0]) if len(parts) == 1 else exc


class _Warnings(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        warn(record.getMessage())


def show_warnings() -> None:
    """Print what the library logs as warnings, in the style of the errors."""
    logger = logging.getLogger("aiomanager")
    if not any(isinstance(handler, _Warnings) for handler in logger.handlers):
        logger.addHandler(_Warnings(logging.WARNING))
        logger.propagate = False
