"""Events: what has happened to the items of a queue, in order, for whoever keeps a record of it.

A queue hands each to its `record` at the moment at which it happens, before anybody is told of it.
Applied in order to an empty `QueueState`, they give what the queue knows: its items with their
numbers and counts, what is leased, what is taken and by whom, its totals, whether it is shut down.
Of waiting calls there is no event: they end with the process that they wait in.

An item is named by its number, its place in the order of puts, which it keeps. Where an event lets
it out of a lease or a take and does not say where to, the next event about it does; both come of
the same call. That a delay is over is no event, as the time says so.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from .._ground.buffers import Buffer


@dataclass(slots=True)
class Put:
    """New items are at the end of the queue, the first with this number and the others with those
    that follow: of one put, or as many of a waiting one's as there was room for."""

    queue: str
    number: int
    frames: Sequence[Buffer]


@dataclass(slots=True)
class PutFirst:
    """An item of an earlier run of the host, which is in no queue, is before all others that were
    put. Its number is before theirs, and after those of its kind."""

    queue: str
    number: int
    data: Buffer
    attempt: int


@dataclass(slots=True)
class Leased:
    """Waiting items are their receiver's for a while, each under the id of this delivery."""

    queue: str
    ids: Sequence[int]
    numbers: Sequence[int]


@dataclass(slots=True)
class Received:
    """Waiting items are a stock client's, and count as taken by one of whom nothing is known."""

    queue: str
    numbers: Sequence[int]


@dataclass(slots=True)
class Taken:
    """Leased items are the holder's. He may not know of it until they are read; without a channel,
    that event follows at once."""

    queue: str
    holder: Hashable
    channel: Hashable
    ids: Sequence[int]
    numbers: Sequence[int]


@dataclass(slots=True)
class Read:
    """The holder knows that these deliveries are his: their data need not be kept any more."""

    queue: str
    holder: Hashable
    ids: Sequence[int]


@dataclass(slots=True)
class TaskDone:
    """So many of the items that the holder has taken are done; which ones, nobody says."""

    queue: str
    holder: Hashable
    count: int


@dataclass(slots=True)
class Untaken:
    """An item is not the holder's any more; where it goes, the next event about it says. It brings
    all that is to be known of the item, since the data of what is taken is not kept.

    Attributes:
        delivery_id: of the take that is undone; None where a stock client had it.
    """

    queue: str
    holder: Hashable
    delivery_id: int | None
    number: int
    data: Buffer
    attempt: int
    losses: int
    rejects: int


@dataclass(slots=True)
class HolderLost:
    """A holder will not come back. What he may not have read of is not his any more, and the next
    event about each says where it goes; the rest is anybody's to count as done."""

    queue: str
    holder: Hashable


@dataclass(slots=True)
class Returned:
    """An item that was out waits at its place again.

    Attributes:
        due: the time of the queue's clock until which it is delayed; 0.0 where it is not.
    """

    queue: str
    number: int
    attempt: int
    losses: int
    rejects: int
    due: float


@dataclass(slots=True)
class Done:
    """An item that was out is gone: it was acknowledged, or it came back to a queue that drops
    what it has."""

    queue: str
    number: int


@dataclass(slots=True)
class Moved:
    """A leased item is done here by being put in the target: two queues, one event, so that no
    record can hold the one half without the other."""

    queue: str
    number: int
    target: str
    target_number: int
    data: Buffer


@dataclass(slots=True)
class DeadLettered:
    """An item that was out is given up, and what stands for it is put in the target: one event, as
    with a move.

    Attributes:
        target: None where it left the queues of the host, or the target drops what it has.
        data: what is put in the target.
    """

    queue: str
    number: int
    target: str | None
    target_number: int
    data: Buffer


@dataclass(slots=True)
class ShutDown:
    """The queue takes in no more puts; where `immediate`, it has dropped all that waited, and drops
    what comes back."""

    queue: str
    immediate: bool


OfTakes: TypeAlias = Received | Taken | Read | TaskDone | Untaken | HolderLost
Event: TypeAlias = (
    Put | PutFirst | Leased | Returned | Done | Moved | DeadLettered | ShutDown | OfTakes
)
