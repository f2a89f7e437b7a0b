"""A connection on its way: one deadline, the addresses that are left, and what went wrong where.

Both transports connect by an `Approach`. It does no I/O; `connecting` does.
"""

from __future__ import annotations

from collections.abc import Iterable
from multiprocessing import AuthenticationError as StandardAuthenticationError
from time import monotonic
from types import TracebackType
from typing import Any, NamedTuple, Self

from .._ground.addresses import Address
from .._ground.errors import AioManagerError, ConfigurationError, ConnectionLostError
from .._wire.handshake import Handshake, client_handshake
from .errors import refused, said, unreachable
from .patience import attempts

# Seconds between the beginnings of two attempts, as RFC 8305 recommends; fewer where the time has
# no room for all addresses.
STAGGER = 0.25


class Place(NamedTuple):
    """One address of a host, as the socket module has it."""

    family: int
    where: Any

    def __str__(self) -> str:
        return self.where if isinstance(self.where, str) else str(self.where[0])


class Transport:
    """What both transports have of a host, and say to it first.

    Args:
        connect_timeout: seconds for the whole of a connection: to look its name up, to connect, by
            however many attempts, to authenticate and to introduce oneself.
    """

    def __init__(self, address: Address, authkey: bytes, connect_timeout: float) -> None:
        self._address = address
        self._authkey = authkey
        self._timeout = connect_timeout
        self._good: Place | None = None  # where the host was found last

    def _handshake(self) -> Handshake:
        """This side's part of a handshake. On TCP somebody could stand in between."""
        return client_handshake(self._authkey, sealed=self._address.kind == "tcp")


class Approach:
    """One connection on its way. Each attempt is made in a `with` block, which swallows errors
    that a further attempt may not meet.

        with connecting(address):
            <find(approach)>
            while approach.goes_on():
                with approach:
                    return <a connection>
        raise approach.error() from approach.cause

    Args:
        timeout: seconds for all of it.
        first: the address to begin with, where the host still has it: the one that was good before.

    Attributes:
        places: the addresses that are left to try.
        connected: the address of the attempt that is under way, once it has connected.
        until: when the attempt that is under way has to be over.
        abandoned: set by another thread when nobody waits for the connection any more.
        cause: what the last attempt raised.
    """

    def __init__(self, address: Address, timeout: float, first: Place | None = None) -> None:
        self.address = address
        self.deadline = self.until = monotonic() + timeout
        self.places: list[Place] = []
        self.connected: Place | None = None
        self.abandoned = False
        self.cause: Exception | None = None
        self._first = first
        self._attempts = attempts(address, self.deadline)
        self._began = monotonic()
        self._all: list[Place] = []
        self._failures: dict[Place, Exception] = {}

    @property
    def left(self) -> float:
        """Seconds that are left to the attempt; raises `TimeoutError` where there are none."""
        if self.abandoned:
            raise ConnectionLostError("nobody waits for this connection any more")
        left = self.until - monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    @property
    def stagger(self) -> float:
        """Seconds after which the attempt tries one more address."""
        return min(STAGGER, (self.until - self._began) / (len(self.places) + 1))

    def found(self, places: Iterable[Place]) -> None:
        """Set the addresses of the host."""
        self._all = sorted(places, key=lambda place: place != self._first)
        self.places = list(self._all)

    def failed(self, place: Place, error: Exception) -> None:
        """An address did not connect in this attempt."""
        self._failures[place] = error

    def goes_on(self) -> bool:
        """Whether there is anything left to try, and time for it."""
        if not self.places:
            return False
        timeout = next(self._attempts, None)
        if timeout is None:
            return False
        self._began = monotonic()
        self.until = self._began + timeout
        return True

    def __enter__(self) -> Self:
        self.connected = None
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if not isinstance(exc, Exception) or isinstance(exc, ConfigurationError) or self.abandoned:
            return False
        if isinstance(exc, ConnectionLostError) and isinstance(exc.__cause__, Exception):
            exc = exc.__cause__  # no call was on its way
        self.cause = exc
        if self.connected is not None:
            self._failures[self.connected] = exc
            self.places.remove(self.connected)
        if isinstance(exc, TimeoutError) and self._is_over():
            # A stock host drops connections that look made; the next may be answered. Another
            # address is tried first.
            if self.connected is not None:
                self.places.append(self.connected)
        elif self.connected is None:
            self.places.clear()  # none of them takes connections
        return True

    def _is_over(self) -> bool:
        """Whether the attempt has used its time; a `TimeoutError` may have other reasons."""
        now = monotonic()
        return now - self._began > 0.9 * (self.until - self._began)

    def error(self) -> AioManagerError:
        """The error for a connection that could not be made, which names what failed where."""
        for failure in self._failures.values():
            if isinstance(failure, StandardAuthenticationError):
                return refused(self.address, failure)
        return unreachable(self.address, self.cause or TimeoutError(), self._story())

    def _story(self) -> str:
        if len(self._all) < 2:
            return ""
        return "; ".join(f"{place}: {self._why(place)}" for place in self._all)

    def _why(self, place: Place) -> str:
        failure = self._failures.get(place)
        if failure is None or isinstance(failure, TimeoutError):
            return "no answer"
        if isinstance(failure, OSError) and failure.strerror:
            return failure.strerror
        return said(failure)
