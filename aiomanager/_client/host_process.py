"""The owner's side of an embedded host: a clean interpreter that ends with this process."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from multiprocessing import spawn
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

from .._ground.addresses import Address
from .._ground.errors import ConfigurationError, ConnectionLostError
from .._host.settings import check_queues

# The folder of this package comes last in the child's path and its working folder is left out, so
# that no file of the program's stands in for a module of the standard library. The first line shows
# that it was a Python, and one that can run this package, which has read it.
_PROGRAM = """
import os, sys
sys.version_info >= (3, 11) or sys.exit("the host needs Python 3.11 or later")
os.write(1, b'{"python": true}\\n')
sys.path.append(sys.argv[1])
try:
    import aiomanager
except ImportError:  # a Python without what a client needs; a host needs nothing
    import types
    for name in [name for name in sys.modules if name.partition(".")[0] == "aiomanager"]:
        del sys.modules[name]
    package = sys.modules["aiomanager"] = types.ModuleType("aiomanager")
    package.__path__ = [os.path.join(sys.argv[1], "aiomanager")]
from aiomanager._host.child import main
main()
"""
START_TIMEOUT = 20.0
END_TIMEOUT = 3.0

# What a Python is called, by which it can be told from a program that has one in it and would only
# begin once more: a web server, or a frozen application.
_PYTHON = re.compile(
    r"(python|pypy|graalpy)w?[\d.]*t?d?(-dbg|-intel64|-arm64)?(\.exe)?", re.IGNORECASE
)
# What a host's process has in its environment. A program that finds it there was started in place
# of a Python, and must not start one more.
_MARK = "AIOMANAGER_IS_THE_HOST_OF"


_ADVICE = (
    "Name a Python 3.11 or later by multiprocessing.set_executable('/usr/bin/python3'), or start "
    "the host with `aiomanager serve` and connect() to it; a frozen program that calls "
    "multiprocessing.freeze_support() can start one by QueueManager(ctx='spawn').start()."
)


class _NoPythonError(Exception):
    """What was started is no Python, or one that is too old."""


def interpreters() -> list[str]:
    """What may be a Python to run a host, the likeliest first.

    That is what `multiprocessing.set_executable` was told; else this process's own, unless by its
    name it is another program with a Python in it; else the one that belongs to its libraries.
    """
    frozen = bool(getattr(sys, "frozen", False))
    own = sys.executable or ""
    told = os.fsdecode(spawn.get_executable() or "")
    candidates: list[str] = []
    if told and not _same(told, own) and (_is_called_python(told) or not _is_running(told)):
        candidates.append(told)
    if not frozen:
        # Of a frozen program none of these is another program.
        bases = [own, getattr(sys, "_base_executable", None) or ""]
        names = [f"python3.{sys.version_info.minor}", "python3", "python"]
        folder, ending = ("", ".exe") if sys.platform == "win32" else ("bin", "")
        for prefix in (sys.exec_prefix, sys.base_exec_prefix):
            bases += [str(Path(prefix, folder, name + ending)) for name in names]
        candidates += filter(_is_called_python, bases)
    return list(dict.fromkeys(candidates))


def _is_called_python(path: str) -> bool:
    return _PYTHON.fullmatch(Path(path).name) is not None


def _is_running(path: str) -> bool:
    """Whether it is this process's own program, as far as can be seen."""
    names = [shutil.which(name) or name for name in [*sys.orig_argv[:1], *sys.argv[:1]]]
    return any(_same(path, name) for name in ["/proc/self/exe", *names])


def _same(path: str, other: str) -> bool:
    try:
        return path == other or Path(path).samefile(other)
    except (OSError, ValueError):
        return False


class _Lines:
    """Lines of JSON from a stream, one after the other."""

    def __init__(self, stream: TextReceiveStream) -> None:
        self._stream = stream
        self._text = ""

    async def next(self) -> Any:
        """Raises ValueError where there is none."""
        while "\n" not in self._text:
            try:
                self._text += await self._stream.receive()
            except anyio.EndOfStream:
                break
        line, _, self._text = self._text.partition("\n")
        return json.loads(line)


class HostProcess:
    """A host in a child process, which is told what to host over its standard input and serves
    until that ends: at `end`, or when this process is gone.

    Args:
        address: where it shall listen; None for a private socket.
        lease_timeout, dead_letter, max_deliveries: as in `QueueManager`.
    """

    def __init__(
        self,
        address: Address | None,
        authkey: bytes,
        queues: Mapping[str, int],
        *,
        lease_timeout: float | None,
        dead_letter: str | None,
        max_deliveries: int,
    ) -> None:
        if address is not None and address.kind not in ("tcp", "unix"):
            raise ConfigurationError(f"a host cannot listen on {address}")
        self._settings = {
            "address": None if address is None else address.value,
            "authkey": base64.b64encode(authkey).decode(),
            "queues": check_queues(queues),
            "lease_timeout": lease_timeout,
            "dead_letter": dead_letter,
            "max_deliveries": max_deliveries,
        }
        self._process: Process | None = None
        self._unwanted = False

    async def start(self) -> Any:
        """Start the child and return the address that it listens on.

        Raises:
            ConfigurationError: it cannot listen there.
            ConnectionLostError: it did not come up.
        """
        if _MARK in os.environ:
            raise ConfigurationError(
                "this program was started in place of a Python, to be a host: its sys.executable, "
                f"{sys.executable!r}, is no Python. {_ADVICE}"
            )
        tried: list[str] = []
        for executable in await anyio.to_thread.run_sync(
            interpreters, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1)
        ):
            try:
                answer = await self._answer_of(executable)
            except _NoPythonError as exc:
                tried.append(f"{executable} ({exc})")
                continue
            if "error" in answer:
                await self.end()
                raise ConfigurationError(answer["error"])
            address = answer["address"]
            return address if isinstance(address, str) else (address[0], address[1])
        raise ConfigurationError(
            f"host() needs a Python for the host's process, and sys.executable, "
            f"{sys.executable!r}, is none that can be started without starting this program again; "
            f"tried: {', '.join(tried) or 'nothing'}. {_ADVICE}"
        )

    async def _answer_of(self, executable: str) -> dict[str, Any]:
        """What the child says that runs this interpreter; raises `_NoPythonError` where it is
        none."""
        try:
            process = self._process = await anyio.open_process(
                [executable, "-P", "-c", _PROGRAM, str(Path(__file__).parent.parent.parent)],
                stderr=None,
                env={**os.environ, _MARK: str(os.getpid())},
                # Ctrl-C is for the owner alone, who decides what it means for the host; before the
                # child could see to that itself, it would end there with a traceback.
                start_new_session=True,
            )
        except OSError as exc:
            raise _NoPythonError(exc.strerror or exc) from exc
        if self._unwanted:
            self.wake()
        assert process.stdin is not None
        assert process.stdout is not None
        lines = _Lines(TextReceiveStream(process.stdout))
        is_python = False
        try:
            with anyio.fail_after(START_TIMEOUT):
                with contextlib.suppress(anyio.BrokenResourceError):  # what it said may be there
                    await process.stdin.send(json.dumps(self._settings).encode() + b"\n")
                is_python = await lines.next() == {"python": True}
                if is_python:
                    answer: dict[str, Any] = await lines.next()
                    return answer
        except (TimeoutError, ValueError, anyio.BrokenResourceError) as exc:
            error = exc
        else:
            error = ValueError("it said something else")
        await self.end()
        if not is_python and not self._unwanted:
            raise _NoPythonError(f"it ended with code {process.returncode}") from error
        raise ConnectionLostError(
            f"the host process did not start; it ended with code {process.returncode}, and "
            "what it said stands on the standard error"
        ) from error

    @property
    def pid(self) -> int | None:
        """The child's process id, once it is started."""
        return None if self._process is None else self._process.pid

    async def end(self) -> None:
        """Let the child end, and see that it does."""
        process = self._process
        if process is None:
            return
        assert process.stdin is not None
        with contextlib.suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            await process.stdin.aclose()
        with anyio.move_on_after(END_TIMEOUT):
            await process.wait()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await process.aclose()

    def wake(self) -> None:
        """Let a child that is starting, or only about to start, end instead. Not by force: it may
        have a socket to remove."""
        self._unwanted = True
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
