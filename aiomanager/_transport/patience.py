"""How often, and for how long, it is tried to connect."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator
from time import monotonic

import anyio

from .._ground.addresses import Address
from .._ground.errors import ConnectionLostError
from .base import Connection

# Seconds between two attempts to connect, and between two connections that broke soon.
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 2.0
# Seconds that each attempt has at least.
SHORTEST_ATTEMPT = 0.75


def attempts(address: Address, deadline: float) -> Iterator[float]:
    """How long each attempt to connect may take, so that all of them end by the deadline.

    A stock host drops connections that look made while its backlog is full, which has room for 16
    up to Python 3.12: there nobody answers, however long one waits, but a new one will be. Each
    side waits for another time, so that those who were dropped do not all come back at once.
    """
    timeout = deadline - monotonic()
    while (left := deadline - monotonic()) > timeout / 4 and address.kind == "tcp":
        yield left * random.uniform(0.2, 0.4)  # noqa: S311 - no secret
    if left > 0:
        yield left


class Pauses:
    """Seconds between attempts, which grow with each of them."""

    def __init__(self) -> None:
        self._next = FIRST_PAUSE

    async def sleep(self, deadline: float) -> None:
        """Wait before the next attempt, but not past the deadline."""
        # With jitter: clients that lost the same host do not all come back at once.
        pause = random.uniform(self._next / 2, self._next)  # noqa: S311 - no secret
        self._next = min(2 * self._next, LONGEST_PAUSE)
        await anyio.sleep(max(0.0, min(pause, deadline - anyio.current_time())))


async def open_patiently(
    open_connection: Callable[[], Awaitable[Connection]],
    deadline: float,
    pauses: Pauses,
    unwanted: Callable[[], bool],
) -> Connection:
    """Try until there is a connection, it is not wanted any more, or the deadline has passed;
    raises what the last attempt did."""
    error = ConnectionLostError("no host answered in time")
    while True:
        left = max(SHORTEST_ATTEMPT, deadline - anyio.current_time())
        with anyio.move_on_after(left):
            try:
                return await open_connection()
            except ConnectionLostError as exc:
                error = exc
        if unwanted() or anyio.current_time() >= deadline:
            raise error
        await pauses.sleep(deadline)
