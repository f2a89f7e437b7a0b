"""Outcomes: what became of a call that waits at a queue, and their way to whoever drives it.

A queue sends nothing. It appends each outcome to `Answers`, which all queues of a host share, and
the driver takes them out after each of its calls and tells the callers. So there is one place where
a journal can stand between: what it lets nobody hear before it is on disk, it holds there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from .._ground.buffers import Buffer

# Not frozen, any of them: one is made for each call, and to make it would take four times as long.


@dataclass(slots=True)
class Accepted:
    """So many frames of a put are in the queue: all, or the first few where the time was up, the
    call was cancelled or the queue was shut down meanwhile."""

    count: int


@dataclass(slots=True)
class Handed:
    """Items for a receive, at least one, as (delivery id, attempt, data). They are out from when
    this is made: a driver that cannot deliver it gives it to `undelivered`.

    Attributes:
        owner: whose leases they are.
        leased: whether they are; else they are taken, and in the place of an id is the item, which
            `undeliver` takes.
    """

    deliveries: list[tuple[Any, int, Buffer]]
    owner: Hashable
    leased: bool


@dataclass(slots=True)
class Nothing:
    """No item for a receive: the time was up, or it was cancelled."""


@dataclass(slots=True)
class Joined:
    """The end of a join: every item is `finished`, or the time was up, or it was cancelled."""

    finished: bool


@dataclass(slots=True)
class ShutDown:
    """The queue is shut down: it takes in nothing more, or has nothing more to hand out."""

    message: str


@dataclass(slots=True)
class Returned:
    """The value that a method of the queue has returned to the driver, in the words of the method.
    The driver appends it, for its caller to hear it no sooner than others hear what it changed."""

    value: Any


@dataclass(slots=True)
class Refused:
    """The call failed: there was no memory, or it made no sense."""

    error: Exception


Outcome: TypeAlias = Accepted | Handed | Nothing | Joined | ShutDown | Returned | Refused

NOTHING = Nothing()


class Caller(Protocol):
    """Who waits for the outcome of a call, as the driver knows him. A queue only hands him on."""

    def tell(self, outcome: Outcome) -> None:
        """Take the outcome, once. It may call the queue: `undelivered` where he is gone."""
        ...


class Mover(Protocol):
    """A queue with more to do, once what it has said is delivered."""

    def go_on(self) -> None:
        """Do it, up to the next hand-out."""
        ...


class Answers:
    """The outcomes that nobody was told yet, of all queues of a host, in their order.

    Order rule. A queue serves one waiting receive, and the next when its driver comes back for
    more: by then he has told the first, or has said `undelivered`. So the items of one who is gone
    go to the next in line, before those that come after them. A driver that holds back what it has
    taken out gives that up for those moments, and no more: what it finds undeliverable later is at
    its place again, before all that was put after it.
    """

    def __init__(self) -> None:
        self._outcomes: deque[tuple[Caller, Outcome]] = deque()
        self._movers: deque[Mover] = deque()
        self.append = self._outcomes.append  # one call, as there is one of it for each answer
        self.continue_later = self._movers.append

    def __len__(self) -> int:
        return len(self._outcomes) + len(self._movers)

    def tell(self, failed: Callable[[Exception], object]) -> None:
        """Tell the callers all there is, and all that comes of it; whom there is no telling is no
        reason not to tell the others. As with `drain`, whose cost a host would have to pay for each
        message.

        Args:
            failed: is given what a caller raises.
        """
        outcomes, movers = self._outcomes, self._movers
        while True:
            while outcomes:
                caller, outcome = outcomes.popleft()
                try:
                    caller.tell(outcome)
                except Exception as exc:
                    failed(exc)
            if not movers:
                return
            movers.popleft().go_on()

    def drain(self) -> Iterator[tuple[Caller, Outcome]]:
        """Take out all there are, and all that come of telling them."""
        outcomes, movers = self._outcomes, self._movers
        while True:
            while outcomes:
                yield outcomes.popleft()
            if not movers:
                return
            movers.popleft().go_on()
