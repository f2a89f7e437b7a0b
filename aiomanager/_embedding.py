"""The owner's side of an embedded host: a clean interpreter that ends with this process."""

from __future__ import annotations

import base64
import contextlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

from ._addresses import Address
from ._errors import ConfigurationError, ConnectionLostError
from ._settings import check_queues

# The folder of this package comes last in the child's path and its working folder is left out, so
# that no file of the program's stands in for a module of the standard library.
_PROGRAM = "import sys; sys.path.append(sys.argv[1]); from aiomanager._embedded import main; main()"
START_TIMEOUT = 20.0
END_TIMEOUT = 3.0


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
        try:
            process = self._process = await anyio.open_process(
                [sys.executable, "-P", "-c", _PROGRAM, str(Path(__file__).parent.parent)],
                stderr=None,
                # Ctrl-C is for the owner alone, who decides what it means for the host; before the
                # child could see to that itself, it would end there with a traceback.
                start_new_session=True,
            )
        except OSError as exc:
            raise ConnectionLostError(f"cannot start {sys.executable}, the host: {exc}") from exc
        if self._unwanted:
            self.hurry()
        assert process.stdin is not None
        assert process.stdout is not None
        line = ""
        try:
            with anyio.fail_after(START_TIMEOUT):
                await process.stdin.send(json.dumps(self._settings).encode() + b"\n")
                async for text in TextReceiveStream(process.stdout):
                    line += text
                    if line.endswith("\n"):
                        break
                answer = json.loads(line)
        except (TimeoutError, ValueError, anyio.BrokenResourceError) as exc:
            await self.end()
            raise ConnectionLostError(
                f"the host process did not start; it ended with code {process.returncode}, and "
                "what it said stands on the standard error"
            ) from exc
        if "error" in answer:
            await self.end()
            raise ConfigurationError(answer["error"])
        address = answer["address"]
        return address if isinstance(address, str) else (address[0], address[1])

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

    def hurry(self) -> None:
        """Let a child that is starting, or only about to start, end instead. Not by force: it may
        have a socket to remove."""
        self._unwanted = True
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
