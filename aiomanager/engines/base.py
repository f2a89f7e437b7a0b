"""What a queue asks of its host, whatever hosts it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import anyio

from .._concurrency.futures import Future, replica
from .._ground.buffers import Buffer
from .._wire.items import PROTOCOL

Action = Literal["ack", "nack", "return", "reject"]
Settlement = tuple[Any, Action, float]
"""The handle of a delivery, what became of its item, and for a nack the delay in seconds."""


@dataclass(frozen=True, kw_only=True)
class Promises:
    """What an engine promises of its queues, beside what every engine does. The tests of the
    contract ask each engine for what it promises, and the table of guarantees is made of it.

    Attributes:
        durable: what was acknowledged is there when the host has ended and was started again.
        redelivered: what is handed out again comes "first", before all that waits, or "last".
        lease: who has an item may keep it as long as its "connection" is there, or for a "time",
            in either case until it is settled; "none" where nobody else gets it, whatever happens.
        fencing: a settlement that comes when the lease has ended is refused.
        bound: what `maxsize` counts: the items that are "waiting", or all that are "unfinished";
            None where there is no bound.
        atomic_move: an item goes from one queue to another in one step.
        put_once: a put whose connection broke is sent again, and put once.
        headers: items may have headers.
    """

    durable: bool
    redelivered: Literal["first", "last"]
    lease: Literal["connection", "time", "none"]
    fencing: bool
    bound: Literal["waiting", "unfinished"] | None
    atomic_move: bool
    put_once: bool
    headers: bool


class Ticket(NamedTuple):
    """What names a put for good, so that it can be sent again and is put once.

    Attributes:
        producer: who puts: one queue object in one event loop of one process.
        channel: of the producer; in each of them one put is under way at a time.
        number: from 1 on in each channel, growing.
    """

    producer: str
    channel: str
    number: int


class Received:
    """An item that the engine handed out.

    Attributes:
        handle: names this delivery to the engine, and means nothing to anybody else.
        order: of two deliveries of a queue, the one with the smaller number came first.
        attempt: how often the item has been handed out, this time included.
        data: the item as it travelled.
        counted: where the item was loaded and has brought references to objects, says when their
            hosts count them; it is not done before that. For the queue.
    """

    __slots__ = ("attempt", "counted", "data", "handle", "order")

    def __init__(self, handle: Any, order: int, attempt: int, data: Buffer) -> None:
        self.handle = handle
        self.order = order
        self.attempt = attempt
        self.data = data
        self.counted: anyio.Event | None = None

    def unwrapped(self, loaded: Any) -> Any:
        """The item, of what `data` unpickles to."""
        return loaded

    async def until_counted(self) -> None:
        """Wait until the hosts count the references that the item has brought."""
        if self.counted is not None:
            await self.counted.wait()

    def frame(self) -> bytes:
        """The item as a frame of its own, also where this process cannot unpickle it."""
        return bytes(self.data)


# A host that answers at all has answered what waits for nothing within this, in seconds. A call
# with a timeout ends by that much after it.
ANSWER_GRACE = 0.75

# What one batch of frames holds at most, in bytes, but for the frame that takes it over this.
BATCH_BYTES = 256 * 1024


class QueueEngine(ABC):
    """A queue at its host.

    What returns a future starts at once and ends with an outcome in it, whoever may have left
    meanwhile. The coroutines are run by tasks of aiomanager's own, which nobody cancels. Errors
    are `AioManagerError`s. All times are seconds, and None is for ever.

    The caller makes one call at a time in each channel, and one `receive` with a timeout, one
    `restore`, one `move` and one `task_done`; it coalesces what comes meanwhile.
    """

    promises: Promises
    """What it promises beside the rest."""

    frame_limit: int | None = None
    """Bytes of the largest frame that the host takes, where it says so."""

    ends_waits_at_once = True
    """Whether `interrupt` ends a wait at the host at once, instead of with its slice."""

    patience: float | None = None
    """Seconds within which a call that waits for nothing ends, with an error where the host has
    not answered; None where there is nothing between this process and the host."""

    pickle_protocol = PROTOCOL
    """How items for it are pickled."""

    messages_are_cheap = False
    """Whether two messages of some items cost less than to wait for one with all of them."""

    @abstractmethod
    def put(
        self, frames: Sequence[bytes], timeout: float | None, ticket: Ticket
    ) -> Future[tuple[int, Exception | None]]:
        """Append frames in order, waiting for room up to `timeout`. With a ticket that was used
        before, nothing is appended, and the outcome is that of the first time, as far as the engine
        promises it.

        The outcome is how many were appended, and what kept the others out, where it was more
        than the lack of room.
        """

    def put_each(
        self, puts: Sequence[Sequence[bytes]], timeout: float | None, ticket: Ticket
    ) -> Future[list[tuple[int, Exception | None]] | None]:
        """`put` for several callers, each with frames of its own.

        The outcome is that of `put` for each, or None where all frames of all were appended. What
        is wrong with the frames of one keeps nobody else's out.
        """
        frames = [frame for put in puts for frame in put]
        return self.put(frames, timeout, ticket).map(partial(_shares, puts))

    @abstractmethod
    def interrupt_put(self) -> None:
        """Let a waiting `put` return soon with what it has, as its caller has left."""

    @abstractmethod
    def receive(self, count: int, timeout: float | None) -> Future[list[Received]]:
        """Hand out up to `count` items, waiting up to `timeout` for the first.

        The outcome is an empty list where the time was up, or where a wait ended early for another
        reason: the caller asks again if it still wants something. Each item is held by this
        process until it is settled. `QueueShutDown` where none can come any more.
        """

    @abstractmethod
    def interrupt(self) -> None:
        """Let a waiting `receive` return soon, as nobody waits for it any more."""

    @abstractmethod
    def settle(
        self, settlements: Sequence[Settlement], channel: str = "settle"
    ) -> Future[list[bool]]:
        """Settle deliveries; for each, whether it was still this process's to settle.

        ack: the item is done. nack: it is handed out again, after the given seconds. return: it
        was not looked at, and is handed out again as if it had not been before. reject: this
        process cannot unpickle it; the host counts that, where it counts anything.
        """

    @abstractmethod
    def take(self, received: Sequence[Received], channel: str) -> Future[list[bool]]:
        """Make items the caller's, for `task_done` to count; for each, whether it was still this
        process's to take. Until they are `handed_out` they are nobody's, and go back where the
        event loop ends."""

    def handed_out(self, received: Sequence[Received]) -> None:  # noqa: B027 - see `left`
        """These were taken, and their taker has them now.

        Raises:
            ConnectionLostError: too late, they are on their way back.
        """

    @abstractmethod
    def restore(self, received: Received, *, rejected: bool = False) -> Future[bool]:
        """Undo a take: nobody was there any more to whom the item could have gone, or this process
        cannot unpickle it (`rejected`); whether it was still this process's."""

    def left(self, received: Received) -> None:  # noqa: B027 - a host of leases needs no word
        """Nobody here has an item any more that was taken. `restore` follows where the event loop
        goes on, and the item must not be lost where it does not. Callable from any thread."""

    @property
    def lease_holder(self) -> object:
        """What leases hang on: they have ended where it is another. None where a host has none."""
        return None

    @property
    def host(self) -> object:
        """What two queues of one host have in common, where `move` works between them."""
        return None

    async def move(self, received: Received, target: str, frame: bytes) -> bool:
        """Put a frame in another queue of the same host, room or not, and ack the delivery, in
        one step; the answer is that of `settle`."""
        raise NotImplementedError

    @abstractmethod
    async def task_done(self, count: int) -> Sequence[Exception | None]:
        """Count taken items as done. Returns for each what kept it from being counted, if anything
        did: ValueError where no more are out, LeaseLostError where the host does not have it as
        this process's any more."""

    @abstractmethod
    async def join(self) -> None:
        """Wait until every item is done. This one is run by its caller, who may leave."""

    @abstractmethod
    async def ask(self, what: Literal["qsize", "empty", "full", "maxsize"]) -> Any:
        """Look at the queue."""

    @abstractmethod
    async def shutdown(self, immediate: bool) -> None:
        """Shut the queue down, for every client."""

    @abstractmethod
    async def statistics(self) -> dict[str, Any]:
        """What the host counts."""

    @abstractmethod
    async def aclose(self) -> None:
        """Give back what this process holds for nobody."""


def _shares(
    puts: Sequence[Sequence[bytes]], put: tuple[int, Exception | None]
) -> list[tuple[int, Exception | None]] | None:
    """What each of the puts has of what the host has appended of all frames."""
    accepted, error = put
    if accepted == sum(map(len, puts)):
        return None  # as nearly always
    shares: list[tuple[int, Exception | None]] = []
    for frames in puts:
        mine = min(accepted, len(frames))
        accepted -= mine
        left_out = None if error is None or mine == len(frames) else replica(error)
        shares.append((mine, left_out))
    return shares


def counted(done: int, count: int) -> list[Exception | None]:
    """The outcomes of a `task_done` of so many items, of which some were there to count."""
    too_many = [ValueError("task_done() called too many times") for _ in range(count - done)]
    return [*[None] * done, *too_many]
