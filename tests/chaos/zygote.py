"""A process that has imported everything and forks programs on demand, in milliseconds each.

It reads a line of JSON for each order and answers with one. Only what it has forked itself and not
yet collected is ever signalled. It ends, with all that it has started, when its input does.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from multiprocessing import AuthenticationError
from pathlib import Path
from typing import Any

from aiomanager import ConnectionLostError
from tests.chaos.defects import apply_defect
from tests.chaos.logs import Log
from tests.chaos.programs.table import PROGRAMS

# What programs import when they start, so that they need not.
_PRELOADED = ("anyio._backends._asyncio", "anyio._backends._trio", "uvloop", "trio")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Zygote:
    """The orders that can be given."""

    def __init__(self) -> None:
        self._running: set[int] = set()
        self._ended: dict[int, int] = {}

    def start(self, program: str, log: str, options: dict[str, Any]) -> int:
        """Fork a program; return its process id."""
        pid = os.fork()
        if pid == 0:
            _become(program, Path(log), options)
        self._running.add(pid)
        return pid

    def signal(self, pid: int, number: int) -> bool:
        """Send a signal; whether the process was still there."""
        if self.status(pid) is not None:
            return False
        os.kill(pid, number)
        return True

    def status(self, pid: int) -> int | None:
        """The exit code, negative for a signal; None while the process runs."""
        if pid in self._running:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                return None
            self._running.discard(pid)
            self._ended[pid] = os.waitstatus_to_exitcode(status)
        return self._ended[pid]

    def end(self) -> None:
        """Kill what is left."""
        for pid in self._running:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _become(program: str, log: Path, options: dict[str, Any]) -> None:
    """In the child: run a program and never return."""
    code = 1
    try:
        null = os.open(os.devnull, os.O_RDWR)
        errors = os.open(log.with_suffix(".err"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for source, target in ((null, 0), (errors, 1), (errors, 2)):
            os.dup2(source, target)
        os.close(null)
        os.close(errors)
        for number in _SIGNALS:
            signal.signal(number, signal.default_int_handler if number == 2 else signal.SIG_DFL)
        # What multiprocessing leaves where its process is killed goes with the logs.
        tempfile.tempdir = os.environ["TMPDIR"] = str(log.parent)
        writer = Log(log)
        try:
            apply_defect(options)
            writer.write("start", pid=os.getpid(), program=program)
            code = PROGRAMS[program](writer, options) or 0
            writer.write("end")
        except SystemExit as exc:  # how a stock host ends
            code = exc.code if isinstance(exc.code, int) else 1
        except BaseException as exc:
            refused = isinstance(exc, (AuthenticationError, ConnectionLostError))
            if refused and options.get("may_be_refused"):
                writer.write("refused", why=str(exc))
                code = 0
            else:
                traceback.print_exc()
                writer.write("error", why=f"{type(exc).__name__}: {exc}"[:500])
    finally:
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Obey until the input ends."""
    # Ctrl-C reaches the whole group; whoever gives the orders decides what it means.
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    for module in _PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    gc.freeze()
    zygote = Zygote()
    orders: dict[str, Callable[..., object]] = {
        "start": zygote.start,
        "signal": zygote.signal,
        "status": zygote.status,
    }
    with contextlib.closing(sys.stdin):
        for line in sys.stdin:
            order, *arguments = json.loads(line)
            answer = orders[order](*arguments)
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
    zygote.end()


if __name__ == "__main__":
    main()
