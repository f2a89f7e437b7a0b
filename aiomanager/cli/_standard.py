"""Standard input and output on an event loop.

Reading a terminal and writing to a full pipe take as long as somebody else likes. Waiting for the
descriptor instead keeps the connection to the host alive, and lets Ctrl-C through at once.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import sys

import anyio
import anyio.to_thread

INPUT = 0
OUTPUT = 1
ERROR = 2

CHUNK = 256 * 1024
# A pipe or terminal that is writable takes this much without blocking.
_ATOMIC = 512 if not hasattr(select, "PIPE_BUF") else select.PIPE_BUF


async def read(descriptor: int = INPUT) -> bytes:
    """What there is to read, as soon as there is something; b"" at the end."""
    if descriptor == INPUT and sys.stdin is None:
        return b""  # it was closed, and its number may be that of a socket of ours by now
    if _is_file(descriptor):
        await anyio.lowlevel.checkpoint()
    elif sys.platform == "win32":
        return await anyio.to_thread.run_sync(os.read, descriptor, CHUNK)
    else:
        await anyio.wait_readable(descriptor)
    return os.read(descriptor, CHUNK)


async def write(data: bytes, descriptor: int = OUTPUT) -> None:
    """Write all of it.

    Raises `BrokenPipeError` where nobody reads any more, and other `OSError`s. Cancelled, it may
    have written a part.
    """
    if descriptor == OUTPUT and sys.stdout is None:
        raise OSError(errno.EBADF, "standard output is closed")
    view = memoryview(data)
    if sys.platform == "win32" or _is_file(descriptor):
        while view:
            view = view[os.write(descriptor, view) :]
        return
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    while view:
        if not poll.poll(0):
            await anyio.wait_writable(descriptor)
        view = view[os.write(descriptor, view[:_ATOMIC]) :]


async def reader_gone(descriptor: int = OUTPUT) -> None:
    """Return when the reader of a pipe is gone; never where output is something else."""
    if sys.platform != "win32" and stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        # Nothing can be read here: what wakes this is the error condition, which is always told.
        await anyio.wait_readable(descriptor)
        return
    await anyio.sleep_forever()


def discard_output() -> None:
    """Let what is still buffered for a reader who is gone end nowhere."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, OUTPUT)
    os.close(null)


def is_terminal(descriptor: int) -> bool:
    """Whether somebody sits there."""
    return os.isatty(descriptor)


def _is_file(descriptor: int) -> bool:
    """Whether it is always ready, and nothing that can be waited for."""
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISREG(mode) or (stat.S_ISCHR(mode) and not os.isatty(descriptor))
