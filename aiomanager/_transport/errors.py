"""The border for errors: whatever the system, or a library, calls a connection that failed becomes
an error of ours here, and nowhere else."""

from __future__ import annotations

import contextlib
import errno
import stat
from collections.abc import Awaitable, Generator
from pathlib import Path
from typing import TypeVar

import anyio

from .._ground.addresses import Address
from .._ground.errors import (
    AioManagerError,
    AuthenticationError,
    ConfigurationError,
    ConnectionLostError,
)
from .._wire.handshake import RelayedError

T = TypeVar("T")

# What the system calls a connection that the other side has closed.
_ENDED = (EOFError, BrokenPipeError, ConnectionResetError, anyio.EndOfStream)
# What is raised where a connection is used that cannot go on.
_BREAKS = (
    OSError, EOFError, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream,
)  # fmt: skip


def lost(address: Address, error: BaseException | None = None) -> ConnectionLostError:
    """The one error for a connection that broke, whatever it was that the system called it."""
    if isinstance(error, ConnectionLostError):
        return error
    closed_here = isinstance(error, OSError) and error.errno == errno.EBADF
    if isinstance(error, TimeoutError):
        what = "the host does not answer"
    elif error is None or isinstance(error, _ENDED):
        what = "the host closed the connection"
    elif closed_here or isinstance(error, anyio.ClosedResourceError):
        what = "it was closed here, after it had broken"
    else:
        what = f"{type(error).__name__}: {said(error)}"
    return ConnectionLostError(
        f"connection to {address} lost: {what}. A call that was on its way may or may not have "
        "happened.",
        outcome_known=False,
    )


def said(error: BaseException) -> str:
    """What an error says, whoever wrote it."""
    try:
        return str(error) or type(error).__name__
    except Exception:
        return type(error).__name__


def unreachable(
    address: Address, error: BaseException, story: str = ""
) -> ConnectionLostError | ConfigurationError:
    """The error for a connection that could not be made, for whatever reason; it is to be raised
    `from` the reason.

    Args:
        story: what went wrong at each address of the host, where it has several.
    """
    if address.kind == "unix":
        if "path too long" in said(error):
            return ConfigurationError(
                f"{address.value} has too many characters for the path of a socket"
            )
        try:
            mode = Path(address.value).stat().st_mode
        except (OSError, ValueError):  # the name of an abstract socket is no path
            pass
        else:
            if not stat.S_ISSOCK(mode):
                return ConfigurationError(f"{address.value} is no socket, so no host is there")
    if isinstance(error, TimeoutError):
        return ConnectionLostError(
            f"no host answered at {address} in time" + (f" ({story})" if story else "")
        )
    if story:
        why = story
    elif isinstance(error, _ENDED):
        why = "it closed the connection"
    else:
        why = said(error)
    return ConnectionLostError(
        f"no host at {address} ({why}). Start one there, with `aiomanager serve` say, or give "
        "one that is still starting some seconds with connect(..., wait=10)."
    )


def refused(address: Address, error: BaseException) -> AuthenticationError:
    """The error for a host, or for this process, that does not have the other's key."""
    if isinstance(error, RelayedError):
        return AuthenticationError(f"no host of this key is at {address}: {error}")
    return AuthenticationError(
        f"the host at {address} has another authkey than this process ({error}). Give both the "
        "same, by authkey= or $AIOMANAGER_AUTHKEY."
    )


class talking:  # noqa: N801 - it is used as a statement
    """Around what uses a connection: whatever breaks it becomes a `ConnectionLostError`. What a
    peer has said, an error among it, passes as it is, and so does a `BlockingIOError`: the
    connection is as good as before."""

    __slots__ = ("_address",)

    def __init__(self, address: Address) -> None:
        self._address = address

    def __enter__(self) -> None:
        """Talk."""

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: object
    ) -> None:
        if isinstance(exc, _BREAKS) and not isinstance(exc, (ConnectionLostError, BlockingIOError)):
            raise lost(self._address, exc) from exc


@contextlib.contextmanager
def connecting(address: Address) -> Generator[None]:
    """Around what makes a connection: whatever keeps it from being made becomes an error of
    ours."""
    try:
        yield
    except AioManagerError:
        raise
    except Exception as exc:
        raise unreachable(address, exc) from exc


async def in_time(work: Awaitable[T], timeout: float | None, address: Address) -> T:
    """Await with a deadline, on a connection; raises `ConnectionLostError`."""
    with talking(address):
        if timeout is None:
            return await work
        with anyio.fail_after(timeout):
            return await work
