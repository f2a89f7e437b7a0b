"""A hosted queue as its two kinds of clients see it.

`StockFace` is `queue.Queue` to whoever knows only the standard library: items are objects, one at
a time, received means taken. `OwnFace` is what aiomanager's own clients use: batches of frames,
leases, and answers that can wait beside one another on one connection.

Both turn a request into one call of `HostedQueue`, whose outcome goes back over the connection
when the server takes it out of the queue's answers.
"""

from __future__ import annotations

import importlib
import queue
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .._broker.backlog import Data
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
from .._wire.items import Expression
from .._wire.messages import bulky, dump
from .._wire.passthrough import returned_item
from .._wire.requests import Request, read_ids, read_settlements

Answer = tuple[str, Any]  # the kind and the value of a reply in the manager protocol
Send = Callable[[Answer], bool]

STOCK_METHODS = (
    "put", "get", "put_nowait", "get_nowait", "task_done", "join",
    "qsize", "empty", "full", "shutdown",
)  # fmt: skip
PUTS = ("put", "put_nowait")
# What `queue.Queue` has besides; proxies ask for it as `NamespaceProxy` does.
STOCK_ATTRIBUTES = ("maxsize", "is_shutdown", "unfinished_tasks")


class Asker(Hashable, Protocol):
    """The connection that a request of a stock client came over, and its owner at the queue."""

    queues: set[HostedQueue]  # where something of it may be left
    protocol: int  # the newest of pickle that the client reads

    def send(self, parts: Sequence[Buffer], undelivered: Callable[[], None] | None = None) -> bool:
        """Send a reply; False where nobody is there."""
        ...

    def is_gone(self) -> bool:
        """Whether nobody is there."""
        ...

    def starve(self) -> None:
        """There is no memory for what is to be sent: cut the connection."""


class Holder(Hashable, Protocol):
    """A client of ours, who has what it has taken from queues."""

    queues: set[HostedQueue]  # where something may be its own


# By its name in there, as Python 3.6 has no `_queue`, where `Empty` says that it is from.
_MODULE = Expression(importlib.import_module, "queue")
_EMPTY_CLASS = Expression(getattr, _MODULE, "Empty")


def _shutdown_for(fallback: object, message: str) -> list[Buffer]:
    """`queue.ShutDown` where the peer's Python has it (3.13), else what its callers know."""
    error = Expression(getattr, _MODULE, "ShutDown", fallback)
    return dump(("#ERROR", Expression(error, message)))


# Of everything but an item: whatever it is then runs no code of a peer's in its comparisons.
_ARGUMENTS = (type(None), bool, int, float, str)


def plain_arguments(args: tuple[Any, ...], kwds: dict[str, Any]) -> bool:
    """Whether a queue can be called with these without running anything of a peer's."""
    return all(type(arg) in _ARGUMENTS for arg in (*args, *kwds.values()))


_NONE = dump(("#RETURN", None))
_EMPTY = dump(("#ERROR", Expression(_EMPTY_CLASS)))
_FULL = dump(("#ERROR", queue.Full()))


def with_frame(
    args: tuple[Any, ...], kwds: dict[str, Any], encode: Callable[[object], Data]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a stock client's put with a frame in the place of the item."""
    if args:
        return (encode(args[0]), *args[1:]), kwds
    if "item" in kwds:
        return args, {**kwds, "item": encode(kwds["item"])}
    return args, kwds


@dataclass(slots=True)  # frozen, it would take four times as long to make
class _StockCall:
    """A request of a stock client that is to be answered.

    Attributes:
        ended: the error that it knows for a queue that is shut down.
    """

    asker: Asker
    hosted: HostedQueue
    ended: object = queue.Full

    def tell(self, outcome: Outcome) -> None:
        try:
            sent = self._send(outcome)
        except MemoryError:
            self.asker.starve()
            sent = False
        if not sent and type(outcome) is Handed:
            self.hosted.undelivered(outcome)

    def _send(self, outcome: Outcome) -> bool:
        # Patterns with attributes in them would take several times as long.
        match outcome:
            case Handed():
                return self._deliver(outcome)
            case Accepted():
                return self.asker.send(_NONE if outcome.count else _FULL)
            case Nothing():
                return self.asker.send(_EMPTY)
            case Joined():
                return self.asker.send(_NONE)
            case ShutDown():
                return self.asker.send(_shutdown_for(self.ended, outcome.message))
            case Returned():
                return self.asker.send(dump(("#RETURN", outcome.value)))
            case Refused():
                return self.asker.send(dump(("#ERROR", outcome.error)))

    def _deliver(self, handed: Handed) -> bool:
        # What is sent into a connection that is gone is lost to everybody: look first, also where
        # it did not wait, as its request may have waited to be read.
        if self.asker.is_gone():
            return False
        ((item, _, data),) = handed.deliveries
        parts = returned_item(data, self.asker.protocol)
        return self.asker.send(parts, lambda: self.hosted.undeliver(item))


class StockFace:
    """The methods of `queue.Queue`, over a connection.

    A waiting call holds no thread, only a place in the queue's line, which ends with its
    connection: nothing is handed to a client that is gone. What was on its way when a client went
    is in the queue again where its system tells that it was not read. One that is killed after it
    has read an item, and before its program has it, takes it along: nobody can know.
    """

    def __init__(self, hosted: HostedQueue) -> None:
        self._hosted = hosted
        self._methods: dict[str, Callable[..., None]] = {
            **{name: getattr(self, f"_{name}") for name in STOCK_METHODS},
            **dict.fromkeys(("__repr__", "__str__", "#GETVALUE"), self._describe),
            "__getattribute__": self._attribute,
        }

    def call(self, asker: Asker, method: str, args: tuple[Any, ...], kwds: dict[str, Any]) -> None:
        """Answer a request, now or when there is something to answer; the item of a put is given
        as a frame."""
        asker.queues.add(self._hosted)
        function = self._methods.get(method)
        if function is None:
            known = ", ".join(STOCK_METHODS)
            asker.send(dump(("#TRACEBACK", f"a queue has no method {method!r}; it has: {known}")))
            return
        try:
            function(asker, *args, **kwds)
        except Exception as exc:
            self._answer(asker, Refused(exc))

    def _answer(self, asker: Asker, outcome: Outcome) -> None:
        self._hosted.answers.append((_StockCall(asker, self._hosted), outcome))

    def _put(self, asker: Asker, item: Data, block: bool = True, timeout: Any = None) -> None:
        # The standard library looks at the timeout of a put only where the queue has a bound.
        seconds = _seconds(block, timeout) if self._hosted.maxsize > 0 else None
        self._hosted.put([item], seconds, _StockCall(asker, self._hosted), owner=asker)

    def _get(self, asker: Asker, block: bool = True, timeout: Any = None) -> None:
        call = _StockCall(asker, self._hosted, _EMPTY_CLASS)
        self._hosted.receive(1, _seconds(block, timeout), call, owner=asker, lease=False)

    def _put_nowait(self, asker: Asker, item: Data) -> None:
        self._put(asker, item, False)

    def _get_nowait(self, asker: Asker) -> None:
        self._get(asker, False)

    def _task_done(self, asker: Asker) -> None:
        self._hosted.task_done()
        self._answer(asker, Returned(None))

    def _join(self, asker: Asker) -> None:
        self._hosted.join(None, _StockCall(asker, self._hosted), owner=asker)

    def _qsize(self, asker: Asker) -> None:
        self._answer(asker, Returned(self._hosted.qsize()))

    def _empty(self, asker: Asker) -> None:
        self._answer(asker, Returned(self._hosted.empty()))

    def _full(self, asker: Asker) -> None:
        self._answer(asker, Returned(self._hosted.full()))

    def _shutdown(self, asker: Asker, immediate: bool = False) -> None:
        self._hosted.shutdown(immediate)
        self._answer(asker, Returned(None))

    def _describe(self, asker: Asker) -> None:
        self._answer(asker, Returned(f"<hosted queue {self._hosted.name!r}>"))

    def _attribute(self, asker: Asker, name: str) -> None:
        if name not in STOCK_ATTRIBUTES:
            raise AttributeError(f"a queue has no attribute {name!r}")
        name = "unfinished" if name == "unfinished_tasks" else name
        self._answer(asker, Returned(getattr(self._hosted, name)))


def _seconds(block: bool, timeout: float | None) -> float | None:
    if not block:
        return 0
    if timeout is not None and timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")
    return timeout


def _is_small(delivery: tuple[int, int, Data]) -> bool:
    return type(delivery[2]) is bytes and len(delivery[2]) < BULK_SIZE


@dataclass(slots=True)  # frozen, it would take four times as long to make
class _Call:
    """A request of a client of ours that is to be answered."""

    owner: Asker
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

    def _deliver(self, deliveries: list[tuple[int, int, Data]]) -> bool:
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

    def call(self, owner: Asker, holder: Holder, request: Request, send: Send) -> None:
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


def _own(data: Data) -> Data:
    """A frame that may be kept as long as its item lives.

    A large one is a view of the message that it came in. Where it is the most of it, keeping the
    message costs less than a copy; where it is not, it would keep what others have settled.
    """
    if isinstance(data, bytes):
        return data
    view = memoryview(data)
    return view if 2 * view.nbytes > memoryview(view.obj).nbytes else bytes(view)
