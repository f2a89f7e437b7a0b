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


async def read() -> bytes:
    """What there is to read, as soon as there is something; b"" at the end."""
    if not is_open(INPUT):
        return b""
    if _is_file(INPUT):
        await anyio.lowlevel.checkpoint()
    elif sys.platform == "win32":
        return await anyio.to_thread.run_sync(os.read, INPUT, CHUNK)
    else:
        await anyio.wait_readable(INPUT)
    return os.read(INPUT, CHUNK)


async def write(data: bytes) -> None:
    """Write all of it.

    Raises `BrokenPipeError` where nobody reads any more, and other `OSError`s. Cancelled, it may
    have written a part.
    """
    require_output()
    view = memoryview(data)
    if sys.platform == "win32" or _is_file(OUTPUT):
        while view:
            view = view[os.write(OUTPUT, view) :]
        return
    poll = select.poll()
    poll.register(OUTPUT, select.POLLOUT)
    while view:
        if not poll.poll(0):
            await anyio.wait_writable(OUTPUT)
        view = view[os.write(OUTPUT, view[:_ATOMIC]) :]


async def reader_gone() -> None:
    """Return when the reader of a pipe is gone; never where output is something else."""
    is_pipe = is_open(OUTPUT) and stat.S_ISFIFO(os.fstat(OUTPUT).st_mode)
    if is_pipe and sys.platform != "win32":
        # Nothing can be read here: what wakes this is the error condition, which is always told.
        await anyio.wait_readable(OUTPUT)
        return
    await anyio.sleep_forever()


def require_output() -> None:
    """Raise `OSError` where there is no standard output, which `print` takes in silence."""
    if not is_open(OUTPUT):
        raise OSError(errno.EBADF, "standard output is closed")


def is_open(descriptor: int) -> bool:
    """Whether it was there when this process began. If not, its number may be that of a socket of
    ours by now."""
    # What the type says is not so: these are None where the descriptor was closed.
    streams: tuple[object, ...] = (sys.stdin, sys.stdout, sys.stderr)
    return streams[descriptor] is not None


def discard_output() -> None:
    """Let what is still buffered for a reader who is gone end nowhere."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, OUTPUT)
    os.close(null)


def is_terminal(descriptor: int) -> bool:
    """Whether somebody sits there."""
    return is_open(descriptor) and os.isatty(descriptor)


def _is_file(descriptor: int) -> bool:
    """Whether it is always ready, and nothing that can be waited for."""
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISREG(mode) or (stat.S_ISCHR(mode) and not os.isatty(descriptor))
