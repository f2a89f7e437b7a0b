"""A hosted queue as aiomanager's own clients see it: batches of frames, leases, and answers that
can wait beside one another on one connection.

A request becomes one call of `HostedQueue`, whose outcome goes back over the connection when the
server takes it out of the queue's answers.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .._broker.outcomes import (
    Accepted,
    Handed,
    Joined,
    Nothing,
    Outcome,
    Refused,
    Returned,
    ShutDown,
)
from .._broker.queue import HostedQueue
from .._ground.buffers import Buffer
from .._ground.errors import QueueShutDown
from .._wire.framing import BULK_SIZE
from .._wire.messages import Answer, bulky
from .._wire.requests import Request, read_ids, read_settlements

Send = Callable[[Answer], bool]


class Owner(Hashable, Protocol):
    """The connection that a request came over, and its owner at the queue."""

    queues: set[HostedQueue]  # where something of it may be left


class Holder(Hashable, Protocol):
    """A client of ours, who has what it has taken from queues."""

    queues: set[HostedQueue]  # where something may be its own


def _is_small(delivery: tuple[int, int, Buffer]) -> bool:
    return type(delivery[2]) is bytes and len(delivery[2]) < BULK_SIZE


@dataclass(slots=True)  # frozen, it would take four times as long to make
class _Call:
    """A request of a client of ours that is to be answered."""

    owner: Owner
    holder: Holder
    request: Request
    send: Send
    hosted: HostedQueue

    @property
    def ticket(self) -> int:
        return self.request.request_id

    def tell(self, outcome: Outcome) -> None:
        match outcome:
            case Accepted():
                self.send(("#RETURN", outcome.count))
            case Handed():
                if not self._deliver(outcome.deliveries):
                    self.hosted.undelivered(outcome)
            case Returned():
                self.send(("#RETURN", outcome.value))
            case Nothing():
                self.send(("#RETURN", []))
            case Joined():
                self.send(("#RETURN", outcome.finished))
            case ShutDown():
                self.send(("#SHUTDOWN", outcome.message))
            case Refused():
                self.send(("#ERROR", outcome.error))

    def _deliver(self, deliveries: list[tuple[int, int, Buffer]]) -> bool:
        if not all(map(_is_small, deliveries)):
            bulk = [(i, attempt, bulky(data)) for i, attempt, data in deliveries]
            return self.send(("#RETURN", bulk))
        return self.send(("#RETURN", deliveries))


class OwnFace:
    """Batches, leases and statistics for aiomanager's own clients.

    Args:
        run: names this run of the host: what was counted in another is not counted here.
        find: returns another queue of the host by its name, or raises KeyError.
    """

    def __init__(self, hosted: HostedQueue, run: int, find: Callable[[str], HostedQueue]) -> None:
        self._hosted = hosted
        self._run = run
        self._find = find
        # What answers when it can, what answers at once with who asks in view, and the rest.
        self._waiting: dict[str, Callable[..., None]] = {
            "put": self._put,
            "receive": self._receive,
            "join": self._join,
        }
        self._owned: dict[str, Callable[..., Any]] = {
            "settle": self._settle,
            "take": self._take,
            "move": self._move,
            "restore": self._restore,
            "read": self._read,
            "task_done": self._task_done,
            "cancel": self._cancel,
        }
        self._simple: dict[str, Callable[..., Any]] = {
            "qsize": hosted.qsize,
            "empty": hosted.empty,
            "full": hosted.full,
            "maxsize": lambda: hosted.maxsize,
            "shutdown": hosted.shutdown,
            "statistics": hosted.statistics,
        }

    def call(self, owner: Owner, holder: Holder, request: Request, send: Send) -> None:
        """Answer a request, now or when there is something to answer; its id cancels it.

        Args:
            owner: the connection that it came over.
            holder: the client, over however many connections.
        """
        owner.queues.add(self._hosted)
        call = _Call(owner, holder, request, send, self._hosted)
        method = request.method
        outcome: Outcome
        try:
            if method in self._waiting:
                self._waiting[method](call, *request.args)
                return
            if method in self._owned:
                outcome = Returned(self._owned[method](call, *request.args))
            elif method in self._simple:
                outcome = Returned(self._simple[method](*request.args))
            else:
                raise AttributeError(f"a queue has no operation {method!r}")
        except QueueShutDown as exc:
            outcome = ShutDown(str(exc))
        except Exception as exc:
            outcome = Refused(exc)
        self._hosted.answers.append((call, outcome))

    def _put(self, call: _Call, timeout: float | None) -> None:
        frames = call.request.frames
        owned = [frame if type(frame) is bytes else _own(frame) for frame in frames]
        self._hosted.put(owned, timeout, call, owner=call.owner, ticket=call.ticket)

    def _receive(
        self, call: _Call, count: int, timeout: float | None, read: Sequence[str] = ()
    ) -> None:
        if read:
            self._hosted.read(read, holder=call.holder)
        self._hosted.receive(count, timeout, call, owner=call.owner, ticket=call.ticket)

    def _join(self, call: _Call) -> None:
        self._hosted.join(None, call, owner=call.owner, ticket=call.ticket)

    def _settle(self, call: _Call) -> list[bool]:
        settlements = read_settlements(*call.request.frames)
        return self._hosted.settle(settlements, owner=call.owner)  # type: ignore[arg-type]

    def _take(self, call: _Call) -> list[bool]:
        call.holder.queues.add(self._hosted)
        # Without a number it cannot be repeated, and was not read where it is lost.
        channel = call.request.channel if call.request.number else None
        ids = read_ids(*call.request.frames)
        return self._hosted.take(ids, owner=call.owner, holder=call.holder, channel=channel)

    def _read(self, call: _Call, channels: Sequence[str], last: int | None = None) -> None:
        self._hosted.read(channels, holder=call.holder, last=last)

    def _restore(
        self,
        call: _Call,
        delivery_id: int,
        attempt: int,
        rejected: bool = False,
        again: bool = False,
    ) -> bool:
        (data,) = call.request.frames
        return self._hosted.restore(
            delivery_id, _own(data), attempt, holder=call.holder, rejected=rejected, again=again
        )

    def _task_done(self, call: _Call, count: int, run: int, read: Sequence[str] = ()) -> int:
        """How many of these it had taken in this run of the host, and has not lost."""
        if run != self._run:
            return 0
        self._hosted.read(read, holder=call.holder)
        return self._hosted.task_done_up_to(count, holder=call.holder)

    def _cancel(self, call: _Call, ticket: int) -> None:
        self._hosted.cancel(call.owner, ticket)

    def _move(self, call: _Call, delivery_id: int, target: str) -> bool:
        (data,) = call.request.frames
        return self._hosted.move(delivery_id, self._find(target), _own(data), owner=call.owner)


def _own(data: Buffer) -> Buffer:
    """A frame that may be kept as long as its item lives.

    A large one is a view of the message that it came in. Where it is the most of it, keeping the
    message costs less than a copy; where it is not, it would keep what others have settled.
    """
    if isinstance(data, bytes):
        return data
    view = memoryview(data)
    return view if 2 * view.nbytes > memoryview(view.obj).nbytes else bytes(view)
