"""The contract of an engine: what a queue asks of its host, whatever hosts it.

docs/engines.md says how to write one, with an example. All names that an engine needs can be
imported from here; `engines/polling` has waits for hosts that cannot call back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import anyio

from .._concurrency.futures import Future, failed, filled, replica, start_detached
from .._concurrency.threads import Handover, OwnThread
from .._ground.buffers import Buffer
from .._ground.errors import ConfigurationError
from .._wire.items import PROTOCOL

__all__ = [
    "ALL_COUNTS",
    "ANSWER_GRACE",
    "BATCH_BYTES",
    "Action",
    "Future",
    "Handover",
    "Look",
    "OwnThread",
    "Promises",
    "QueueEngine",
    "Received",
    "Settlement",
    "Ticket",
    "counted",
    "failed",
    "filled",
    "start_detached",
]

Action = Literal["ack", "nack", "return", "reject"]
"""What becomes of a delivery: see `QueueEngine.settle`."""

Settlement = tuple[Any, Action, float]
"""The handle of a delivery, what becomes of its item, and for a nack the delay in seconds."""

Look = Literal["qsize", "empty", "full", "maxsize"]

ALL_COUNTS = frozenset({
    "deliveries", "delayed", "done", "is_shutdown", "leased", "maxsize", "puts", "qsize",
    "redeliveries", "unfinished", "waiting_getters", "waiting_putters",
})  # fmt: skip
"""The names of all that `QueueStatistics` can hold."""


@dataclass(frozen=True, kw_only=True)
class Promises:
    """The promises of an engine, beside what every engine does. The tests of the contract ask each
    engine for what it promises, and the table of guarantees is made of it. The defaults promise
    nothing but that the engine does not look into items.

    Attributes:
        durable: what was acknowledged is there when the host has ended and was started again.
        redelivered: an item that is handed out again comes "first", before all that wait; or
            "last", after them; or "first here", which is first in the process that had it, and
            last in all others.
        lease: an item that was handed out goes to somebody else when the "connection" of its
            holder has ended, or when it was not settled for a "time"; "none" where nobody else
            ever gets it.
        fencing: a settlement that comes when the lease has ended is refused, and changes nothing.
        bound: `maxsize` counts the items that are "waiting", or these and those out on a lease,
            "waiting and leased"; None where queues have no bound.
        fair: puts of several clients that wait for room find it in the order of their coming.
        atomic_move: an item goes from one queue of the host to another in one step, by `move`.
        put_once: a put whose answer was lost is asked again, and appends once. An engine with
            nothing between it and its queue that could lose an answer keeps this by doing nothing.
        headers: items may have headers. They travel in the frame, so this wants no more than that
            the frame arrives as it was put.
        opaque: nobody looks into a frame on its way, so nobody there needs the item's class.
        shutdown: queues can be shut down; None where it depends on the host.
        counts: what of `QueueStatistics` the statistics hold.
    """

    durable: bool = False
    redelivered: Literal["first", "first here", "last"] = "last"
    lease: Literal["connection", "time", "none"] = "none"
    fencing: bool = False
    bound: Literal["waiting", "waiting and leased"] | None = None
    fair: bool = False
    atomic_move: bool = False
    put_once: bool = False
    headers: bool = True
    opaque: bool = True
    shutdown: bool | None = False
    counts: frozenset[str] = frozenset({"qsize"})


class Ticket(NamedTuple):
    """The name of a put, for good, so that an engine can ask its host again and it is put once.

    An engine that asks again has its host remember, for each producer and channel, the last number
    and its outcome: in each channel the next put comes when the one before has its answer.

    Attributes:
        producer: who puts: one queue object in one event loop of one process.
        channel: of the producer; in each of them one put is under way at a time.
        number: from 1 on, growing over all channels of the producer.
    """

    producer: str
    channel: str
    number: int


class Received:
    """A delivery: an item that the engine has handed out.

    Attributes:
        handle: names this delivery to the engine, and means nothing to anybody else. The same item
            has another one when it is handed out again, so that an old one changes nothing.
        order: of two deliveries of a queue, the one with the smaller number came first. A counter
            of the engine does.
        attempt: how often the item has been handed out, this time included, from 1 on.
        data: the frame as it was put.
        counted: for the queue. Where the item was loaded and has brought references to objects,
            says when their hosts count them; it is not done before that.
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
    """One queue at its host, for one event loop of one process. Written by whoever brings a host,
    called by `AsyncQueue` alone.

    Calls. A method that returns a `Future` starts the work at once, waits for nothing, and fills
    the future when there is an outcome; what it raises counts as the outcome. A coroutine method is
    run by a task of aiomanager's own, which is cancelled only with its event loop; `join` alone is
    run by its caller. Errors are `AioManagerError`s, `ConnectionLostError` where the host is away
    or the engine is closed. All times are seconds, and None is for ever.

    One at a time. In each channel there is one call under way: the next comes when the one before
    has its outcome, and all that comes meanwhile goes into one call. The channels are those that
    `put`, `settle` and `take` are told; `receive` with a timeout, and without; `restore`, `move`
    and `task_done`. Calls of different channels overlap. Any number of `join`, `ask`, `statistics`
    and `shutdown` may be under way.

    Threads. All of it is called on the engine's event loop, but for `left`, `interrupt` and
    `interrupt_put`, which a finalizer may call on any thread when that loop has ended.

    Cancellation. No cancellation reaches the work: whoever waited leaves, and the work goes on. An
    item that comes then is given back by `restore` or `settle`. A wait that nobody needs any more
    is ended by `interrupt` or `interrupt_put`.

    Twice. The queue calls nothing twice. An engine that asks its host again, as an answer was lost,
    sees to it that this changes nothing: the ticket is for that in `put`, and the handles in
    `settle`, `take` and `restore`, which must have the answer of the first time.
    """

    promises: Promises = Promises()
    """What it promises beside the rest."""

    frame_limit: int | None = None
    """Bytes of the largest frame that the host takes; None for any. A larger one is refused with an
    `EncodeError` before it is put."""

    ends_waits_at_once = True
    """Whether `interrupt` ends a `receive` at once. False where one that is under way cannot be
    reached, so that whoever asks without waiting does not wait for it either."""

    patience: float | None = None
    """Seconds within which a call that waits for nothing ends, with an error where the host has
    not answered. The queue fails what is behind it by then. None where there is nothing between
    this process and the host that could keep silent."""

    pickle_protocol = PROTOCOL
    """The protocol in which items for it are pickled. Another one only where the host unpickles
    them."""

    messages_are_cheap = False
    """Whether two calls with half of the items each cost less than to wait for one with all of
    them. To be set only where that was measured."""

    # -- putting ------------------------------------------------------------------------------

    @abstractmethod
    def put(
        self, frames: Sequence[bytes], timeout: float | None, ticket: Ticket
    ) -> Future[tuple[int, Exception | None]]:
        """Append frames in order, as many as there is room for, waiting for room up to `timeout`.

        The outcome is how many were appended, the first ones, and the error that kept the others
        out; None where there was no room. A wait may end early, with what it has: the queue asks
        again for the rest. What is raised means that nothing was appended; `QueueShutDown` where
        the queue was shut down. Nobody overtakes: where a frame has found no room, none behind it
        is appended.

        In the channel "put" the timeout is 0; in "blocked put" it is not. With a ticket that was
        used before, nothing is appended, and the outcome is that of the first time: an engine that
        does not promise `put_once`, or never sends anything twice, needs no ticket.
        """

    def put_each(
        self, puts: Sequence[Sequence[bytes]], timeout: float | None, ticket: Ticket
    ) -> Future[list[tuple[int, Exception | None]] | None]:
        """`put` for several callers, each with frames of its own. The outcome is that of `put` for
        each, or None where all frames of all were appended.

        By default it puts them all as one; an engine has one of its own where a frame may be
        refused for what is in it, which must keep nobody else's out.
        """
        frames = [frame for put in puts for frame in put]
        return self.put(frames, timeout, ticket).map(partial(_shares, puts))

    def interrupt_put(self) -> None:  # noqa: B027 - waits may be short
        """End the waiting `put` soon, with what it has, as its caller has left or the queue closes,
        which waits for that. Does nothing where none waits. An engine without it has waits that
        end by themselves within a second or so, whatever their timeout; until then a put may be
        done that its caller has given up."""

    # -- receiving ----------------------------------------------------------------------------

    @abstractmethod
    def receive(self, count: int, timeout: float | None) -> Future[list[Received]]:
        """Hand out up to `count` items in the order of the queue, waiting up to `timeout` for the
        first, and not for more.

        Each item is leased to this process until it is settled or taken. A wait may end early,
        with an empty list: the queue asks again if somebody still wants something. `QueueShutDown`
        where the queue was shut down and no item can come any more: none waits, and none is leased
        that could come back.
        """

    def interrupt(self) -> None:  # noqa: B027 - waits may be short
        """End the waiting `receive` soon, with what it has or nothing, as nobody waits for it any
        more or the queue closes, which waits for that. Does nothing where none waits. An engine
        without it has waits that end by themselves, as for `interrupt_put`; items that come until
        then are handed out to nobody, and go back."""

    # -- settling -----------------------------------------------------------------------------

    @abstractmethod
    def settle(
        self, settlements: Sequence[Settlement], channel: str = "settle"
    ) -> Future[list[bool]]:
        """Settle deliveries, named by their handles; for each, whether it was still this process's
        to settle. Where it was not, nothing changes.

        ack: the item is done, and gone. nack: it is handed out again, after the given seconds, and
        that counts as another attempt. return: the same at once, and as if it had not been handed
        out: nobody has looked at it. reject: as nack, and this process cannot unpickle it; a host
        that gives up what nobody can unpickle counts that.

        The channel "settle" has what is done, "return" what goes back, "move" what was put into
        another queue.
        """

    @abstractmethod
    def take(self, received: Sequence[Received], channel: str) -> Future[list[bool]]:
        """Make leased items the caller's, as `get` does; for each, whether it was still this
        process's to take.

        Such an item is in the queue no more, is out until `task_done` counts it, and is lost with
        its process. Until `handed_out` says that somebody has it, `restore` may undo that. The
        channel "take" is for those who wait, "take at once" for those who do not.
        """

    def handed_out(self, received: Sequence[Received]) -> None:  # noqa: B027 - most need no word
        """These were taken, and their taker has them now. For an engine that gives back what was
        taken for nobody when its event loop or process ends.

        Raises:
            ConnectionLostError: too late, they are on their way back.
        """

    @abstractmethod
    def restore(self, received: Received, *, rejected: bool = False) -> Future[bool]:
        """Undo a take; whether the item was still this process's. The item, `received.data`, is in
        the queue again, and not out any more.

        As after a `return`, since nobody was there any more to whom it could have gone; where
        `rejected`, as after a `reject`.
        """

    def left(self, received: Received) -> None:  # noqa: B027 - a host of leases needs no word
        """Nobody here has this item any more, which was taken. `restore` follows where the event
        loop goes on; for an engine that can give it back where it does not. Callable from any
        thread."""

    @property
    def lease_holder(self) -> object:
        """The thing that leases hang on, such as a connection: all have ended where it is another
        one. With it an iteration may hold items ahead (`prefetch`), and knows when it has lost
        them. None, the default, where leases end by themselves: iterations hold one item then."""
        return None

    # -- moving -------------------------------------------------------------------------------

    @property
    def host(self) -> object:
        """What two queues of one host have in common, where `move` works between them; None, the
        default, where it does not work. For an engine that promises `atomic_move`."""
        return None

    async def move(self, received: Received, target: str, frame: bytes) -> bool:
        """Put a frame in another queue of the same host, room or not, and ack the delivery, in
        one step; the answer is that of `settle`. Called only where both have the same `host`; else
        the queue puts, and then acks.

        Raises:
            ConfigurationError, QueueShutDown: the target is not there, or is shut down; nothing
                was changed.
        """
        raise NotImplementedError

    # -- the count ----------------------------------------------------------------------------

    @abstractmethod
    async def task_done(self, count: int) -> Sequence[Exception | None]:
        """Count taken items as done. Returns for each what kept it from being counted, if anything
        did: ValueError where no more are out, LeaseLostError where the host does not have it as
        this process's any more. `counted` makes the list of a number."""

    @abstractmethod
    async def join(self) -> None:
        """Wait until every item that was put is done: acked, or taken and counted. Run by its
        caller, who may be cancelled: it has changed nothing then."""

    # -- the rest -----------------------------------------------------------------------------

    @abstractmethod
    async def statistics(self) -> dict[str, Any]:
        """The counts of the host, by the names of `QueueStatistics`: `qsize`, how many items wait,
        the delayed ones included and the leased ones not; and what else is in
        `promises.counts`."""

    async def ask(self, what: Look) -> Any:
        """Look at the queue: how many items wait, whether none does, whether a put would wait, and
        how many may wait, 0 for any number. By default from the statistics."""
        counts = await self.statistics()
        maxsize = counts.get("maxsize") if self.promises.bound else 0
        if what == "qsize":
            return counts["qsize"]
        if what == "empty":
            return not counts["qsize"]
        if maxsize is None:
            raise ConfigurationError(f"this queue's host does not tell its {what}")
        if what == "maxsize":
            return maxsize
        leased = counts["leased"] if self.promises.bound == "waiting and leased" else 0
        return 0 < maxsize <= counts["qsize"] + leased

    async def shutdown(self, immediate: bool) -> None:
        """Shut the queue down for every client: puts raise `QueueShutDown`, and `receive` does
        when the last item is out. Where `immediate`, what waits is dropped and counts as done, as
        does what would come back, and `receive` raises at once. A second call changes nothing,
        unless it is the first that is immediate."""
        raise ConfigurationError(
            "this queue's host cannot shut it down; put a sentinel for each consumer instead"
        )

    @abstractmethod
    async def aclose(self) -> None:
        """Give back what this process holds, where nothing else does: deliveries that were not
        settled go to others, at once. The engine may be used again afterwards. An engine whose
        connection is the lease leaves that to the end of the connection."""


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
