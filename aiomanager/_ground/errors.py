"""The errors a user of aiomanager can meet, in one tree.

Every class also inherits the exception that a caller of the standard library would already catch.
Whose fault it was is in the class: `QueueShutDown` means that somebody shut the queue down on
purpose, `ConnectionLostError` that the host went away, `ConfigurationError` that the call itself
cannot work as written.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import pickle
import queue
from multiprocessing import managers
from typing import TYPE_CHECKING

__all__ = [
    "AioManagerError",
    "AuthenticationError",
    "ConfigurationError",
    "ConnectionLostError",
    "DecodeError",
    "EncodeError",
    "LeaseLostError",
    "QueueEmpty",
    "QueueFull",
    "QueueShutDown",
    "RemoteError",
]


class AioManagerError(Exception):
    """Base of every error that aiomanager raises on its own account."""

    __module__ = "aiomanager"


class ConfigurationError(AioManagerError, ValueError):
    """An argument, an address, a key or a name that cannot work; the message says what to do."""

    __module__ = "aiomanager"


class AuthenticationError(AioManagerError, multiprocessing.AuthenticationError):
    """The host and this process do not have the same authkey."""

    __module__ = "aiomanager"


class ConnectionLostError(AioManagerError, ConnectionError):
    """There is no host at the address, or the connection to it broke or went silent.

    Attributes:
        outcome_known: True where the call certainly did not happen; False where it was on its way
            when the connection broke, so that it may or may not have happened.
    """

    __module__ = "aiomanager"

    def __init__(self, message: str, *, outcome_known: bool = True) -> None:
        super().__init__(message)
        self.outcome_known = outcome_known


def unanswered(seconds: float, *, sent: bool) -> ConnectionLostError:
    """The error of a call that the host has not answered in time."""
    if sent:
        return ConnectionLostError(
            f"the host has not answered within {seconds:.3g} s; whether the call has happened, or "
            "will, is unknown",
            outcome_known=False,
        )
    return ConnectionLostError(
        f"the host has not answered what was asked before within {seconds:.3g} s; this call was "
        "not sent"
    )


class QueueEmpty(AioManagerError, asyncio.QueueEmpty, queue.Empty):
    """Nothing to get: at once for `get_nowait`, within the timeout for `get`."""

    __module__ = "aiomanager"


class QueueFull(AioManagerError, asyncio.QueueFull, queue.Full):
    """No room to put: at once for `put_nowait`, within the timeout for `put`.

    Attributes:
        accepted: how many items of a `put_many` were put all the same, the first ones.
    """

    __module__ = "aiomanager"

    accepted = 0


if TYPE_CHECKING:

    class _StandardShutDown(Exception):
        pass
else:
    # queue.ShutDown and asyncio.QueueShutDown exist from Python 3.13 on.
    class _StandardShutDown(
        *(
            getattr(module, name)
            for module, name in ((queue, "ShutDown"), (asyncio, "QueueShutDown"))
            if hasattr(module, name)
        ),
        *(() if hasattr(queue, "ShutDown") else (Exception,)),
    ):
        """What the standard library of this Python raises for a queue that was shut down."""


class QueueShutDown(AioManagerError, _StandardShutDown):
    """The queue was shut down: no more puts, and gets only until the last item is out."""

    __module__ = "aiomanager"


class LeaseLostError(AioManagerError):
    """A delivery was settled too late: its item was handed out again, and nothing was changed."""

    __module__ = "aiomanager"


class EncodeError(AioManagerError, pickle.PicklingError, TypeError):
    """An item cannot be pickled; nothing was put."""

    __module__ = "aiomanager"


class DecodeError(AioManagerError, pickle.UnpicklingError):
    """An item came that this process cannot unpickle, as its class is not importable here.

    Attributes:
        data: the bytes that did not decode; the item itself is still with the queue.
    """

    __module__ = "aiomanager"

    def __init__(self, message: str, data: bytes = b"") -> None:
        super().__init__(message)
        self.data = data


class RemoteError(AioManagerError, managers.RemoteError):
    """The host failed to run a call; the message holds what the host said."""

    __module__ = "aiomanager"
